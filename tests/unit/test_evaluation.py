import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.embeddings.labelled_embeddings import TEST, TRAIN, LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation import confusion_matrix, evaluate
from edgetpu_retrain.runtime.interpreter import Quantization
from edgetpu_retrain.training.predictions import SPLITS, OutOfFold, Predictions

CLASSES = ("a", "$5 to $10^", "ü")


def predictions_of(labels: list[int], predicted: list[int], split: str) -> Predictions:
    scores = np.eye(3, dtype=np.float32)[predicted].reshape(-1, 3) * 0.75
    splits = np.full(len(labels), SPLITS.index(split))
    folds = np.full(len(labels), 0 if split == "train" else -1)
    return Predictions(CLASSES, np.array(labels, int), splits, folds, scores)


def make(labels: list[int], predicted: list[int], split: str = "test") -> evaluate.Evaluation:
    given = {split: predictions_of(labels, predicted, split)}
    return evaluate.Evaluation(
        "model.tflite",
        "cpu",
        {"recipe": "optimum", "temperature": 2.0, "strength": 0.1},
        *(given.get(name, predictions_of([], [], name)) for name in ("train", "test")),
        predictions_of([], [], "test_dataset"),
        0.5,
        25.0,
    )


@pytest.mark.parametrize(
    ("split", "name", "other"),
    [("test", "test", "cross_validation"), ("train", "cross_validation", "test")],
)
def test_each_kind_of_photos_has_its_figures(tmp_path: Path, split: str, name: str, other: str):
    evaluate.save(make([0, 0, 1, 2], [0, 1, 1, 2], split), tmp_path / "evaluation.json")
    found = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert found[other] is None
    assert found[name]["accuracy"] == 0.75
    assert found[name]["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found["agreement_with_float_head"] == 0.5
    assert found["photos_per_second"] == 25
    assert found["calibration"]["of"] == name
    # Scores of 0.75 are right for 3 of 4 photos.
    assert found["calibration"]["after"] == pytest.approx(0, abs=1e-6)
    assert found["calibration"]["before"] == pytest.approx(0.25)
    assert (found["temperature"], found["strength"], found["strengths"]) == (2.0, 0.1, [])


def test_the_picture_shows_where_photos_went(tmp_path: Path):
    for name, predicted, split in (
        ("right", [0, 1, 2], "test"),
        ("wrong", [2, 2, 2], "test"),
        ("out_of_fold", [0, 1, 2], "train"),
    ):
        confusion_matrix.plot(make([0, 1, 2], predicted, split).as_dict(), tmp_path / name)
    pictures = [Image.open(tmp_path / name) for name in ("right", "wrong", "out_of_fold")]
    assert min(pictures[0].size) > 400
    assert pictures[0].tobytes() != pictures[1].tobytes()
    # The diagonal is drawn from the cross-validation where no photo is held out.
    half = (0, 100, *pictures[0].size)
    assert np.mean(np.asarray(pictures[0].crop(half)) != np.asarray(pictures[2].crop(half))) < 0.05


def test_thresholds_can_be_reached_by_a_file():
    evaluated = make([0, 1, 1, 2], [0, 1, 0, 2], "train")
    evaluated.out_of_fold.scores[:2] *= 0.9999 / 0.75
    found = evaluated.as_dict()["thresholds"]
    # The two that are surest are right; a file's highest score is 255/256.
    assert [one["score"] for one in found] == [255 / 256] * 3
    assert [one["coverage"] for one in found] == [0.5] * 3


def test_predictions_follow_photos_that_were_renamed():
    """The cross-validation goes by identity, so another order of paths changes nobody's scores."""
    identities = [f"{i:064x}" for i in range(4)]
    out_of_fold = OutOfFold(identities, np.arange(4), np.eye(4, 3, dtype=np.float32))
    for order in itertools.permutations(range(4)):
        labelled = LabelledEmbeddings(
            np.zeros((4, 2), np.uint8), np.zeros((4, 32), np.uint8), identities,
            Quantization(1.0, 0), "e", "p", CLASSES, np.arange(4), np.array([0, 1, 2, 0]),
            np.array([TRAIN, TRAIN, TEST, TRAIN], np.int8), np.array(list("wxyz"), object),
            np.array(order),
        )  # fmt: skip
        found = evaluate.cross_validation_predictions(out_of_fold, labelled, CLASSES)
        listed = [i for i in np.argsort(order).tolist() if i != 2]
        assert found.folds.tolist() == listed
        assert found.labels.tolist() == labelled.labels[listed].tolist()
        assert found.scores.tolist() == out_of_fold.scores[listed].tolist()
    others = OutOfFold(identities[:3], out_of_fold.folds[:3], out_of_fold.scores[:3])
    with pytest.raises(UserError, match="a different set of photos"):
        evaluate.cross_validation_predictions(others, labelled, CLASSES)
