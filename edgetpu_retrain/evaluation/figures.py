"""From true classes and scores to the figures of evaluation.json; knows no model and no file."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetpu_retrain.training.intervals import wilson_interval

PRECISIONS = (0.9, 0.95, 0.99)
_BINS = 10


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """Returns [count, count] int: photos of the row's class that were taken for the column's."""
    return np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)


def result(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> dict[str, Any] | None:
    """Returns how well classes were told, overall and per class; None without photos.

    Args:
        labels: [N] int, true classes.
        predicted: [N] int, predicted classes.
        classes: names of the classes.
    """
    if not len(labels):
        return None
    confusion = confusion_matrix(labels, predicted, len(classes))
    correct, photos, taken = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    count, total = int(correct.sum()), len(labels)
    recall = correct[photos > 0] / photos[photos > 0]
    return {
        "photos": total,
        "correct": count,
        "accuracy": count / total,
        "interval": list(wilson_interval(count, total)),
        "balanced_accuracy": float(recall.mean()),
        "classes": {
            name: {
                "photos": int(photos[i]),
                "correct": int(correct[i]),
                "predicted": int(taken[i]),
                "precision": _ratio(correct[i], taken[i]),
                "recall": _ratio(correct[i], photos[i]),
                "f1": _ratio(2 * correct[i], taken[i] + photos[i]),
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
    """Compares the highest scores with how often they are right.

    Args:
        labels: [N] int, true classes.
        scores: [N, C] of softmax.

    Returns:
        The expected calibration error over ten bins of equal width (Guo et al., 2017), None
        without photos; and the bins that hold photos, with mean score and accuracy.
    """
    highest, correct = scores.max(axis=1, initial=0), scores.argmax(axis=1) == labels
    # A score of 1 belongs to the last bin.
    numbers = np.minimum((highest * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for i in range(_BINS):
        inside = numbers == i
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
    """Returns, per precision, the score below which a model should say nothing.

    It is the lowest one at which that share of the photos scored so high, or higher, are right.
    `score` and `coverage`, the share of the photos that remain, are None where there is none.

    Args:
        labels: [N] int, true classes.
        scores: [N, C] of softmax.
    """
    highest, correct = scores.max(axis=1, initial=0), scores.argmax(axis=1) == labels
    order = np.argsort(-highest, kind="stable")
    ranked, right = highest[order], np.cumsum(correct[order])
    precision = right / np.arange(1, len(ranked) + 1)
    # Photos of the same score stand or fall together.
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    found = []
    for wanted in PRECISIONS:
        reached = np.flatnonzero(last & (precision >= wanted))
        i = reached[-1] if len(reached) else None
        found.append(
            {
                "precision": wanted,
                "score": None if i is None else float(ranked[i]),
                "coverage": None if i is None else (int(i) + 1) / len(ranked),
            }
        )
    return found
