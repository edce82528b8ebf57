"""The workflow's jobs on a real Slurm of one node, against a local run of the same photos.

`make test-slurm` runs this; it starts and ends services, so other runs of the tests pass it over.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetpu_retrain import UserError, slurm
from tests.conftest import SHARED, copy_project, run_snakemake
from tests.slurm import one_node

FLOWERS = ("--configfile", "tests/config/flowers.yaml", "--config", "shards=6", "--")
SAMPLE = ("--config", "dataset=sample", "backbone=sample", "device=cpu", "shards=3", "--")
CONFIG = FLOWERS if SHARED.is_dir() else SAMPLE
# The profile as it stands, but asking Slurm more often than a shared cluster likes it.
OPTIONS = (
    *("--workflow-profile", "profiles/slurm", "--latency-wait", "10"),
    *("--slurm-init-seconds-before-status-checks", "3", "--seconds-between-status-checks", "5"),
)
PRODUCTS = ("retrained_model.tflite", "label_map.txt")


@pytest.fixture(scope="module", params=[1, 2], ids="{} CPU".format)
def node(request, tmp_path_factory) -> Iterator[int]:
    if not request.config.getoption("--slurm"):
        pytest.skip("starts services: make test-slurm")
    pytest.importorskip("snakemake_executor_plugin_slurm")
    folder = tmp_path_factory.mktemp("slurm") / "state"
    try:
        with one_node.slurm(folder, request.param):
            yield request.param
    except one_node.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """What a run without Slurm makes of the sample and of the flowers."""
    found = {}
    for config in {SAMPLE, CONFIG}:
        project = copy_project(tmp_path_factory.mktemp("local"))
        done = run_snakemake(project, *config, PRODUCTS[0])
        assert done.returncode == 0, done.stdout + done.stderr
        found[config] = {name: (project / name).read_bytes() for name in PRODUCTS}
    return found


def start(project: Path, config: tuple[str, ...]) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(project)}
    with open(project / "run.log", "wb") as log:
        return subprocess.Popen(
            ["snakemake", *OPTIONS, *config, PRODUCTS[0]],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=log,
        )


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


def test_a_job_killed_in_the_middle_changes_no_byte(node: int, local, tmp_path: Path):
    config = CONFIG if node == 2 else SAMPLE
    project = copy_project(tmp_path)
    run = start(project, config)
    if node == 2:
        kill_one_embedding_job(project, run)
    run.wait(timeout=900)
    printed = (project / "run.log").read_text()
    assert run.returncode == 0, printed
    for name, content in local[config].items():
        assert (project / name).read_bytes() == content
    submitted = [line for line in printed.splitlines() if "has been submitted" in line]
    # Shards are grouped; training is a job of its own; what takes moments is not submitted.
    assert 2 <= len(submitted) < 6, printed
    assert ("Trying to restart" in printed) == (node == 2)


def test_what_the_node_has(node: int, monkeypatch):
    found = slurm.cluster()
    assert found == slurm.Cluster(one_node.PARTITION, node, one_node.MEMORY, False)
    assert found.status_command == "squeue"
    monkeypatch.setenv("SBATCH_PARTITION", "birds")
    with pytest.raises(UserError, match=f"no partition 'birds'.*{one_node.PARTITION}"):
        slurm.cluster()
