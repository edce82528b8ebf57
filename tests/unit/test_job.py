"""What a job shows and logs of an error, how it ends, and what it leaves for the next run."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgetpu_retrain.workflow import job, locking

# Before the job's block its imports are under way, as far as Ctrl-C is concerned.
_SCRIPT = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files, program
from edgetpu_retrain.workflow import job

snakemake = SimpleNamespace(
    log=["job.log"],
    output=SimpleNamespace(fingerprint="results/.made"),
    params=SimpleNamespace(fingerprint="0123"),
)

def wait():
    print("ready", flush=True)
    time.sleep(60)

if "{where}" == "importing":
    wait()
with {context}, files.replacing("result") as temporary:
    temporary.write_text("half")
    {body}
"""


def start(
    folder: Path, body: str, where: str = "", context: str = "job.run(snakemake)"
) -> subprocess.Popen[str]:
    script = folder / ".snakemake/scripts/tmp1.embed.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_SCRIPT.format(body=body, where=where, context=context))
    return subprocess.Popen(
        [sys.executable, script], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell's background jobs, and what they start, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.parametrize("where", ["importing", "working"])
def test_ctrl_c_ends_a_job_without_a_word(tmp_path: Path, where: str):
    process = start(tmp_path, "wait()", where)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert shown == ""
    assert process.returncode == (130 if where == "working" else -signal.SIGINT)
    # What was begun is cleaned up.
    assert [path.name for path in tmp_path.iterdir() if "result" in path.name] == []
    assert job.read_fingerprint(tmp_path / "results/.made") is None


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("Path('missing.tflite').read_bytes()", "missing.tflite: no such file or directory."),
        ("Path('.').read_bytes()", ".: is a directory."),
        ("Path('job.log').rename('none/job.log')", "job.log -> none/job.log: no such file"),
        ("raise OSError(28, 'No space left on device')", "system error: no space left"),
        ("raise OSError('the disk is gone')", "the disk is gone"),
    ],
)
def test_an_error_of_the_system_is_a_sentence_and_its_traceback_is_logged(
    tmp_path: Path, body: str, sentence: str
):
    process = start(tmp_path, body)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 1
    assert shown.startswith(f"Error: {sentence}")
    assert shown.count("\n") == 1
    assert "Traceback" in (tmp_path / "job.log").read_text()


def test_a_mistake_of_the_user_has_no_traceback_and_a_defect_has(tmp_path: Path):
    process = start(tmp_path / "one", "raise UserError('do this')")
    assert process.communicate(timeout=30)[1] == "Error: do this\n"
    process = start(tmp_path / "two", "raise ZeroDivisionError")
    assert "Traceback" in process.communicate(timeout=30)[1]


def test_what_is_complete_carries_its_fingerprint(tmp_path: Path):
    process = start(tmp_path, "pass")
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0
    assert (tmp_path / "result").read_text() == "half"
    assert job.read_fingerprint(tmp_path / "results/.made") == "0123"


@pytest.mark.parametrize(
    "body", ["raise UserError('no')", "raise OSError(28, 'x')", "1 / 0", "sys.exit(0)"]
)
def test_what_fails_carries_none(tmp_path: Path, body: str):
    start(tmp_path, body).communicate(timeout=30)
    assert not (tmp_path / "results").exists()


def test_outputs_without_a_fingerprint_get_none(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with job.run(SimpleNamespace(log=None, output=SimpleNamespace(), params=None)):
        Path("compiler").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["compiler"]


def test_what_is_no_fingerprint_is_none(tmp_path: Path):
    (tmp_path / "damaged").write_bytes(b"\xff\x00")
    for name in ("missing", ".", "damaged", "damaged/.made"):
        assert job.read_fingerprint(tmp_path / name) is None


@pytest.fixture
def at_work(tmp_path: Path):
    """Starts a job that goes on until it is killed, and returns it once it is at work."""
    processes = []

    def begin(context: str) -> subprocess.Popen[str]:
        processes.append(start(tmp_path, "wait()", context=context))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_a_run_can_wait_for_the_jobs_of_one_that_was_killed(tmp_path: Path, at_work):
    lock = tmp_path / job.ACTIVE_JOBS_LOCK
    jobs = [at_work("job.run(snakemake)"), at_work("job.run(snakemake)")]
    # They do not wait for one another.
    assert [process.poll() for process in jobs] == [None, None]
    for process in jobs:
        assert locking.lock(lock) is None
        process.kill()
        process.wait()
    assert locking.lock(lock) is not None


def test_a_command_that_is_no_job_holds_up_no_run(tmp_path: Path, at_work):
    at_work("program.run('job.log')")
    assert locking.lock(tmp_path / job.ACTIVE_JOBS_LOCK) is not None
