"""Photos whose label is probably wrong, found by scores of layers that did not learn from them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain import files, tables
from edgetpu_retrain.predictions import Predictions

# Measured on flower photos of which 5 % were given another class (five folds, several draws):
# 1,000 photos: 91 % of these found, 63 % of the suspects right; 400 photos: 86 % and 58 %.
# Confident learning (Northcutt, Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068) finds
# 70 % by its off-diagonal and 89 % by its counts per class, but suspects two thirds of all
# photos where a model of 40 classes is right on a third.
_MIN_RATIO = 4
_MIN_SUGGESTED_SCORE = 0.4
# Half a step of an 8-bit score, so that 0 has a ratio.
_LEAST_SCORE = 1 / 512


@dataclass(frozen=True)
class Suspect:
    """A photo whose label is probably wrong.

    Attributes:
        row: its row in the predictions.
        path: where the file is.
        sha256: its identity.
        label: the class it was given.
        suggested: the class that scored highest.
        score: that of the given class.
        suggested_score: that of the suggested class.
    """

    row: int
    path: str
    sha256: str
    label: str
    suggested: str
    score: float
    suggested_score: float


def find_suspects(predictions: Predictions, decided: Collection[str] = ()) -> list[Suspect]:
    """Returns the photos of which another class scored high and the given one low, surest first.

    Args:
        predictions: scores of layers that were not trained on the photo, calibrated.
        decided: identities of photos that a person has looked at; they are not suspected.
    """
    scores, labels = predictions.scores, predictions.labels
    rows = np.arange(len(labels))
    given = scores[rows, labels]
    best = scores.argmax(axis=1) if len(labels) else rows
    highest = scores[rows, best]
    ratio = highest / np.maximum(given, _LEAST_SCORE)
    suspected = (best != labels) & (ratio >= _MIN_RATIO) & (highest >= _MIN_SUGGESTED_SCORE)
    decided = set(decided)
    found = []
    # Equal ratios stay in the order of the photos.
    for row in np.argsort(-ratio, kind="stable"):
        sha256 = predictions.identities[row].decode()
        if suspected[row] and sha256 not in decided:
            found.append(
                Suspect(
                    int(row),
                    predictions.paths[row],
                    sha256,
                    predictions.classes[labels[row]],
                    predictions.classes[best[row]],
                    float(given[row]),
                    float(highest[row]),
                )
            )
    return found


def write_suspects(suspects: list[Suspect], path: str | Path) -> None:
    """Writes suspects.tsv: path, class, suggested class, the scores of both, identity."""
    columns = ("path", "class", "suggested", "score", "suggested_score", "sha256")
    rows = (
        (s.path, s.label, s.suggested, f"{s.score:.4f}", f"{s.suggested_score:.4f}", s.sha256)
        for s in suspects
    )
    with files.replacing(path) as temporary:
        temporary.write_bytes(tables.to_tsv(columns, rows))
