"""Classifying from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edgetpu_retrain import devices
from tests import models as look
from tests.pictures import resized

SCRIPT = Path(__file__).parents[2] / "scripts" / "classify_image.py"


def classify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def classifier(made: Path, tmp_path: Path) -> list[str | Path]:
    """The sample's network for its own 44 kinds of picture, as they are numbered."""
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{i} kind {i}\n" for i in range(44)))
    return ["--model", made / "classifier.tflite", "--label", labels, "--device", "cpu"]


@pytest.fixture
def bitmap(sample_photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bitmaps"
    folder.mkdir()
    with Image.open(next(sample_photos.glob("*/*.jpg"))) as image:
        image.save(folder / "photo.bmp")
    return folder / "photo.bmp"


def test_the_classes_are_those_of_the_highest_scores(classifier, made: Path, sample_photos: Path):
    """By the runtime alone, on photos that are resized as everywhere else."""
    paths = sorted(sample_photos.glob("*/*.jpg"))[::60]
    done = classify(*classifier, "--input", *paths, "--top_k", "3")
    assert done.returncode == 0, done.stderr
    runtime = look.runtime((made / "classifier.tflite").read_bytes())
    lines = done.stdout.splitlines()
    for i, path in enumerate(paths):
        scores = look.invoke(runtime, resized(path, 96, "bilinear"))[0] / 256
        assert lines[4 * i] == str(path)
        for line, score in zip(lines[4 * i + 1 : 4 * i + 4], sorted(scores)[::-1], strict=False):
            name, _, shown = line.rpartition(": ")
            assert float(shown) == pytest.approx(score, abs=6e-4)
            assert scores[int(name.split()[-1])] == score


def test_a_real_classifier_knows_a_real_flower(models: Path, photos: Path):
    model = models / "mobilenet_v2_1.0_224_quant.tflite"
    arguments = ["--model", model, "--label", models / "imagenet_labels.txt", "--device", "cpu"]
    daisies = sorted((photos / "daisy").iterdir())[:10]
    done = classify(*arguments, "--input", *daisies, "--top_k", "3")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0::4] == [str(path) for path in daisies]
    assert sum("daisy" in line for line in lines[1::4]) >= 7
    scores = [float(line.rpartition(": ")[2]) for line in lines[1:4]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] <= 1


def test_folders_bitmaps_and_broken_photos(classifier, bitmap: Path, tmp_path: Path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no photo")
    done = classify(*classifier, "--input", bitmap.parent, folder)
    assert f"{bitmap}\n  kind " in done.stdout
    assert f"{folder / 'broken.jpg'}: not an image" in done.stderr
    assert done.returncode == 1


def test_mistakes_are_explained(classifier, bitmap: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([*classifier, "--input", tmp_path / "none.jpg"], "none.jpg: there is no such file"),
        ([*classifier, "--input", tmp_path / "empty"], "there is no photo in this folder"),
        ([*classifier, "--input", bitmap, "--model", "none.tflite"], "there is no such model"),
        ([*classifier, "--input", bitmap, "--label", "none.txt"], "none.txt"),
        ([*classifier, "--input", bitmap, "--label", bitmap], "photo.bmp is not a label map"),
        ([*classifier, "--input", bitmap, "--device", "gpu"], "'gpu' is not a device"),
        ([*classifier, "--input", bitmap, "--top_k", "0"], "--top_k must be at least 1"),
    ):
        done = classify(*arguments)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(bool(devices.list_edge_tpus()), reason="an Edge TPU is plugged in")
def test_a_compiled_model_without_a_device(classifier, made: Path, bitmap: Path):
    done = classify(*classifier, "--input", bitmap, "--model", made / "extractor_edgetpu.tflite")
    assert done.returncode == 1
    assert str(made / "extractor.tflite") in done.stderr
    assert "Traceback" not in done.stderr
