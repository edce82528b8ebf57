"""Groups of photos that look alike, and how much of the accuracy rests on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain import files, tables
from edgetpu_retrain.predictions import Predictions

# Bits of 256 in which hashes differ. Measured on flower photos: re-encoded and resized copies at
# most 4, brightened ones at most 34, different photos seldom less than 50.
_MOST_BITS = 40
_MOST_COMPARED = 500

IDENTICAL, COPIES, ALIKE = "the same file", "copies", "alike"


@dataclass(frozen=True)
class Group:
    """Photos that are copies of each other or look alike.

    Attributes:
        rows: their rows in the predictions, in the order of their paths.
        classes: the different classes they were given, sorted.
        kind: IDENTICAL; COPIES, where each has nearly the same hash as another; or ALIKE.
        bits: in how many bits the two nearest hashes differ.
    """

    rows: tuple[int, ...]
    classes: tuple[str, ...]
    kind: str
    bits: int


@dataclass(frozen=True)
class CopiedTests:
    """How the model did on test photos that have a copy among the photos it learned from.

    Attributes:
        photos: how many test photos have one.
        correct: how many of these were classified correctly.
        other_photos: how many test photos have none.
        other_correct: how many of these were classified correctly.
    """

    photos: int
    correct: int
    other_photos: int
    other_correct: int


def find_groups(predictions: Predictions, numbers: np.ndarray, hashes: np.ndarray) -> list[Group]:
    """Returns the groups of two or more photos: of different classes first, then the most alike.

    Args:
        predictions: of N photos.
        numbers: [N] int; photos that look alike share a number (`copies.groups`).
        hashes: [N, 32] uint8, perceptual hashes (`copies.perceptual_hash`).
    """
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    groups = []
    for rows in np.split(order, starts[1:]):
        if len(rows) > 1:
            by_path = sorted(rows.tolist(), key=lambda row: predictions.paths[row])
            classes = sorted({predictions.classes[predictions.labels[row]] for row in rows})
            nearest = _bits_to_nearest(hashes[rows[:_MOST_COMPARED]])
            kind = COPIES if nearest.max() <= _MOST_BITS else ALIKE
            if len(set(predictions.identities[rows].tolist())) == 1:
                kind = IDENTICAL
            groups.append(Group(tuple(by_path), tuple(classes), kind, int(nearest.min())))

    def key(group: Group) -> tuple[bool, bool, int, str]:
        same = group.kind != IDENTICAL
        return len(group.classes) == 1, same, group.bits, predictions.paths[group.rows[0]]

    return sorted(groups, key=key)


def _bits_to_nearest(hashes: np.ndarray) -> np.ndarray:
    """Returns [N] int, in how many bits each hash differs from the one nearest to it."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    ones = bits.sum(axis=1)
    distances = ones[:, np.newaxis] + ones - 2 * bits @ bits.T
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1).astype(int)


def copied_tests(predictions: Predictions, numbers: np.ndarray) -> CopiedTests:
    """Compares the test photos that have a copy outside the test split with those that have none.

    In cross-validation the copies of a photo are all held out together, so that figure does not
    rest on copies.
    """
    tested = predictions.splits == "test"
    copied = tested & np.isin(numbers, numbers[~tested])
    correct = predictions.scores.argmax(axis=1) == predictions.labels
    others = tested & ~copied
    return CopiedTests(
        int(copied.sum()),
        int((copied & correct).sum()),
        int(others.sum()),
        int((others & correct).sum()),
    )


def write_copies(groups: Sequence[Group], predictions: Predictions, path: str | Path) -> None:
    """Writes copies.tsv: number of the group, path and class of each photo in it."""
    rows = (
        (str(number), predictions.paths[row], predictions.classes[predictions.labels[row]])
        for number, group in enumerate(groups, start=1)
        for row in group.rows
    )
    with files.replacing(path) as temporary:
        temporary.write_bytes(tables.to_tsv(("group", "path", "class"), rows))
