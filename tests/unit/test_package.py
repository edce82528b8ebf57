"""What the package needs, and what it loads when."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# What the workflow, its report and frozen graphs need beyond the library.
HEAVY = {
    *("jinja2", "matplotlib", "pooch", "pydantic", "requests", "scipy", "sklearn", "snakemake"),
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
