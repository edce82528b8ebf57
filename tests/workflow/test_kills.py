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
from pathlib import Path

import pytest

from tests.conftest import (
    assert_user_error,
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
    """What a run has made, by name; without what tells how long that took, or when."""
    found = {name: (project / name).read_bytes() for name in KEPT}
    for path in (project / "results").rglob("[!.]*.*"):
        if path.suffix not in (".json", ".html") and path.name != "identities.tsv":
            found[str(path.relative_to(project))] = path.read_bytes()
    evaluation = json.loads((project / RESULTS / "evaluation.json").read_text())
    del evaluation["photos_per_second"]
    return found | {"evaluation": json.dumps(evaluation).encode()}


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


class Folder:
    """A folder of photos and settings that is as it was at first, or changed, and back."""

    def __init__(self, project: Path):
        self.project = project
        self.changed = False
        self._added = project / "photos/rose/added"

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
            training={"recipe": "imprinting" if self.changed else "optimum"},
        )


@pytest.fixture
def expected(quiet, sample_photos: Path, made: Path, tmp_path: Path) -> dict[bool, dict]:
    """What undisturbed runs make of the photos as they were at first, and changed."""
    folder = Folder(lay_out(tmp_path / "undisturbed", sample_photos, made))
    folder.change()
    done = run_snakemake(folder.project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return {False: quiet[1], True: products(folder.project)}


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
            assert products(project) == expected[folder.changed]
            folder.change()
            if chance.random() < 0.5:
                for path in (project / "results", project / "logs"):
                    shutil.rmtree(path)
                for name in KEPT[:3]:
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
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("The last run here was killed" in done.stderr) == (kills[-1][0] != "job")
    assert products(project) == expected[folder.changed]
    left = [path for path in project.glob("results/**/.*.part")]
    assert not left
    again = run_snakemake(project, TARGET)
    assert jobs_run(again) == []
    assert "was killed" not in again.stderr


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
    """Snakemake keeps what such a job would have updated, as if it had been."""
    configure(done_before, **change)
    shutil.copytree(done_before, tmp_path / "undisturbed", symlinks=True)
    done = run_snakemake(tmp_path / "undisturbed", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    kill_jobs(done_before, rule)
    done = run_snakemake(done_before, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rule in jobs_run(done)
    assert products(done_before) == products(tmp_path / "undisturbed")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a run's jobs in /proc")
def test_a_job_that_outlives_its_run_overwrites_nothing(done_before: Path, tmp_path: Path):
    configure(done_before, training={"recipe": "imprinting"})
    shutil.copytree(done_before, tmp_path / "undisturbed", symlinks=True)
    done = run_snakemake(tmp_path / "undisturbed", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    configure(done_before, training={"recipe": "coral"})
    first = start(done_before)
    left: list[int] = []
    while not left and first.poll() is None:
        left = [job for job in jobs_of(first) if scripts_of([job]) == ["train"]]
    # Imported and at work.
    log = done_before / "logs/photos/small/train.log"
    while not log.exists():
        time.sleep(0.005)
    time.sleep(0.05)
    os.kill(left[0], signal.SIGSTOP)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    configure(done_before, training={"recipe": "imprinting"})
    second = start(done_before)
    waiting = "Waiting for jobs of the last run"
    while second.poll() is None and waiting not in (done_before / "run.log").read_text():
        time.sleep(0.1)
    os.kill(left[0], signal.SIGCONT)
    assert second.wait(timeout=120) == 0, (done_before / "run.log").read_text()
    with contextlib.suppress(OSError):
        while Path(f"/proc/{left[0]}/cmdline").read_bytes():
            time.sleep(0.1)
    assert products(done_before) == products(tmp_path / "undisturbed")


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


def test_all_files_cut_short_at_random(done_before: Path):
    """What a run is asked for is made again of what is whole, its parts are made again."""
    chance = random.Random(0)
    results = sorted((done_before / RESULTS).rglob("*.*"))
    delivered = [done_before / name for name in (*KEPT[:3], "report.html")]
    contents = {path: path.read_bytes() for path in results + delivered if path.stat().st_size}
    for path, content in contents.items():
        path.write_bytes(content[: chance.randrange(len(content) - 1)])
    done = run_snakemake(done_before, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    for path, content in contents.items():
        assert f"{path.relative_to(done_before)} is damaged; it is made again" in done.stderr
        # The others hold how long it took, or when.
        if path.suffix not in (".json", ".html"):
            assert path.read_bytes() == content, path


def test_notes_of_snakemake_that_a_power_cut_left_empty(done_before: Path, tmp_path: Path):
    """It would take what they told of for made with the settings of now."""
    configure(done_before, training={"recipe": "imprinting"})
    shutil.copytree(done_before, tmp_path / "undisturbed", symlinks=True)
    done = run_snakemake(tmp_path / "undisturbed", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    for note in (done_before / ".snakemake/metadata").rglob("*"):
        note.write_bytes(b"")
    (done_before / ".snakemake/missed").write_bytes(b"")
    done = run_snakemake(done_before, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"What is known of {RESULTS}/head.npz is damaged" in done.stderr
    log = next((done_before / "logs/photos/small").glob("embed_0000*.log")).read_text()
    assert "0 photos embedded" in log
    assert products(done_before) == products(tmp_path / "undisturbed")
    assert jobs_run(run_snakemake(done_before, TARGET)) == []


def test_another_preprocessing_embeds_again_but_keeps_the_index(done_before: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(done_before))
    module = done_before / "edgetpu_retrain/preprocessing.py"
    module.write_text(re.sub("_VERSION = .*", "_VERSION = 99", module.read_text()))
    done = run_snakemake(done_before, "-n", TARGET)
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
        done = run_snakemake(project, TARGET)
        assert_user_error(done, "no space left on device")
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        done = run_snakemake(project, TARGET)
        assert done.returncode == 0, done.stdout + done.stderr
        assert products(project) == quiet[1]
    finally:
        subprocess.run(["umount", disk], check=True)


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
