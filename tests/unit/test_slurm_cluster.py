"""What a cluster has, from what Slurm's programs print; the real ones are in tests/slurm."""

from pathlib import Path

import pytest

from edgetpu_retrain import UserError, slurm

NODES = """\
short 2 3900 idle
long* 64 257000 mix
long* 16 64000 alloc
long* 4 15000 down*
long* 2 15000 drng
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


def test_the_smallest_node_that_is_up(programs, monkeypatch):
    assert slurm.cluster() == slurm.Cluster("long", 16, 64000, True)
    assert slurm.cluster().status_command == "sacct"
    monkeypatch.setenv("SBATCH_PARTITION", "short")
    assert slurm.cluster() == slurm.Cluster("short", 2, 3900, True)


def test_without_accounting(programs):
    (programs / "scontrol.txt").write_text("AccountingStorageType   = accounting_storage/none\n")
    assert slurm.cluster().status_command == "squeue"


def test_without_a_default_partition_the_partitions_are_named(programs):
    (programs / "sinfo.txt").write_text(NODES.replace("*", ""))
    with pytest.raises(UserError, match=r"no default partition.*SBATCH_PARTITION.*long, short"):
        slurm.cluster()


def test_without_nodes(programs):
    (programs / "sinfo.txt").write_text("long* 4 15000 down*\n")
    with pytest.raises(UserError, match=r"No node of Slurm's partition 'long' is up"):
        slurm.cluster()


def test_without_slurm(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sinfo is not found"):
        slurm.cluster()


def test_slurm_does_not_answer(programs):
    (programs / "sinfo").write_text("#!/bin/sh\necho 'Unable to contact controller' >&2; exit 1\n")
    with pytest.raises(UserError, match="Unable to contact controller"):
        slurm.cluster()
