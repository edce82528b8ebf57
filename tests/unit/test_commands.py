"""Commands that are shown can be typed, and work on what the user's own command works on."""

import os
import sys
from pathlib import Path

import pytest

from edgetpu_retrain.workflow import commands


@pytest.fixture(autouse=True)
def active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["--cores", "4", "-n", "all"], []),
        (
            ["--cores", "2", "--config", "dataset=my birds", "seed=1", "--", "bundle"],
            ["--config", "dataset=my birds", "seed=1"],
        ),
        # --config goes last, so that a setting can be added.
        (
            ["-C", "seed=1", "--directory", "work", "-c", "2", "--configfile", "a.yaml", "b.yaml"],
            ["--directory", "work", "--configfile", "a.yaml", "b.yaml", "-C", "seed=1"],
        ),
        (
            ["--directory=work", "--config=seed=1", "-n"],
            ["--directory", "work", "--config", "seed=1"],
        ),
        # One value; what follows is a target.
        (["-d", "work", "bundle", "-c2"], ["-d", "work"]),
        (["--workflow-profile", "profiles/slurm"], ["--workflow-profile", "profiles/slurm"]),
    ],
)
def test_the_user_s_options_are_kept(arguments: list[str], expected: list[str]):
    assert commands.snakemake(arguments) == ["snakemake", "--cores", "all", *expected]


def test_targets_are_kept():
    assert commands.targets(["--config", "a=b", "--", "bundle", "x.html"]) == ["bundle", "x.html"]
    assert commands.targets(["--config", "a=b"]) == []


def test_without_an_active_environment_the_program_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("VIRTUAL_ENV")
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    assert commands.program("snakemake") == str(Path(sys.executable).with_name("snakemake"))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python3"))
    assert commands.program("python") == os.path.join(".venv", "bin", "python")
    # Started elsewhere, with --directory.
    monkeypatch.setenv("PWD", "/")
    assert commands.program("python") == str(tmp_path / ".venv/bin/python")
