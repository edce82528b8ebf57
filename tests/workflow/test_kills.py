"""A run killed at random moments, and what a fault leaves, end with the bytes of a quiet run."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import (
    configure,
    copy_project,
    jobs_run,
    lay_photos,
    run_in,
    run_snakemake,
    small_backbone,
)

TARGET = "retrained_model_edgetpu.tflite"
RESULTS = "results/photos/small"
KEPT = (TARGET, "retrained_model.tflite", "label_map.txt", f"{RESULTS}/head.npz")


def lay_out(folder: Path, sample_photos: Path, made: Path) -> Path:
    project = copy_project(folder)
    lay_photos(sample_photos, project / "photos", 6, ("daisy", "rose"))
    configure(project, dataset="photos", backbone=small_backbone(made), shards=2, device="cpu")
    return project


def products(project: Path) -> dict[str, bytes]:
    names = [*KEPT, *(f"{RESULTS}/embeddings/000{i}-of-0002.npz" for i in range(2))]
    return {name: (project / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def quiet(
    sample_photos: Path, made: Path, tmp_path_factory
) -> tuple[Path, dict[str, bytes], float]:
    """A project after an undisturbed run, what came of it, and the seconds that it took."""
    project = lay_out(tmp_path_factory.mktemp("quiet"), sample_photos, made)
    begin = time.monotonic()
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, products(project), time.monotonic() - begin


@pytest.fixture
def done_before(quiet, tmp_path: Path) -> Path:
    """A copy of the project after its run, times of files included."""
    shutil.copytree(quiet[0], tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def start(project: Path) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with open(project / "run.log", "ab") as log:
        return subprocess.Popen(
            ["snakemake", "--cores", "2", TARGET],
            cwd=project,
            env=os.environ | {"PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def jobs_of(run: subprocess.Popen) -> list[int]:
    """The processes that a run has started, by number."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The session's number is the sixth field; the name before it may hold anything.
            session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if session == run.pid and int(folder.name) != run.pid:
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a run's jobs in /proc")
def test_killed_at_random_moments(request, quiet, sample_photos, made, tmp_path: Path):
    _, expected, seconds = quiet
    project = lay_out(tmp_path, sample_photos, made)
    chance = random.Random(0)
    kills = {"all": 0, "run": 0, "job": 0}
    while sum(kills.values()) < request.config.getoption("--kills"):
        run = start(project)
        time.sleep(chance.uniform(0, 1.1 * seconds))
        whom = chance.choice(list(kills))
        if run.poll() is not None:
            # It was done before: once more, from the beginning or with the results of before.
            assert run.returncode == 0, (project / "run.log").read_text()
            assert products(project) == expected
            for path in (project / "results", project / "logs"):
                shutil.rmtree(path)
            for name in KEPT[:3]:
                (project / name).unlink()
            continue
        jobs = jobs_of(run)
        if whom == "all":
            os.killpg(run.pid, signal.SIGKILL)
        elif whom == "run":
            # Its jobs go on, into the next run.
            os.kill(run.pid, signal.SIGKILL)
        elif jobs:
            os.kill(chance.choice(jobs), signal.SIGKILL)
        run.wait(timeout=120)
        kills[whom] += 1
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert products(project) == expected
    left = [path for path in project.glob("results/**/.*.part")]
    assert not left
    again = run_snakemake(project, TARGET)
    assert jobs_run(again) == []


@pytest.mark.parametrize(
    "name",
    [
        f"{RESULTS}/embeddings/0001-of-0002.npz",
        "results/photos/shards/0001-of-0002.tsv",
        "results/photos/manifest.tsv",
        f"{RESULTS}/head.npz",
    ],
)
def test_a_file_cut_short_is_made_again(quiet, done_before: Path, name: str):
    path = done_before / name
    path.write_bytes(path.read_bytes()[:-20])
    done = run_snakemake(done_before, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name} is damaged; it is made again" in done.stdout + done.stderr
    # Only the embeddings that were cut; the other files come out as they were.
    assert jobs_run(done).count("embed") == (path.suffix == ".npz" and "of" in name)
    assert products(done_before) == quiet[1]


def test_another_preprocessing_embeds_again_but_keeps_the_index(done_before: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(done_before))
    module = done_before / "edgetpu_retrain/preprocessing.py"
    module.write_text(re.sub("_VERSION = .*", "_VERSION = 99", module.read_text()))
    done = run_snakemake(done_before, "-n", TARGET)
    assert jobs_run(done).count("embed") == 2
    assert "index" not in jobs_run(done)


def test_a_full_disk(quiet, sample_photos: Path, made: Path, tmp_path: Path):
    """A limit of the size of files makes writing fail as a full disk does."""
    project = lay_out(tmp_path, sample_photos, made)
    for kilobytes in (30, 200):
        command = f"trap '' XFSZ; ulimit -f {kilobytes}; exec snakemake --cores 2 {TARGET}"
        done = run_in(project, "bash", "-c", command)
        assert done.returncode != 0
        assert not (project / TARGET).exists()
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert products(project) == quiet[1]


def test_a_photo_that_changes_or_goes_in_the_middle(quiet, done_before: Path):
    photo = min((done_before / "photos/rose").iterdir())
    content = photo.read_bytes()
    shutil.rmtree(done_before / RESULTS)
    for name in KEPT[:3]:
        (done_before / name).unlink()
    for change in (lambda: photo.write_bytes(content + b"\0"), photo.unlink):
        # The listing is of before: as if the photo changed after it.
        change()
        done = run_snakemake(done_before, "--rerun-triggers", "mtime", "--", TARGET)
        assert done.returncode != 0
        assert photo.name in done.stdout + done.stderr
        assert "Run again" in done.stdout + done.stderr
    assert run_snakemake(done_before, TARGET).returncode == 0
    photo.write_bytes(content)
    assert run_snakemake(done_before, TARGET).returncode == 0
    assert products(done_before) == quiet[1]
