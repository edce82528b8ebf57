"""Groups of photos that look alike, and how much of the accuracy rests on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain.io import tables
from edgetpu_retrain.training.predictions import SPLITS, ListedPredictions, Predictions

# Bits of 256 in which hashes differ. Measured on flower photos: re-encoded and resized copies at
# most 4, brightened ones at most 34, different photos seldom less than 50.
_MOST_BITS = 40
_MOST_COMPARED = 500

IDENTICAL, COPIES, ALIKE = "the same file", "copies", "alike"


@dataclass(frozen=True)
class Group:
    """Photos that are copies of each other or look alike.

    Attributes:
        rows: [N] int, their rows in the predictions, in order.
        classes: the different classes they were given, sorted.
        kind: IDENTICAL; COPIES, where each has nearly the same hash as another; or ALIKE.
        bits: in how many bits the two nearest hashes differ.
    """

    rows: np.ndarray
    classes: tuple[str, ...]
    kind: str
    bits: int


def find_groups(
    predictions: ListedPredictions, numbers: np.ndarray, hashes: np.ndarray
) -> list[Group]:
    """Returns the groups of two or more photos.

    Those of different classes come first, then copies of the same file, then the most alike.

    Args:
        predictions: of N photos.
        numbers: [N] int; photos that look alike share a number (`copies.groups`).
        hashes: [N, 32] uint8, perceptual hashes (`photos.perceptual_hash`).
    """
    by_number = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[by_number], prepend=-1))
    sizes = np.diff(starts, append=len(numbers))
    groups = []
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        rows = by_number[start : start + size]
        nearest = _bits_to_nearest(hashes[rows[:_MOST_COMPARED]])
        kind = COPIES if nearest.max() <= _MOST_BITS else ALIKE
        if len({predictions.identities[row] for row in rows.tolist()}) == 1:
            kind = IDENTICAL
        names = {predictions.classes[label] for label in predictions.labels[rows]}
        groups.append(Group(rows, tuple(sorted(names)), kind, int(nearest.min())))
    return sorted(
        groups, key=lambda g: (len(g.classes) == 1, g.kind != IDENTICAL, g.bits, g.rows[0])
    )


def tally(groups: Iterable[Group], different: bool) -> tuple[int, int]:
    """Returns how many groups there are of different classes, or of one, and their photos."""
    sizes = [len(group.rows) for group in groups if (len(group.classes) > 1) == different]
    return len(sizes), sum(sizes)


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
    tested = predictions.splits == SPLITS.index("test")
    copied = tested & np.isin(numbers, numbers[~tested])
    correct = predictions.predicted == predictions.labels
    others = tested & ~copied
    return CopiedTests(
        int(copied.sum()),
        int((copied & correct).sum()),
        int(others.sum()),
        int((others & correct).sum()),
    )


def write_copies(groups: Sequence[Group], predictions: ListedPredictions, path: str | Path) -> None:
    """Writes copies.tsv: number of the group, path and class of each photo in it."""
    with tables.writing(path, ("group", "path", "class")) as add:
        for number, group in enumerate(groups, start=1):
            for row in group.rows:
                label = predictions.classes[predictions.labels[row]]
                add((str(number), predictions.paths[row], label))
