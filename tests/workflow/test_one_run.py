"""One run at a time works in a folder; looking at it is always allowed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stand_ins
from tests.conftest import (
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
)

TARGET = "retrained_model_edgetpu.tflite"
SENTENCE = "Another run is working in this folder. Wait until it has ended."
LOOKING = (
    ("-n",),
    ("-n", "--", TARGET),
    ("--summary",),
    ("--dag", "dot"),
    ("--rulegraph", "dot"),
    ("--list",),
    ("--lint",),
)


@pytest.fixture
def go(project: Path, sample_photos: Path, made: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder where a run stops, once it compiles, until this file is there."""
    program = stand_ins.edgetpu_compiler(tmp_path / "bin")
    waiting = program.with_name("waiting")
    wait = (
        "import sys, time\nfrom pathlib import Path\n"
        f"Path({str(waiting)!r}).touch()\n"
        f"while not Path({str(tmp_path / 'go')!r}).exists():\n    time.sleep(0.05)\n"
    )
    program.write_text(program.read_text().replace("import sys\n", wait, 1))
    lay_photos(sample_photos, project / "photos", 12, ("daisy", "rose"))
    backbone = {"name": "small", "extractor": str(made / "extractor.tflite")}
    configure(
        project, dataset="photos", backbone=backbone, shards=1, compiler={"path": str(program)}
    )
    yield tmp_path / "go"
    # The stand-in outlives the run that started it, if that was killed.
    (tmp_path / "go").touch()


@pytest.fixture
def start(project: Path) -> Iterator:
    """Starts Snakemake in the project and goes on."""
    running = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        folder = Path(sys.executable).parent
        process = subprocess.Popen(
            # A run that waits in a job does nothing else meanwhile.
            [folder / "snakemake", "--cores", "1", *arguments], cwd=project, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip
        running.append(process)
        return process

    yield start_one
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition, process: subprocess.Popen[str]) -> None:
    """Waits for something that a process does; it ends if the process does."""
    deadline = time.monotonic() + 300
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition(), process.communicate()[0]


def ended(process: subprocess.Popen[str]) -> str:
    """What a process that ended well has printed."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def files_of(project: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file, but for Snakemake's own and those of Python."""
    found = {}
    for path in project.rglob("*"):
        name = path.relative_to(project)
        if path.is_file() and not {".snakemake", "__pycache__"} & set(name.parts):
            found[str(name)] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


def test_a_second_run_ends_with_a_sentence_and_looking_changes_nothing(
    go: Path, project: Path, snakemake: Snakemake, start
):
    """Looking before, during and after a run; in the middle of it comes another run."""
    before = files_of(project)
    assert snakemake("-n", "--", TARGET).returncode == 0
    # One that is looking since before the run has started.
    looking = start("-n", "--", TARGET)
    looking.stdout.readline()
    os.killpg(looking.pid, signal.SIGSTOP)
    assert files_of(project) == before
    first = start(TARGET)
    until((go.parent / "bin/waiting").exists, first)
    during = files_of(project)
    os.killpg(looking.pid, signal.SIGCONT)
    printed = [ended(process) for process in [looking, *map(lambda one: start(*one), LOOKING)]]
    assert "compile" in printed[0]
    assert files_of(project) == during
    for targets in ([], ["--", TARGET]):
        second = snakemake(*targets)
        assert_user_error(second, SENTENCE)
        assert jobs_run(second) == []
        assert files_of(project) == during
    go.touch()
    ended(first)
    assert "Nothing to be done" in (done := snakemake(TARGET)).stdout + done.stderr
    assert snakemake().returncode == 0
    after = files_of(project)
    report = start("--report", str(go.parent / "report.html"))
    printed = [ended(process) for process in [report, *map(lambda one: start(*one), LOOKING)]]
    assert "Nothing to be done" in printed[1]
    assert (go.parent / "report.html").is_file()
    assert files_of(project) == after


def test_after_a_run_that_was_killed_the_next_goes_on(
    go: Path, project: Path, snakemake: Snakemake, start
):
    first = start(TARGET)
    until((go.parent / "bin/waiting").exists, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    # Two that start at once: one of them works, the other says so or finds the work done.
    go.touch()
    runs = [start(TARGET), start(TARGET)]
    printed = [run.communicate(timeout=300)[0] for run in runs]
    assert 0 in [run.returncode for run in runs], printed
    for run, text in zip(runs, printed, strict=True):
        assert run.returncode == 0 or SENTENCE in text, text
        assert "Traceback" not in text
        assert "--unlock" not in text
    assert jobs_run(snakemake("-n", "--", TARGET)) == []
    assert (project / TARGET).is_file()
