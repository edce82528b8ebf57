"""Finds photos that are probably mislabelled, from scores of layers not trained on them."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from edgetpu_retrain.io import tables
from edgetpu_retrain.training.predictions import ListedPredictions

# Measured on flower photos, 5% of which were given a wrong class (five folds, several draws):
# recall 91% and precision 63% on 1,000 photos, 86% and 58% on 400 photos.
# Confident learning (Northcutt, Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068) has a
# recall of 70% by its off-diagonal and 89% by its counts per class, but suspects two thirds of all
# photos if a model of 40 classes has an accuracy of one third.
_MIN_RATIO = 4
_MIN_SUGGESTED_SCORE = 0.4
# Half a step of an 8-bit score, to avoid division by 0.
_MIN_GIVEN_SCORE = 1 / 512


def find_suspects(predictions: ListedPredictions, decided: Collection[str] = ()) -> np.ndarray:
    """Returns photos with a high score for another class and a low one for their own.

    Args:
        predictions: calibrated scores from layers that were not trained on the photo.
        decided: identities (SHA-256) of photos that a person has reviewed; they are left out.

    Returns:
        [M] int, rows of the predictions, by descending ratio of the two scores.
    """
    scores, labels = predictions.scores, predictions.labels
    given, highest = scores[np.arange(len(labels)), labels], scores.max(axis=1)
    ratios = highest / np.maximum(given, _MIN_GIVEN_SCORE)
    rows = np.flatnonzero(
        (predictions.predicted != labels)
        & (ratios >= _MIN_RATIO)
        & (highest >= _MIN_SUGGESTED_SCORE)
    )
    # Stable, so that photos with equal ratios keep their order.
    rows = rows[np.argsort(-ratios[rows], kind="stable")]
    if decided:
        decided = set(decided)
        rows = rows[[predictions.identities[row] not in decided for row in rows.tolist()]]
    return rows


def write_suspects(rows: np.ndarray, predictions: ListedPredictions, path: str | Path) -> None:
    """Writes suspects.tsv: path, class, suggested class, both scores and SHA-256."""
    columns = ("path", "class", "suggested", "score", "suggested_score", "sha256")
    with tables.writing(path, columns) as add:
        for row in rows.tolist():
            scores, label = predictions.scores[row], predictions.labels[row]
            add(
                (
                    predictions.paths[row],
                    predictions.classes[label],
                    predictions.classes[scores.argmax()],
                    f"{scores[label]:.4f}",
                    f"{scores.max():.4f}",
                    predictions.identities[row],
                )
            )
