import subprocess
import sys
from pathlib import Path

import pytest

from edgetpu_retrain import interpreter

SCRIPT = Path(__file__).parents[2] / "scripts" / "classify_image.py"


def classify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def classifier(models: Path) -> list[str | Path]:
    model = models / "mobilenet_v2_1.0_224_quant.tflite"
    return ["--model", model, "--label", models / "imagenet_labels.txt", "--device", "cpu"]


def test_a_real_classifier_knows_a_real_flower(classifier, photos: Path):
    daisies = sorted((photos / "daisy").iterdir())[:10]
    done = classify(*classifier, "--input", *daisies, "--top_k", "3")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0::4] == [str(path) for path in daisies]
    assert sum("daisy" in line for line in lines[1::4]) >= 7
    scores = [float(line.rpartition(": ")[2]) for line in lines[1:4]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] <= 1


def test_folders_bitmaps_and_broken_photos(classifier, shared: Path, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    done = classify(*classifier, "--input", shared / "data", tmp_path)
    assert "sunflower.bmp" in done.stdout
    assert f"{tmp_path / 'broken.jpg'}: not an image" in done.stderr
    assert done.returncode == 1


def test_mistakes_are_explained(classifier, shared: Path, tmp_path: Path):
    bitmap = shared / "data" / "sunflower.bmp"
    for arguments, message in (
        ([*classifier, "--input", tmp_path / "none.jpg"], "none.jpg: there is no such file"),
        ([*classifier, "--input", tmp_path], "there is no photo in this folder"),
        ([*classifier, "--input", bitmap, "--model", "none.tflite"], "there is no such model"),
        ([*classifier, "--input", bitmap, "--label", "none.txt"], "none.txt"),
        ([*classifier, "--input", bitmap, "--label", bitmap], "sunflower.bmp is no label map"),
        ([*classifier, "--input", bitmap, "--device", "gpu"], "'gpu' is no device"),
        ([*classifier, "--input", bitmap, "--top_k", "0"], "--top_k must be at least 1"),
    ):
        done = classify(*arguments)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(bool(interpreter.list_edge_tpus()), reason="an Edge TPU is plugged in")
def test_a_compiled_model_without_a_device(classifier, models: Path, shared: Path):
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    bitmap = shared / "data" / "sunflower.bmp"
    done = classify(*classifier, "--input", bitmap, "--model", models / name)
    assert done.returncode == 1
    assert name.replace("_edgetpu", "") in done.stderr
    assert "Traceback" not in done.stderr
