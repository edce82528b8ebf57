"""What a cluster has, from what Slurm's programs print; the real ones are in tests/slurm."""

from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import slurm

NODES = """\
short 2 3900 idle 1:30:00
long* 64 257000 mix 7-00:00:00
long* 16 64000 alloc 7-00:00:00
long* 4 15000 down* 7-00:00:00
long* 2 15000 drng 7-00:00:00
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch) -> Path:
    """Stand-ins for sinfo and scontrol, which print what is in a file of their name."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, text in (("sinfo", NODES), ("scontrol", "AccountingStorageType = slurmdbd\n")):
        (tmp_path / f"{name}.txt").write_text(text)
        (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.txt\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_smallest_and_the_largest_node_that_are_up(programs, monkeypatch):
    assert slurm.cluster() == slurm.Cluster("long", 16, 64000, 257000, 7 * 24 * 60, True)
    assert slurm.cluster().status_command == "sacct"
    monkeypatch.setenv("SBATCH_PARTITION", "short")
    assert slurm.cluster() == slurm.Cluster("short", 2, 3900, 3900, 90, True)
    monkeypatch.setenv("SBATCH_PARTITION", "short,long")
    assert slurm.cluster() == slurm.Cluster("short,long", 2, 3900, 257000, 90, True)


def test_the_account_is_named_where_there_are_any(programs, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "gardeners")
    assert slurm.cluster().account == "gardeners"
    (programs / "scontrol.txt").write_text("AccountingStorageType   = accounting_storage/none\n")
    assert slurm.cluster().account == ""


def test_each_attempt_asks_for_more_up_to_what_there_is():
    def asked(request: str) -> list[int]:
        return [eval(request, {"attempt": attempt, "min": min}) for attempt in (1, 2, 3)]

    mixed = slurm.Cluster("mixed", 4, 3900, 257000, 90, True)
    assert asked(mixed.memory(2000)) == [2000, 4000, 8000]
    assert asked(mixed.runtime(60)) == [60, 90, 90]
    # Four in a row may not take longer together.
    assert asked(mixed.runtime(30, 4)) == [22, 22, 22]
    small = slurm.Cluster("small", 1, 1500, 2500, None, True)
    assert asked(small.memory(2000)) == [1500, 2500, 2500]
    assert asked(small.runtime(30, 4)) == [30, 60, 90]


def test_no_memory_is_asked_for_where_slurm_knows_none(programs):
    (programs / "sinfo.txt").write_text("long* 4 1 idle infinite\n")
    found = slurm.cluster()
    assert (found.memory_mb, found.largest_memory_mb, found.minutes) == (0, 0, None)
    assert eval(found.memory(2000), {"attempt": 3, "min": min}) == 0


def test_without_accounting(programs):
    (programs / "scontrol.txt").write_text("AccountingStorageType   = accounting_storage/none\n")
    assert slurm.cluster().status_command == "squeue"


def test_without_a_default_partition_the_partitions_are_named(programs):
    (programs / "sinfo.txt").write_text(NODES.replace("*", ""))
    with pytest.raises(UserError, match=r"no default partition.*long, short: export SBATCH_"):
        slurm.cluster()


def test_without_nodes(programs):
    (programs / "sinfo.txt").write_text("long* 4 15000 down* infinite\n")
    with pytest.raises(UserError, match=r"No node of the Slurm partition 'long' is up"):
        slurm.cluster()


def test_without_slurm(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sinfo was not found"):
        slurm.cluster()


def test_slurm_does_not_answer(programs):
    (programs / "sinfo").write_text("#!/bin/sh\necho 'Unable to contact controller' >&2; exit 1\n")
    with pytest.raises(UserError, match="Unable to contact controller"):
        slurm.cluster()
