import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from edgetpu_retrain.evaluation import figures
from edgetpu_retrain.training import intervals


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of 300 photos, of which one class in four has hardly any."""
    random = np.random.default_rng(0)
    labels = random.choice(4, 300, p=[0.5, 0.3, 0.18, 0.02])
    logits = random.normal(size=(300, 4)) + 2 * np.eye(4)[labels]
    powers = np.exp(logits)
    return labels, powers / powers.sum(axis=1, keepdims=True)


def test_the_figures_are_scikit_learn_s(table):
    labels, scores = table
    predicted = scores.argmax(axis=1)
    found = figures.result(labels, predicted, "abcd")
    report = metrics.classification_report(labels, predicted, output_dict=True)
    assert found["accuracy"] == pytest.approx(report["accuracy"])
    assert found["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, predicted)
    )
    for i, name in enumerate("abcd"):
        one = found["classes"][name]
        assert one["photos"] == report[str(i)]["support"]
        for figure, same in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score")):
            assert one[figure] == pytest.approx(report[str(i)][same])
    assert found["confusion_matrix"] == metrics.confusion_matrix(labels, predicted).tolist()
    low, high = found["interval"]
    assert low < found["accuracy"] < high


def test_a_class_without_photos_counts_nowhere():
    found = figures.result(np.array([0, 0]), np.array([0, 2]), "abc")
    assert found["balanced_accuracy"] == 0.5
    assert found["classes"]["b"] == {
        "photos": 0, "correct": 0, "predicted": 0, "precision": None, "recall": None, "f1": None
    }  # fmt: skip
    assert figures.result(np.zeros(0, int), np.zeros(0, int), "ab") is None


def test_calibration_by_hand():
    scores = np.array([[0.85, 0.15], [0.85, 0.15], [0.35, 0.65], [0.0, 1.0]])
    error, bins = figures.calibration(np.array([0, 1, 1, 1]), scores)
    # |0.85 - 1/2| of two photos, |0.65 - 1| of one, |1 - 1| of one.
    assert error == pytest.approx((2 * 0.35 + 0.35) / 4)
    assert [(b["low"], b["photos"], b["accuracy"]) for b in bins] == [
        (0.6, 1, 1.0), (0.8, 2, 0.5), (0.9, 1, 1.0)
    ]  # fmt: skip
    assert figures.calibration(np.zeros(0, int), np.zeros((0, 2))) == (None, [])


def test_above_a_threshold_photos_are_right_that_often(table):
    labels, scores = table
    highest, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    for found in figures.thresholds(labels, scores):
        kept = highest >= found["score"]
        assert correct[kept].mean() >= found["precision"]
        assert kept.mean() == pytest.approx(found["coverage"])
        # No lower score would do.
        lower = np.unique(highest[~kept])
        assert all(correct[highest >= score].mean() < found["precision"] for score in lower)


def test_a_precision_out_of_reach_has_no_threshold():
    scores = np.array([[0.9, 0.1], [0.9, 0.1]])
    found = figures.thresholds(np.array([0, 1]), scores)
    assert [one["score"] for one in found] == [None] * 3
    assert [one["coverage"] for one in figures.thresholds(np.zeros(0, int), scores[:0])] == [
        None
    ] * 3


@pytest.mark.parametrize(("correct", "photos"), [(0, 1), (0, 40), (7, 7), (9, 10), (880, 1000)])
def test_the_interval_is_scipys(correct: int, photos: int):
    expected = binomtest(correct, photos).proportion_ci(0.95, "wilson")
    assert intervals.wilson_interval(correct, photos) == pytest.approx(tuple(expected), abs=1e-12)
