import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from edgetpu_retrain import evaluation


def make(labels: list[int], predictions: list[int], model: Path = Path("model.tflite")):
    return evaluation.Evaluation(
        str(model),
        "cpu",
        ("a", "b", "ü"),
        np.array(labels, int),
        np.array(predictions, int),
        np.array(predictions[::-1], int),
        25.04,
    )


def test_the_figures_are_scikit_learn_s(tmp_path: Path):
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 3, (2, 50)).tolist()
    evaluation.save(make(labels, predictions), tmp_path / "evaluation.json")
    found = json.loads((tmp_path / "evaluation.json").read_text())
    report = metrics.classification_report(labels, predictions, output_dict=True)
    assert found["accuracy"] == pytest.approx(report["accuracy"])
    for i, name in enumerate("abü"):
        counts = found["classes"][name]
        assert counts["photos"] == report[str(i)]["support"]
        assert counts["correct"] / counts["photos"] == pytest.approx(report[str(i)]["recall"])
        assert counts["correct"] / counts["predicted"] == pytest.approx(report[str(i)]["precision"])
    assert found["confusion_matrix"][0][1] == sum(
        (y, p) == (0, 1) for y, p in zip(labels, predictions, strict=True)
    )
    agreement = metrics.accuracy_score(predictions, predictions[::-1])
    assert found["agreement_with_float_head"] == pytest.approx(agreement)
    assert found["photos_per_second"] == 25.0


def test_no_photo_in_the_test_split(tmp_path: Path):
    nothing = make([], [], tmp_path / "model.tflite")
    (tmp_path / "model.tflite").touch()
    assert nothing.as_dict()["accuracy"] is None
    evaluation.plot_confusion_matrix(nothing, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").is_file()


def test_names_that_look_like_formulas_are_drawn(tmp_path: Path):
    photos = np.zeros(0, int)
    names = ("$5 to $10^", r"$\frac$")
    result = evaluation.Evaluation("m", "cpu", names, photos, photos, photos, 0.0)
    evaluation.plot_confusion_matrix(result, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_the_picture_shows_where_photos_went(tmp_path: Path):
    evaluation.plot_confusion_matrix(make([0, 1, 2], [0, 1, 2]), tmp_path / "right.png")
    evaluation.plot_confusion_matrix(make([0, 1, 2], [2, 2, 2]), tmp_path / "wrong.png")
    with Image.open(tmp_path / "right.png") as right, Image.open(tmp_path / "wrong.png") as wrong:
        assert min(right.size) > 400
        assert right.size != wrong.size or right.tobytes() != wrong.tobytes()
