"""Photos whose label is probably wrong, found by scores of layers that did not learn from them."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from edgetpu_retrain import tables
from edgetpu_retrain.predictions import ListedPredictions

# Measured on flower photos of which 5 % were given another class (five folds, several draws):
# 1,000 photos: 91 % of these found, 63 % of the suspects right; 400 photos: 86 % and 58 %.
# Confident learning (Northcutt, Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068) finds
# 70 % by its off-diagonal and 89 % by its counts per class, but suspects two thirds of all
# photos where a model of 40 classes is right on a third.
_MIN_RATIO = 4
_MIN_SUGGESTED_SCORE = 0.4
# Half a step of an 8-bit score, so that 0 has a ratio.
_LEAST_SCORE = 1 / 512


_BLOCK = 8_192


def find_suspects(predictions: ListedPredictions, decided: Collection[str] = ()) -> np.ndarray:
    """Returns the photos of which another class scored high and the given one low, surest first.

    Args:
        predictions: scores of layers that were not trained on the photo, calibrated.
        decided: identities of photos that a person has looked at; they are not suspected.

    Returns:
        [M] int, their rows.
    """
    found, ratios = [np.empty(0, int)], [np.empty(0, np.float32)]
    for start in range(0, len(predictions), _BLOCK):
        scores, labels = (
            part[start : start + _BLOCK] for part in (predictions.scores, predictions.labels)
        )
        given, highest = scores[np.arange(len(labels)), labels], scores.max(axis=1)
        ratio = highest / np.maximum(given, _LEAST_SCORE)
        suspected = scores.argmax(axis=1) != labels
        suspected &= (ratio >= _MIN_RATIO) & (highest >= _MIN_SUGGESTED_SCORE)
        found.append(start + np.flatnonzero(suspected))
        ratios.append(ratio[suspected])
    # Equal ratios stay in the order of the photos.
    rows = np.concatenate(found)[np.argsort(-np.concatenate(ratios), kind="stable")]
    if decided:
        decided = set(decided)
        rows = rows[[predictions.identities[row] not in decided for row in rows]]
    return rows


def write_suspects(rows: np.ndarray, predictions: ListedPredictions, path: str | Path) -> None:
    """Writes suspects.tsv: path, class, suggested class, the scores of both, identity."""
    columns = ("path", "class", "suggested", "score", "suggested_score", "sha256")
    with tables.writing(path, columns) as add:
        for row in rows:
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
