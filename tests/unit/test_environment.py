"""The lists of packages say the same."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)\s*(?:;\s*(?P<marker>.+))?")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lines: list[str]) -> dict[str, str]:
    return {m["name"].lower(): m["version"] for line in lines if (m := PIN.fullmatch(line.strip()))}


@pytest.fixture
def required() -> dict[str, str]:
    return pins((ROOT / "requirements.txt").read_text().splitlines())


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower() for line in requirements}


def pip_packages(path: Path) -> list[str]:
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def test_conda_users_get_the_same_environment():
    assert pip_packages(ROOT / "environment.yml") == ["-r requirements.txt", "-e ."]


@pytest.mark.parametrize(
    ("name", "extras"),
    [("retrain", ["workflow", "quantize", "report"]), ("tensorflow", ["workflow", "tensorflow"])],
)
def test_rules_environments_have_what_is_needed_in_the_same_versions(required, name, extras):
    lines = pip_packages(ROOT / f"workflow/envs/{name}.yaml")
    found = pins(lines)
    assert len(found) == len(lines)
    assert found == {package: required[package] for package in found}
    wanted = names(PROJECT["dependencies"])
    for extra in extras:
        wanted |= names(PROJECT["optional-dependencies"][extra])
    assert set(found) == wanted - {"snakemake"}


def test_rules_environments_are_as_make_lock_writes_them(tmp_path: Path):
    script = ROOT / "workflow/envs/generate.py"
    subprocess.run([sys.executable, script, "--output", tmp_path], check=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in script.parent.glob("*.yaml"))
    for name in made:
        assert (tmp_path / name).read_text() == (script.parent / name).read_text()


def test_requirements_are_pinned_and_name_no_address(required):
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert len(required) == len(lines)
    everything = names(PROJECT["dependencies"])
    for name, extra in PROJECT["optional-dependencies"].items():
        # The one slows every start of Snakemake; the other has an environment of its own.
        if name not in ("slurm", "docs"):
            everything |= names(extra)
    assert everything <= set(required)
    assert not any("://" in line for line in lines)


def test_packages_for_arm_are_those_that_a_raspberry_pi_installs(required):
    """No registry is asked here; the script does that every week."""
    script = runpy.run_path(str(ROOT / ".github/check_arm_wheels.py"))
    for python in script["PYTHONS"]:
        wanted = {one.name.lower() for one in script["pins"](python)}
        assert {"numpy", "snakemake", "tensorflow"} <= wanted <= set(required)
        assert not wanted & {"tensorflow-cpu", "colorama"}
        assert python in str(PROJECT["classifiers"])
    assert script["SOURCE_ONLY"] <= wanted
    jobs = yaml.safe_load((ROOT / ".github/workflows/arm-wheels.yml").read_text())["jobs"]
    commands = [step.get("run") for step in jobs["arm-wheels"]["steps"]]
    assert "python .github/check_arm_wheels.py" in commands


def test_the_public_workflow_calls_what_there_is():
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    called = set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z-]+)", text))
    assert {"lint", "test"} <= called <= targets
    listed = re.search(r"^LIBRARY_TESTS := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)[1]
    for name in listed.replace("\\", "").split():
        assert (ROOT / f"tests/unit/test_{name}.py").is_file()
    versions = jobs["test"]["strategy"]["matrix"]["python"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert versions == [f"3.{minor}" for minor in range(int(low), int(high))]
