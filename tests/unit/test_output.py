"""Programs whose standard output is closed, full, or not read to its end."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# By what the shell does with standard output: what is said of it at the end.
OUTPUTS = {
    ">/dev/full": "Error: standard output: no space left on device.",
    ">&-": "Error: Standard output is closed, so there is nowhere to print to.",
    # `true` reads nothing, and does not wait.
    "| true": "",
}
PROGRAMS = {
    "backbones": "scripts/show_backbones.py",
    "classify": "scripts/classify_image.py --model {model} --input {photo}",
    "table": "scripts/classify_image.py --model {model} --input {photo} --csv",
    "tflite": "-m edgetpu_retrain.tflite show {model}",
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_output_that_nobody_gets(name: str, output: str, made: Path, sample_photos: Path):
    photo = next(sample_photos.glob("daisy/*"))
    program = PROGRAMS[name].format(model=made / "classifier.tflite", photo=photo)
    # The reader is gone before the first line.
    command = f"set -o pipefail; (sleep 0.2; {sys.executable} {program}) {output}"
    if ">" in output:
        command = f"{sys.executable} {program} {output}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.strip().endswith(OUTPUTS[output])
