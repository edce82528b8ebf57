"""What the package needs, what it loads when, and what its wheel holds."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, copy_project

# What the workflow, its report and frozen graphs need beyond the library.
HEAVY = {
    *(
        "flask",
        "waitress",
        "jinja2",
        "matplotlib",
        "pooch",
        "pydantic",
        "requests",
        "scipy",
        "sklearn",
        "snakemake",
    ),
    *("tabulate", "tensorflow", "threadpoolctl", "yaml"),
}


def loaded(code: str, *arguments: str | Path) -> set[str]:
    """Which packages a program has loaded when it ends."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy():
    names = loaded("import edgetpu_retrain")
    assert not names & (HEAVY | {"numpy", "PIL", "ai_edge_litert", "tflite_runtime"})


@pytest.mark.parametrize("command", ["show", "truncate"])
def test_the_tools_for_models_load_nothing_heavy(made: Path, tmp_path: Path, command):
    code = "import sys; from edgetpu_retrain.tflite.__main__ import main; main(sys.argv[1:])"
    arguments = [command, made / "classifier.tflite", *([tmp_path / "x"] * (command == "truncate"))]
    assert not loaded(code, *arguments) & HEAVY


def test_classifying_loads_nothing_heavy(made: Path, sample_photos: Path, tmp_path: Path):
    (tmp_path / "labels.txt").write_text("".join(f"kind {i}\n" for i in range(44)))
    code = (
        "import runpy, sys; sys.argv[0] = 'scripts/classify_image.py'\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
    )
    photo = next(sample_photos.glob("*/*.jpg"))
    model = ("--model", made / "classifier.tflite", "--label", tmp_path / "labels.txt")
    names = loaded(code, *model, "--device", "cpu", "--input", photo)
    assert "PIL" in names
    assert not names & HEAVY


def pip(*arguments: str | Path) -> None:
    """Runs pip without network."""
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built in a copy, where no earlier build left anything behind."""
    folder = tmp_path_factory.mktemp("wheel")
    project = copy_project(folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    pip("wheel", project, "--no-build-isolation", "--wheel-dir", folder)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_has_every_file_of_the_package_and_no_others(wheel: Path):
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    try:
        listed = subprocess.check_output([*command, "edgetpu_retrain"], cwd=ROOT, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a clone, and git")
    expected = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    assert {name for name in found if ".dist-info/" not in name} == expected


def test_the_wheel_works_where_it_is_installed(wheel: Path, made: Path, tmp_path: Path):
    pip("install", wheel, "--target", tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "tests/check_installed.py", made / "classifier.tflite"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f" works in {tmp_path / 'edgetpu_retrain'}\n")
