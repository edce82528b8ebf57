"""The two commands of the README, as far as they can be run inside of a test."""

import os
import re
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
    assert done.stdout.startswith("Running the workflow on the sample")
    model = re.search(r"^(\S+\.tflite) \(.*, ([\d,]+) bytes\)$", done.stdout, re.MULTILINE)
    assert (project / model[1]).stat().st_size == int(model[2].replace(",", ""))
    accuracy = re.search(r"^Accuracy: ([\d.]+)% on \d+ test photos", done.stdout, re.MULTILINE)
    assert 88 <= float(accuracy[1]) <= 98
    assert "skipped.tsv lists" in done.stdout
    again = make(project, *READY, "demo")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert again.stdout == done.stdout


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


def test_what_is_installed_is_said_before_it_takes_long(project: Path, tmp_path: Path):
    python = tmp_path / "python"
    # A stand-in for an interpreter whose environments install nothing.
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\n'
        'mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "#!/bin/sh\necho pip" > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)
    done = make(project, f"PYTHON={python}", "VENV=.venv-said", ".venv-said/.installed")
    assert done.returncode == 0, done.stdout + done.stderr
    making, installing, *pip = done.stdout.splitlines()
    assert making.startswith(f"Creating .venv-said with Python 3.{sys.version_info.minor}")
    pinned = len((project / "requirements.txt").read_text().splitlines())
    assert installing.startswith(f"Installing {pinned} packages (")
    assert pip == ["pip", "pip"]
    light = make(project, f"PYTHON={python}", "VENV=.venv-light", "light")
    assert light.returncode == 0, light.stdout + light.stderr
    assert "without TensorFlow (400 MB" in light.stdout
    # The whole installation has all of it, and takes its place.
    assert (project / ".venv-light/.light").exists()
    make(project, f"PYTHON={python}", "VENV=.venv-light", ".venv-light/.installed")
    assert not (project / ".venv-light/.light").exists()
    again = make(project, f"PYTHON={python}", "VENV=.venv-light", "light")
    assert again.stdout == "Ready. Once per shell: source .venv-light/bin/activate\n"
