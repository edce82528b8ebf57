"""The workflow's jobs on a real Slurm of one node, against a local run of the same photos.

`make test-slurm` runs this; it starts and ends services, so other runs of the tests pass it over.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import slurm
from tests.conftest import SHARED, copy_project, run_snakemake
from tests.slurm import one_node

FLOWERS = ("--configfile", "tests/config/flowers.yaml", "--config", "shards=6", "--")
SAMPLE = ("--config", "dataset=sample", "backbone=sample", "device=cpu", "shards=3", "--")
CONFIG = FLOWERS if SHARED.is_dir() else SAMPLE
# The same photos as if they were not sorted, in an archive beside an empty folder.
LABELLED = ("--config", "dataset=", "unlabelled=[sample/photos.zip, more]", *SAMPLE[2:])
TUNED = ("--config", "fine_tune={layers: 4}", *SAMPLE[1:])
# The profile as it stands, but for files that a node of this machine shows at once.
OPTIONS = ("--workflow-profile", "profiles/slurm", "--latency-wait", "10")
PRODUCTS = ("retrained_model.tflite", "label_map.txt")


@dataclass(frozen=True)
class Node:
    """How a Slurm is made."""

    cpus: int
    accounting: bool
    home: Path = field(default=Path(), compare=False)

    def __str__(self) -> str:
        return f"{self.cpus} CPU, {'with' if self.accounting else 'without'} accounting"


@pytest.fixture(scope="module", params=[Node(1, False), Node(2, False), Node(2, True)], ids=str)
def node(request, tmp_path_factory) -> Iterator[Node]:
    if not request.config.getoption("--slurm"):
        pytest.skip("starts services: make test-slurm")
    pytest.importorskip("snakemake_executor_plugin_slurm")
    folder = tmp_path_factory.mktemp("slurm") / "state"
    try:
        with one_node.slurm(folder, request.param.cpus, request.param.accounting) as home:
            yield replace(request.param, home=home)
    except one_node.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """What a run without Slurm makes of the sample, of the flowers, and of a fine-tuned network."""
    found = {}
    for config in {SAMPLE, CONFIG, TUNED}:
        project = copy_project(tmp_path_factory.mktemp("local"))
        done = run_snakemake(project, *config, PRODUCTS[0])
        assert done.returncode == 0, done.stdout + done.stderr
        found[config] = {name: (project / name).read_bytes() for name in PRODUCTS}
    return found


def start(project: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(project)} | environment
    with open(project / "run.log", "wb") as log:
        return subprocess.Popen(
            ["snakemake", *OPTIONS, *arguments, PRODUCTS[0]],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=log,
        )


def ended(project: Path, run: subprocess.Popen, expected: dict[str, bytes]) -> str:
    """What a run has printed; it ended well, with the bytes of a local run."""
    run.wait(timeout=900)
    printed = (project / "run.log").read_text()
    assert run.returncode == 0, printed
    for name, content in expected.items():
        assert (project / name).read_bytes() == content
    return printed


def jobs(node: Node) -> list[tuple[str, str, str]]:
    """The state of each job that ended, the memory that it asked for, and minutes or H:MM:SS."""
    command = ["squeue", "--states=all", "--noheader", "--sort=i", "--format=%T|%m|%l"]
    if node.accounting:
        command = ["sacct", "-X", "-n", "-P", "--format=State,ReqMem,TimelimitRaw"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [tuple(line.split("|")) for line in printed.splitlines()]


def kill_one_embedding_job(project: Path, run: subprocess.Popen) -> None:
    """Waits for a script that embeds on the node, and kills it."""
    while run.poll() is None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                where = (folder / "cwd").resolve()
            except OSError:
                continue
            if where == project and command.endswith(b"embed.py\0"):
                time.sleep(1)
                os.kill(int(folder.name), signal.SIGKILL)
                return
        time.sleep(0.05)
    raise AssertionError((project / "run.log").read_text())


def test_a_job_killed_in_the_middle_changes_no_byte(node: Node, local, tmp_path: Path):
    if node != Node(2, False):
        pytest.skip("runs with 2 CPUs, without accounting")
    project = copy_project(tmp_path)
    run = start(project, *CONFIG, HOME=str(node.home))
    kill_one_embedding_job(project, run)
    printed = ended(project, run, local[CONFIG])
    submitted = [line for line in printed.splitlines() if "has been submitted" in line]
    # Shards are grouped; training is a job of its own; what takes moments is not submitted.
    assert 2 <= len(submitted) < 6, printed
    assert "Trying to restart" in printed


def test_labels_do_what_folders_do(node: Node, local, tmp_path: Path):
    if node != Node(2, False):
        pytest.skip("runs with 2 CPUs, without accounting")
    project = copy_project(tmp_path)
    (project / "more").mkdir()
    with zipfile.ZipFile(project / "sample/photos.zip") as packed:
        lines = [
            f"{hashlib.sha256(packed.read(name)).hexdigest()}\t{Path(name).parent.name}\t\t\n"
            for name in packed.namelist()
            if not name.endswith("/")
        ]
    (project / "corrections.tsv").write_text("sha256\tclass\tpath\tnote\n" + "".join(lines))
    run = start(project, *LABELLED, HOME=str(node.home))
    assert "has been submitted" in ended(project, run, local[SAMPLE])
    # What jobs on the node have written down is what is expected here.
    again = ended(project, start(project, *LABELLED, HOME=str(node.home)), local[SAMPLE])
    assert "Nothing to be done" in again


def test_a_network_is_fine_tuned_on_the_node(node: Node, local, tmp_path: Path):
    if node != Node(2, False):
        pytest.skip("runs with 2 CPUs, without accounting")
    project = copy_project(tmp_path)
    run = start(project, *TUNED, HOME=str(node.home))
    assert "rule_fine_tune" in ended(project, run, local[TUNED])
    assert local[TUNED] != local[SAMPLE]


def test_one_cpu_and_jobs_that_may_not_take_long(node: Node, local, tmp_path: Path):
    if node != Node(1, False):
        pytest.skip("runs with 1 CPU")
    project = copy_project(tmp_path)
    run = start(project, *SAMPLE, HOME=str(node.home), SBATCH_PARTITION=one_node.SHORT)
    printed = ended(project, run, local[SAMPLE])
    assert "Trying to restart" not in printed
    # Three shards in one job, each a quarter of what a job may take.
    assert jobs(node) == [("COMPLETED", "2000M", "36:00"), ("COMPLETED", "2000M", "48:00")]


# In place of embedding, the first job takes too much memory and the second too much time.
DYING = """
import os, subprocess, time
for death in ("memory", "time"):
    try:
        os.mkdir(f"died_of_{death}")
    except FileExistsError:
        continue
    if death == "memory":
        held = b"x" * (2300 << 20)
    else:
        job = f"JobId={os.environ['SLURM_JOB_ID']}"
        subprocess.run(["scontrol", "update", job, "TimeLimit=1"], check=True)
    time.sleep(300)
"""


def test_jobs_that_die_of_memory_and_time_get_more(node: Node, local, tmp_path: Path):
    if not node.accounting:
        pytest.skip("runs with accounting")
    project = copy_project(tmp_path)
    script = project / "scripts/embed.py"
    script.write_text(DYING + script.read_text())
    # Two jobs of a CPU each.
    options = ("--max-threads", "1", "--group-components", "embed_{backbone}=2")
    run = start(project, *options, *SAMPLE, SBATCH_ACCOUNT=one_node.ACCOUNT)
    printed = ended(project, run, local[SAMPLE])
    assert "exceeded memory limit" in printed
    assert "DUE TO TIME LIMIT" in printed
    found = jobs(node)
    died = [job for job in found if job[0] != "COMPLETED"]
    # The second was given a minute when it ran.
    assert {state: memory for state, memory, _ in died} == {"FAILED": "2000M", "TIMEOUT": "2000M"}
    # Of a shard, and of two, 30 minutes each at first.
    again = {("COMPLETED", "4000M", "60"), ("COMPLETED", "4000M", "120")}
    assert set(found).difference(died) == again | {("COMPLETED", "2000M", "60")}
    accounts = subprocess.run(
        ["sacct", "-X", "-n", "-P", "--format=Account"], capture_output=True, text=True
    ).stdout
    assert set(accounts.split()) == {one_node.ACCOUNT}


def test_what_the_node_has(node: Node, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", one_node.ACCOUNT)
    found = slurm.cluster()
    account = one_node.ACCOUNT if node.accounting else ""
    memory = one_node.MEMORY
    assert found == slurm.Cluster(
        one_node.PARTITION, node.cpus, memory, memory, None, node.accounting, account
    )
    assert found.status_command == ("sacct" if node.accounting else "squeue")
    monkeypatch.setenv("SBATCH_PARTITION", f"{one_node.SHORT},{one_node.PARTITION}")
    assert slurm.cluster().minutes == one_node.SHORT_MINUTES
    monkeypatch.setenv("SBATCH_PARTITION", "birds")
    with pytest.raises(UserError, match=f"no partition 'birds'.*{one_node.PARTITION}"):
        slurm.cluster()
