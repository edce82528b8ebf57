"""A run killed at random moments, and what a fault leaves, end with the bytes of a quiet run."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import (
    assert_user_error,
    configure,
    copy_project,
    empty_notes,
    jobs_run,
    lay_photos,
    run_in,
    run_snakemake,
    small_backbone,
)

TARGET = "retrained_model_edgetpu.tflite"
BACKBONE = "results/photos/small"
RESULTS = f"{BACKBONE}/optimum"
DELIVERED = (TARGET, "retrained_model.tflite", "label_map.txt", "report.html")


def lay_out(folder: Path, sample_photos: Path, made: Path) -> Path:
    project = copy_project(folder)
    lay_photos(sample_photos, project / "photos", 6, ("daisy", "rose"))
    configure(project, dataset="photos", backbone=small_backbone(made), shards=2, device="cpu")
    return project


def results_of(project: Path, recipe: str) -> Iterator[Path]:
    """All that lies in results, but for what is kept of other recipes."""
    for path in (project / "results").rglob("*"):
        parts = (
            path.relative_to(project / BACKBONE).parts if project / BACKBONE in path.parents else ()
        )
        if not (path.is_dir() or (len(parts) == 2 and parts[0] not in ("embeddings", recipe))):
            yield path


def products(project: Path, recipe: str = "optimum") -> dict[str, bytes]:
    """What a run has made, by name; without what tells how long that took, or when."""
    found = {name: (project / name).read_bytes() for name in DELIVERED[:3]}
    for path in results_of(project, recipe):
        name = path.relative_to(project)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and path.suffix not in (".json", ".html"):
            found[str(name)] = path.read_bytes()
    evaluation = json.loads((project / BACKBONE / recipe / "evaluation.json").read_text())
    del evaluation["photos_per_second"]
    return found | {"evaluation": json.dumps(evaluation).encode()}


@pytest.fixture(scope="module")
def quiet(
    sample_photos: Path, made: Path, tmp_path_factory
) -> tuple[Path, dict[str, bytes], float]:
    """A project after an undisturbed run, what came of it, and the seconds that it took."""
    project = lay_out(tmp_path_factory.mktemp("quiet"), sample_photos, made)
    begin = time.monotonic()
    done = run_snakemake(project)
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
            ["snakemake", "--cores", "2"],
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


class Folder:
    """A folder of photos and settings that is as it was at first, or changed, and back."""

    def __init__(self, project: Path):
        self.project = project
        self.changed = False
        self._added = project / "photos/rose/added"

    @property
    def recipe(self) -> str:
        return "imprinting" if self.changed else "optimum"

    def products(self) -> dict[str, bytes]:
        return products(self.project, self.recipe)

    def change(self) -> None:
        """Adds photos and changes settings of several stages, or takes that back."""
        self.changed = not self.changed
        if self.changed:
            self._added.mkdir()
            for path in sorted((self.project / "photos/daisy").iterdir())[:2]:
                (self._added / path.name).write_bytes(path.read_bytes() + b"another photo")
        else:
            shutil.rmtree(self._added)
        configure(
            self.project,
            resize="nearest" if self.changed else "bilinear",
            split={"test": 0.3 if self.changed else 0.1, "validation": 0.1},
            training={"recipe": self.recipe},
        )


@pytest.fixture
def expected(quiet, sample_photos: Path, made: Path, tmp_path: Path) -> dict[bool, dict]:
    """What undisturbed runs make of the photos as they were at first, and changed."""
    folder = Folder(lay_out(tmp_path / "undisturbed", sample_photos, made))
    folder.change()
    done = run_snakemake(folder.project)
    assert done.returncode == 0, done.stdout + done.stderr
    return {False: quiet[1], True: folder.products()}


def scripts_of(jobs: list[int]) -> list[str]:
    """The rules whose scripts some processes execute."""
    found = []
    for job in jobs:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{job}/cmdline").read_bytes().split(b"\0")
            found += [name.split(b".")[-2].decode() for name in command if name.endswith(b".py")]
    return found


def wait_for_a_moment(run: subprocess.Popen, chance: random.Random, seconds: float) -> None:
    """Waits for any moment of a run, or for one within a script, however short it is."""
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, 1.1 * seconds))
        return
    scripts = chance.randrange(1, 10)
    seen: set[int] = set()
    while run.poll() is None and len(seen) < scripts:
        seen |= {job for job in jobs_of(run) if scripts_of([job])}
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.4))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a run's jobs in /proc")
def test_killed_at_random_moments(request, quiet, expected, sample_photos, made, tmp_path: Path):
    project = lay_out(tmp_path, sample_photos, made)
    folder = Folder(project)
    chance = random.Random(0)
    kills: list[tuple[str, str]] = []
    while len(kills) < request.config.getoption("--kills"):
        run = start(project)
        wait_for_a_moment(run, chance, quiet[2])
        whom = chance.choice(("all", "run", "job"))
        if run.poll() is not None:
            # It was done before: the next begins with other photos, with or without results.
            assert run.returncode == 0, (project / "run.log").read_text()
            assert folder.products() == expected[folder.changed]
            folder.change()
            if chance.random() < 0.5:
                for path in (project / "results", project / "logs"):
                    shutil.rmtree(path)
                for name in DELIVERED:
                    (project / name).unlink()
            continue
        jobs = jobs_of(run)
        if whom == "job" and not jobs:
            whom = "all"
        stage = "+".join(sorted(scripts_of(jobs))) or "between"
        if whom == "all":
            os.killpg(run.pid, signal.SIGKILL)
        elif whom == "run":
            # Its jobs go on, into the next run.
            os.kill(run.pid, signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(jobs), signal.SIGKILL)
        run.wait(timeout=120)
        kills.append((whom, stage))
        (project / "run.log").write_bytes(b"")
        if chance.random() < 0.15:
            folder.change()
    for (whom, stage), count in sorted(Counter(kills).items()):
        print(f"{count} kills of {whom} in {stage}")
    done = run_snakemake(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert folder.products() == expected[folder.changed]
    assert not [path for path in results_of(project, folder.recipe) if path.suffix == ".part"]
    assert jobs_run(run_snakemake(project)) == []


def undisturbed(project: Path, folder: Path, recipe: str = "optimum") -> dict[str, bytes]:
    """What a run makes in a copy of a project."""
    copy = shutil.copytree(project, folder / "undisturbed", symlinks=True)
    done = run_snakemake(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    return products(copy, recipe)


def kill_jobs(project: Path, rule: str) -> None:
    """Runs the workflow and kills whatever executes a rule's script, not the run."""
    run = start(project)
    killed = 0
    while run.poll() is None:
        for job in jobs_of(run):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{job}/cmdline").read_bytes().endswith(f"{rule}.py\0".encode()):
                    os.kill(job, signal.SIGKILL)
                    killed += 1
        time.sleep(0.005)
    assert killed
    assert run.returncode != 0, (project / "run.log").read_text()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a run's jobs in /proc")
@pytest.mark.parametrize(
    ("rule", "change"),
    [("index", {"split": {"test": 0.4, "validation": 0}}), ("embed", {"resize": "nearest"})],
)
def test_a_job_killed_after_a_change_is_done_again(
    done_before: Path, tmp_path: Path, rule: str, change: dict
):
    configure(done_before, **change)
    expected = undisturbed(done_before, tmp_path)
    kill_jobs(done_before, rule)
    done = run_snakemake(done_before)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rule in jobs_run(done)
    assert products(done_before) == expected


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a run's jobs in /proc")
def test_a_job_that_outlives_its_run_overwrites_nothing(done_before: Path, tmp_path: Path):
    configure(done_before, training={"recipe": "coral"}, seed=2)
    expected = undisturbed(done_before, tmp_path, "coral")
    configure(done_before, seed=1)
    first = start(done_before)
    left: list[int] = []
    while not left and first.poll() is None:
        left = [job for job in jobs_of(first) if scripts_of([job]) == ["train"]]
    # Imported and at work.
    log = done_before / "logs/photos/small/coral/train.log"
    while not log.exists():
        time.sleep(0.005)
    time.sleep(0.05)
    os.kill(left[0], signal.SIGSTOP)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    configure(done_before, seed=2)
    second = start(done_before)
    waiting = "Waiting for jobs of the last run"
    while second.poll() is None and waiting not in (done_before / "run.log").read_text():
        time.sleep(0.1)
    os.kill(left[0], signal.SIGCONT)
    assert second.wait(timeout=120) == 0, (done_before / "run.log").read_text()
    with contextlib.suppress(OSError):
        while Path(f"/proc/{left[0]}/cmdline").read_bytes():
            time.sleep(0.1)
    assert products(done_before, "coral") == expected


def cut(path: Path) -> None:
    """As a fault of the disk does, which leaves the file's time."""
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-20])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_cut_short_is_named(quiet, done_before: Path):
    """By the job that reads it; deleted, it comes out as it was."""
    shard = f"{BACKBONE}/embeddings/0001-of-0002.npz"
    for name, missing in (
        # Each further ahead than the one before, of which all behind it is made again.
        ("results/.delivered/edgetpu.json", "retrained_model.tflite"),
        (f"{RESULTS}/evaluation.json", f"{RESULTS}/confusion_matrix.png"),
        (f"{RESULTS}/head.npz", f"{RESULTS}/retrained_model.tflite"),
        (shard, f"{RESULTS}/head.npz"),
        ("results/photos/shards/0001-of-0002.tsv", shard),
    ):
        cut(done_before / name)
        (done_before / missing).unlink(missing_ok=True)
        done = run_snakemake(done_before)
        assert_user_error(done, f"Error: {name} is damaged", "Delete it and run again.")
        (done_before / name).unlink()
    done = run_snakemake(done_before)
    assert done.returncode == 0, done.stdout + done.stderr
    assert products(done_before) == quiet[1]
    # A model that is current is not looked at, but the figures are.
    cut(done_before / RESULTS / "evaluation.json")
    done = run_snakemake(done_before)
    assert jobs_run(done) == []
    assert f"{RESULTS}/evaluation.json is damaged" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def delete_notes(project: Path) -> None:
    shutil.rmtree(project / ".snakemake")


@pytest.mark.parametrize("lose", [empty_notes, delete_notes])
def test_without_snakemake_s_notes_changes_are_noticed_all_the_same(
    done_before: Path, tmp_path: Path, lose
):
    project = shutil.copytree(done_before, tmp_path / "changed", symlinks=True)
    Folder(project).change()
    expected = undisturbed(project, tmp_path, "imprinting")
    lose(done_before)
    assert jobs_run(run_snakemake(done_before)) == []
    Folder(done_before).change()
    lose(done_before)
    done = run_snakemake(done_before)
    assert done.returncode == 0, done.stdout + done.stderr
    assert products(done_before, "imprinting") == expected
    assert jobs_run(run_snakemake(done_before)) == []


def test_another_preprocessing_embeds_again_but_keeps_the_index(done_before: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(done_before))
    module = done_before / "edgetpu_retrain/photos/preprocessing.py"
    module.write_text(re.sub("_VERSION = .*", "_VERSION = 99", module.read_text()))
    done = run_snakemake(done_before, "-n")
    assert jobs_run(done).count("embed") == 2
    assert "index" not in jobs_run(done)


@pytest.mark.parametrize("kilobytes", [120, 760])
def test_a_small_disk(quiet, sample_photos: Path, made: Path, tmp_path: Path, kilobytes: int):
    """On which so much is left, so that the logs and Snakemake's notes cannot be written either."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "none", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to be root, to mount a small disk")
    try:
        project = lay_out(disk / "a", sample_photos, made)
        used = shutil.disk_usage(disk).used // 1024
        small = f"remount,size={used + kilobytes}k"
        subprocess.run(["mount", "-o", small, disk], check=True)
        done = run_snakemake(project)
        assert_user_error(done, "no space left on device")
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        done = run_snakemake(project)
        assert done.returncode == 0, done.stdout + done.stderr
        assert products(project) == quiet[1]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk(quiet, sample_photos: Path, made: Path, tmp_path: Path):
    """A limit of the size of files makes writing fail as a full disk does."""
    project = lay_out(tmp_path, sample_photos, made)
    for kilobytes in (30, 200):
        command = f"trap '' XFSZ; ulimit -f {kilobytes}; exec snakemake --cores 2"
        done = run_in(project, "bash", "-c", command)
        assert done.returncode != 0
        assert not (project / TARGET).exists()
    done = run_snakemake(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert products(project) == quiet[1]


@pytest.mark.parametrize("rule", ["index", "embed"])
def test_a_photo_that_changes_or_goes_in_the_middle(quiet, done_before: Path, rule: str):
    """Once a job has started, after the photos were listed."""
    photo = min((done_before / "photos/rose").iterdir())
    content = photo.read_bytes()
    shutil.rmtree(done_before / "results")
    script = done_before / f"scripts/{rule}.py"
    text = script.read_text()
    path = f"__import__('pathlib').Path({str(photo)!r})"
    for change in (f"{path}.write_bytes(b'\\xff\\xd8\\xff another photo')", f"{path}.unlink()"):
        script.write_text(f"{change}\n{text}")
        assert_user_error(run_snakemake(done_before), "Run again.")
        photo.write_bytes(content)
    script.write_text(text)
    done = run_snakemake(done_before)
    assert done.returncode == 0, done.stdout + done.stderr
    assert products(done_before) == quiet[1]
