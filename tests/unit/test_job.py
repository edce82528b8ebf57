"""What a job shows and logs of an error, and how Ctrl-C ends it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Before the job's block its imports are under way, as far as Ctrl-C is concerned.
_SCRIPT = """
import sys, time
from pathlib import Path
from edgetpu_retrain import UserError, files, job

def wait():
    print("ready", flush=True)
    time.sleep(60)

if "{where}" == "importing":
    wait()
with job.run("job.log"), files.replacing("result") as temporary:
    temporary.write_text("half")
    {body}
"""


def start(folder: Path, body: str, where: str = "") -> subprocess.Popen[str]:
    script = folder / ".snakemake/scripts/tmp1.embed.py"
    script.parent.mkdir(parents=True)
    script.write_text(_SCRIPT.format(body=body, where=where))
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


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("Path('missing.tflite').read_bytes()", "missing.tflite: no such file or directory."),
        ("Path('.').read_bytes()", ".: is a directory."),
        ("Path('job.log').rename('none/job.log')", "job.log -> none/job.log: no such file"),
        ("raise OSError(28, 'No space left on device')", "the system says: no space left"),
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
