"""The lock of one run in a folder ends with the process that holds it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgetpu_retrain.workflow import locking

HOLD = (
    "import sys, time; from edgetpu_retrain.workflow import locking;"
    "held = locking.lock(sys.argv[1]); print('held' if held else 'refused', flush=True);"
    "time.sleep(600)"
)


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, tmp_path / "lock"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_one_process_at_a_time_holds_it(tmp_path: Path, holder):
    assert locking.lock(tmp_path / "lock") is None
    assert locking.lock(tmp_path / "another") is not None


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process(tmp_path: Path, holder, by):
    os.kill(holder.pid, by)
    holder.wait()
    assert locking.lock(tmp_path / "lock") is not None
    assert (tmp_path / "lock").exists()


def test_it_can_be_let_go(tmp_path: Path):
    first = locking.lock(tmp_path / "folder" / "lock")
    assert locking.lock(tmp_path / "folder" / "lock") is None
    first.close()
    assert locking.lock(tmp_path / "folder" / "lock") is not None


def test_a_file_system_without_locks_is_told_apart(tmp_path: Path, monkeypatch):
    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(locking.UnsupportedError, match="No locks available"):
        locking.lock(tmp_path / "lock")
