"""The two commands of the README, as far as they can be run inside of a test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, copy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    project = copy_project(tmp_path_factory.mktemp("make"))
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    return project


def make(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


# The environment that runs this test, with nothing to install.
READY = (f"VENV={sys.prefix}", "INSTALLED=")


def test_the_demo_ends_with_its_results_and_does_nothing_twice(project: Path):
    done = make(project, *READY, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    model, accuracy, picture = done.stdout.splitlines()[-3:]
    path = model.removeprefix("Model: ").partition(" ")[0]
    assert f"({(project / path).stat().st_size:,} bytes)" in model
    assert accuracy.startswith("Test accuracy: ")
    assert float(accuracy.split()[2].rstrip("%")) >= 90
    assert (project / picture.removeprefix("Confusion matrix: ")).is_file()
    again = make(project, *READY, "demo")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert again.stdout.splitlines()[-3:] == done.stdout.splitlines()[-3:]


def test_a_python_that_is_too_old_is_named(project: Path, tmp_path: Path):
    python = tmp_path / "python"
    # A stand-in for an interpreter of another version.
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    python.chmod(0o755)
    done = make(project, f"PYTHON={python}", "VENV=.venv-new", "demo")
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stdout
    assert "Python 3.9.2" in done.stdout
    assert not (project / ".venv-new").exists()
