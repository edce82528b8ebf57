"""The lists of packages say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)\s*(?:;\s*(?P<marker>.+))?")


def pins(lines: list[str]) -> dict[str, str]:
    return {m["name"].lower(): m["version"] for line in lines if (m := PIN.fullmatch(line.strip()))}


@pytest.fixture
def required() -> dict[str, str]:
    return pins((ROOT / "requirements.txt").read_text().splitlines())


def direct() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"]}


def pip_packages(path: str) -> list[str]:
    dependencies = yaml.safe_load((ROOT / path).read_text())["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def test_conda_users_get_the_same_environment(required):
    lines = pip_packages("environment.yml")
    assert lines[:2] == ["-c requirements.txt", "-e ."]
    found = pins(lines[2:])
    assert len(found) == len(lines) - 2, "every package is pinned"
    assert set(found) == direct()
    assert found == {name: required[name] for name in found}


@pytest.mark.parametrize("name", ["retrain", "tensorflow"])
def test_rules_environments_have_the_same_versions(required, name):
    found = pins(pip_packages(f"workflow/envs/{name}.yaml"))
    assert len(found) == len(pip_packages(f"workflow/envs/{name}.yaml"))
    assert found == {name: required[name] for name in found}


def test_requirements_are_pinned_and_name_no_address():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert len(pins(lines)) == len(lines)
    assert direct() <= set(pins(lines))
    assert not any("://" in line for line in lines)
