"""Computes the metrics of evaluation.json from true classes and scores; reads no files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetpu_retrain.training.intervals import wilson_interval

PRECISIONS = (0.9, 0.95, 0.99)
_BINS = 10


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """Returns [count, count] int: photos by true class (row) and predicted class (column)."""
    return np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)


def result(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> dict[str, Any] | None:
    """Returns accuracy, precision, recall and F1, overall and per class; None without photos.

    Precision, recall and F1 are None where they would divide by zero. Balanced accuracy is the
    mean recall of the classes that have photos.

    Args:
        labels: [N] int, true classes.
        predicted: [N] int, predicted classes.
        classes: names of the classes.
    """
    if not len(labels):
        return None
    confusion = confusion_matrix(labels, predicted, len(classes))
    correct, photos, answers = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    total_correct, total = int(correct.sum()), len(labels)
    recall = correct[photos > 0] / photos[photos > 0]
    return {
        "photos": total,
        "correct": total_correct,
        "accuracy": total_correct / total,
        "interval": list(wilson_interval(total_correct, total)),
        "balanced_accuracy": float(recall.mean()),
        "classes": {
            name: {
                "photos": int(photos[i]),
                "correct": int(correct[i]),
                "predicted": int(answers[i]),
                "precision": _ratio(correct[i], answers[i]),
                "recall": _ratio(correct[i], photos[i]),
                "f1": _ratio(2 * correct[i], answers[i] + photos[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion_matrix": confusion.tolist(),
    }


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def calibration(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[float | None, list[dict[str, Any]]]:
    """Compares the scores of the predicted classes with the accuracy.

    Args:
        labels: [N] int, true classes.
        scores: [N, C] float, softmax scores.

    Returns:
        The expected calibration error over ten bins of equal width (Guo et al., 2017,
        https://arxiv.org/abs/1706.04599), None without photos; and the non-empty bins, with mean
        score and accuracy.
    """
    highest, correct = scores.max(axis=1, initial=0), scores.argmax(axis=1) == labels
    # A score of 1 belongs to the last bin.
    bin_of = np.minimum((highest * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for i in range(_BINS):
        inside = bin_of == i
        photos = int(inside.sum())
        if photos:
            score, accuracy = float(highest[inside].mean()), float(correct[inside].mean())
            error += photos * abs(score - accuracy) / len(labels)
            bins.append(
                {
                    "low": i / _BINS,
                    "high": (i + 1) / _BINS,
                    "photos": photos,
                    "score": score,
                    "accuracy": accuracy,
                }
            )
    return (error if len(labels) else None), bins


def thresholds(labels: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Returns the score threshold for each of `PRECISIONS`; below it, the model should abstain.

    The threshold is the lowest score for which the photos with this score or a higher one are
    classified with the wanted precision. `score` and `coverage`, the share of photos at or above
    the threshold, are None if no score reaches the precision.

    Args:
        labels: [N] int, true classes.
        scores: [N, C] float, softmax scores.
    """
    highest, correct = scores.max(axis=1, initial=0), scores.argmax(axis=1) == labels
    order = np.argsort(-highest, kind="stable")
    ranked, num_correct = highest[order], np.cumsum(correct[order])
    precision = num_correct / np.arange(1, len(ranked) + 1)
    # A threshold cannot separate photos with equal scores.
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    rows = []
    for target in PRECISIONS:
        reached = np.flatnonzero(last & (precision >= target))
        i = reached[-1] if len(reached) else None
        rows.append(
            {
                "precision": target,
                "score": None if i is None else float(ranked[i]),
                "coverage": None if i is None else (int(i) + 1) / len(ranked),
            }
        )
    return rows
