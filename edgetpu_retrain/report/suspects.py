"""Photos whose label is probably wrong, found by scores of layers that did not learn from them."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from edgetpu_retrain.io import tables
from edgetpu_retrain.training.predictions import ListedPredictions

# Measured on flower photos of which 5 % were given another class (five folds, several draws):
# 1,000 photos: 91 % of these found, 63 % of the suspects right; 400 photos: 86 % and 58 %.
# Confident learning (Northcutt, Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068) finds
# 70 % by its off-diagonal and 89 % by its counts per class, but suspects two thirds of all
# photos where a model of 40 classes is right on a third.
_MIN_RATIO = 4
_MIN_SUGGESTED_SCORE = 0.4
# Half a step of an 8-bit score, so that 0 has a ratio.
_LEAST_SCORE = 1 / 512


def find_suspects(predictions: ListedPredictions, decided: Collection[str] = ()) -> np.ndarray:
    """Returns the photos of which another class scored high and the given one low, surest first.

    Args:
        predictions: scores of layers that were not trained on the photo, calibrated.
        decided: identities of photos that a person has looked at; they are not suspected.

    Returns:
        [M] int, their rows.
    """
    scores, labels = predictions.scores, predictions.labels
    given, highest = scores[np.arange(len(labels)), labels], scores.max(axis=1)
    ratios = highest / np.maximum(given, _LEAST_SCORE)
    rows = np.flatnonzero(
        (predictions.predicted != labels)
        & (ratios >= _MIN_RATIO)
        & (highest >= _MIN_SUGGESTED_SCORE)
    )
    # Equal ratios stay in the order of the photos.
    rows = rows[np.argsort(-ratios[rows], kind="stable")]
    if decided:
        decided = set(decided)
        rows = rows[[predictions.identities[row] not in decided for row in rows.tolist()]]
    return rows


def write_suspects(rows: np.ndarray, predictions: ListedPredictions, path: str | Path) -> None:
    """Writes suspects.tsv: path, class, suggested class, the scores of both, identity."""
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
