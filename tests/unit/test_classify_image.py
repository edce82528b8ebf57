"""Classifying from the command line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edgetpu_retrain.runtime import devices
from edgetpu_retrain.runtime.interpreter import Interpreter
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
    """On photos that are resized as everywhere else."""
    paths = sorted(sample_photos.glob("*/*.jpg"))[::60]
    done = classify(*classifier, "--input", *paths, "--top_k", "3")
    assert done.returncode == 0, done.stderr
    model = Interpreter(made / "classifier.tflite", "cpu")
    lines = done.stdout.splitlines()
    for i, path in enumerate(paths):
        scores = model.run(resized(path, 96, "bilinear")) / 256
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
        ([*classifier, "--input", tmp_path / "none.jpg"], "none.jpg does not exist"),
        ([*classifier, "--input", tmp_path / "empty"], "empty contains no photos"),
        ([*classifier, "--input", bitmap, "--model", "none.tflite"], "none.tflite does not exist"),
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


def test_a_label_file_of_another_model_is_refused(classifier, bitmap: Path, tmp_path: Path):
    for lines in (["0 a", "1 b"], [f"{i + 1} kind" for i in range(44)], ["only names"] * 43):
        other = tmp_path / "other.txt"
        other.write_text("".join(f"{line}\n" for line in lines))
        done = classify(*classifier, "--input", bitmap, "--label", other)
        assert done.returncode == 1
        assert f"{other} does not fit the model: it has {len(lines)} classes" in done.stderr
        assert done.stdout == ""


def test_a_table_of_many_photos(classifier, sample_photos: Path, tmp_path: Path):
    (tmp_path / "broken, half.jpg").write_bytes(b"no photo")
    paths = sorted(sample_photos.glob("*/*.jpg"))[:40]
    inputs = ["--input", *paths, tmp_path / "broken, half.jpg", "--top_k", "2"]
    printed = classify(*classifier, *inputs)
    table = classify(*classifier, *inputs, "--csv")
    assert table.returncode == printed.returncode == 1
    assert "40 photos, " in table.stderr and "milliseconds per image" in table.stderr
    assert "1 of 41 photos could not be read" in table.stderr
    rows = list(csv.DictReader(table.stdout.splitlines()))
    assert [row["path"] for row in rows] == [
        str(p) for p in [*paths, tmp_path / "broken, half.jpg"]
    ]
    lines = printed.stdout.splitlines()
    for i, row in enumerate(rows[:-1]):
        for line, number in zip(lines[3 * i + 1 : 3 * i + 3], ("", "_2"), strict=True):
            name, score = line.strip().split(": ")
            assert (name, float(score)) == (
                row[f"class{number}"],
                pytest.approx(float(row[f"score{number}"]), abs=6e-4),
            )
        assert float(row["milliseconds"]) > 0
    assert rows[-1]["class"] == rows[-1]["milliseconds"] == ""
    assert "not an image" in rows[-1]["error"]

    classify(*classifier, *inputs, "--csv", tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["class"] for row in written] == [row["class"] for row in rows]


def test_a_name_that_is_no_utf_8_or_starts_like_a_formula_is_in_the_table(
    classifier, bitmap: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = [os.fsdecode(b"not \xff utf-8.bmp"), "=1+1.bmp"]
    for name in names:
        shutil.copy(bitmap, name)
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{i} @kind {i}\n" for i in range(44)))
    for target in ("-", "table.csv"):
        command = [
            sys.executable,
            SCRIPT,
            *map(str, classifier),
            "--input",
            *names,
            "--csv",
            target,
        ]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == 0, done.stderr
        table = done.stdout if target == "-" else Path(target).read_bytes()
        rows = table.splitlines()
        assert len(rows) == 3
        assert rows[1].startswith(b"not \xff utf-8.bmp,'@kind ")
        assert rows[2].startswith(b"'=1+1.bmp,'@kind ")
    done = subprocess.run(command[:-2], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"not \xff utf-8.bmp\n" in done.stdout


def test_a_threshold_leaves_out_what_is_below(classifier, sample_photos: Path):
    inputs = ["--input", *sorted(sample_photos.glob("*/*.jpg"))[:40], "--top_k", "3"]

    def scored(*arguments: str) -> list[tuple[str, str, float]]:
        rows = csv.DictReader(
            classify(*classifier, *inputs, "--csv", *arguments).stdout.splitlines()
        )
        return [
            (row["path"], row[f"class{n}"], float(row[f"score{n}"]))
            for row in rows
            for n in ("", "_2", "_3")
            if row[f"class{n}"]
        ]

    everything = scored()
    assert len(everything) == 120
    assert scored("--threshold", "0.4") == [one for one in everything if one[2] >= 0.4]
    done = classify(*classifier, *inputs, "--threshold", "1")
    assert "no class reaches the threshold" in done.stdout
    assert "--threshold must be" in classify(*classifier, *inputs, "--threshold", "2").stderr


def test_a_reader_that_goes_away(classifier, sample_photos: Path):
    command = [sys.executable, SCRIPT, *classifier, "--input", sample_photos]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        printed = process.stderr.read().decode()
    assert "Traceback" not in printed
    assert "Error" not in printed


def test_a_wished_precision(classifier, sample_photos: Path, tmp_path: Path):
    photo = next(sample_photos.glob("*/*.jpg"))
    evaluation = tmp_path / "evaluation.json"
    command = [*classifier, "--input", photo, "--evaluation", evaluation, "--precision"]
    said = float(classify(*classifier, "--input", photo).stdout.splitlines()[1].split(": ")[1])
    thresholds = [
        {"precision": precision, "score": score, "coverage": 0.5}
        for precision, score in ((0.9, said - 0.01), (0.95, said + 0.01), (0.99, None))
    ]
    evaluation.write_text(json.dumps({"thresholds": thresholds}))
    assert f": {said:.3f}" in classify(*command, "0.9").stdout
    assert "no class reaches the threshold" in classify(*command, "0.95").stdout
    for precision, message in (
        ("0.99", "no threshold that reaches"),
        ("0.5", "thresholds for 0.9"),
    ):
        done = classify(*command, precision)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    # By default it is beside the model, and here there is none.
    done = classify(*classifier, "--input", photo, "--precision", "0.9")
    assert "--evaluation" in done.stderr and "Traceback" not in done.stderr


def test_a_wished_precision_of_the_delivered_model(classifier, sample_photos: Path, tmp_path: Path):
    photo = next(sample_photos.glob("*/*.jpg"))
    model, *rest = classifier[1:]
    delivered = tmp_path / "retrained_model.tflite"
    shutil.copy(model, delivered)
    for recipe, score, content in (("coral", 0.9, b"another"), ("optimum", 0.003, b"")):
        folder = tmp_path / "results/birds/net" / recipe
        folder.mkdir(parents=True)
        (folder / delivered.name).write_bytes(Path(model).read_bytes() + content)
        thresholds = [{"precision": 0.95, "score": score, "coverage": 0.5}]
        (folder / "evaluation.json").write_text(json.dumps({"thresholds": thresholds}))
    done = classify(*("--model", delivered, *rest, "--input", photo, "--precision", "0.95"))
    assert done.returncode == 0, done.stderr
    assert "below a score of 0.003" in done.stderr
    assert "optimum" in done.stderr
