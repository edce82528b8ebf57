"""The lists of packages say the same, and the library alone needs few of them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)\s*(?:;\s*(?P<marker>.+))?")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What importing the library may not load: everything that only the workflow needs.
HEAVY = (
    "ai_edge_litert",
    "jinja2",
    "jsonschema",
    "matplotlib",
    "pooch",
    "requests",
    "scipy",
    "sklearn",
    "snakemake",
    "tabulate",
    "tensorflow",
    "threadpoolctl",
    "yaml",
)


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
    [("retrain", ["workflow", "report"]), ("tensorflow", ["workflow", "tensorflow"])],
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
    for extra in PROJECT["optional-dependencies"].values():
        everything |= names(extra)
    assert everything <= set(required)
    assert not any("://" in line for line in lines)


def test_importing_the_library_loads_nothing_heavy():
    code = "import sys, edgetpu_retrain; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


# Refuses what the library's own dependencies do not bring, as if it were not installed.
WITHOUT_EXTRAS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ModuleNotFoundError("not installed: " + name, name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize(
    "code",
    [
        "import edgetpu_retrain.tflite.append_head, edgetpu_retrain.tflite.truncate",
        "import edgetpu_retrain.tflite.checks, edgetpu_retrain.tflite.raw_input",
        "import runpy; sys.argv = ['tflite', '--help'];"
        "runpy.run_module('edgetpu_retrain.tflite', run_name='__main__')",
        "import runpy; sys.argv = ['classify_image', '--help'];"
        "runpy.run_path('scripts/classify_image.py', run_name='__main__')",
        "from edgetpu_retrain import SoftmaxRegression;"
        "SoftmaxRegression(4, 2, seed=0).train_with_sgd({'data_train': [[0, 1, 2, 3]],"
        "'labels_train': [1]}, 10, 0.1)",
    ],
)
def test_the_library_alone_needs_no_extra(code: str):
    refused = set(HEAVY) - {"ai_edge_litert"}
    program = WITHOUT_EXTRAS.format(refused=refused) + code
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_public_workflow_calls_what_there_is():
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z-]+)", text))
    assert {"lint", "test"} <= called <= targets
    versions = next(
        job["strategy"]["matrix"]["python"] for job in jobs.values() if "strategy" in job
    )
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert versions == [f"3.{minor}" for minor in range(int(low), int(high))]
