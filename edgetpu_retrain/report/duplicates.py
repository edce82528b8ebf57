"""Groups look-alike photos, and measures how much the test accuracy benefits from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain.io import tables
from edgetpu_retrain.training.predictions import SPLITS, ListedPredictions, Predictions

# Hamming distances of 256-bit hashes, measured on flower photos: re-encoded and resized copies at
# most 4, brightened copies at most 34, different photos rarely less than 50.
_MAX_COPY_DISTANCE = 40
_MAX_COMPARED = 500

IDENTICAL, COPIES, SIMILAR = "identical", "near-identical", "similar"


@dataclass(frozen=True)
class Group:
    """Photos that look alike.

    Attributes:
        rows: [N] int, their rows in the predictions, ascending.
        classes: the different classes of the photos, sorted.
        kind: IDENTICAL, the same file; COPIES, the hash of each photo is close to that of another;
            or SIMILAR.
        distance: the smallest Hamming distance of two of their hashes, in bits.
    """

    rows: np.ndarray
    classes: tuple[str, ...]
    kind: str
    distance: int


def find_groups(
    predictions: ListedPredictions, numbers: np.ndarray, hashes: np.ndarray
) -> list[Group]:
    """Returns the groups of two or more photos.

    Groups with different classes come first, then identical files, then the closest matches.

    Args:
        predictions: predictions for N photos.
        numbers: [N] int, group numbers; look-alike photos share one (`near_copies.groups`).
        hashes: [N, 32] uint8, perceptual hashes (`photos.perceptual_hash`).
    """
    by_number = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[by_number], prepend=-1))
    sizes = np.diff(starts, append=len(numbers))
    groups = []
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        rows = by_number[start : start + size]
        nearest = _distance_to_nearest(hashes[rows[:_MAX_COMPARED]])
        kind = COPIES if nearest.max() <= _MAX_COPY_DISTANCE else SIMILAR
        if len({predictions.identities[row] for row in rows.tolist()}) == 1:
            kind = IDENTICAL
        names = {predictions.classes[label] for label in predictions.labels[rows]}
        groups.append(Group(rows, tuple(sorted(names)), kind, int(nearest.min())))
    return sorted(
        groups, key=lambda g: (len(g.classes) == 1, g.kind != IDENTICAL, g.distance, g.rows[0])
    )


def tally(groups: Iterable[Group], conflicting: bool) -> tuple[int, int]:
    """Returns the number of groups with conflicting labels, or without, and their photos."""
    sizes = [len(group.rows) for group in groups if (len(group.classes) > 1) == conflicting]
    return len(sizes), sum(sizes)


@dataclass(frozen=True)
class Leakage:
    """Results on test photos with and without a look-alike outside the test split.

    Attributes:
        photos: test photos with a look-alike.
        correct: how many of these were classified correctly.
        other_photos: test photos without one.
        other_correct: how many of these were classified correctly.
    """

    photos: int
    correct: int
    other_photos: int
    other_correct: int


def _distance_to_nearest(hashes: np.ndarray) -> np.ndarray:
    """Returns [N] int, the Hamming distance in bits of each hash to the nearest other hash."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    ones = bits.sum(axis=1)
    distances: np.ndarray = ones[:, np.newaxis] + ones - 2 * bits @ bits.T
    np.fill_diagonal(distances, np.inf)
    nearest: np.ndarray = distances.min(axis=1)
    return nearest.astype(int)


def measure_leakage(predictions: Predictions, numbers: np.ndarray) -> Leakage:
    """Compares test photos that have a look-alike outside the test split with the others.

    Cross-validation needs no such comparison, because it holds out all photos of a group together.

    Args:
        predictions: predictions for N photos.
        numbers: [N] int, group numbers, as for `find_groups`.
    """
    is_test = predictions.splits == SPLITS.index("test")
    leaked = is_test & np.isin(numbers, numbers[~is_test])
    correct = predictions.predicted == predictions.labels
    others = is_test & ~leaked
    return Leakage(
        int(leaked.sum()),
        int((leaked & correct).sum()),
        int(others.sum()),
        int((others & correct).sum()),
    )


def write_copies(groups: Sequence[Group], predictions: ListedPredictions, path: str | Path) -> None:
    """Writes copies.tsv: the group number, path and class of each photo."""
    with tables.writing(path, ("group", "path", "class")) as add:
        for number, group in enumerate(groups, start=1):
            for row in group.rows:
                label = predictions.classes[predictions.labels[row]]
                add((str(number), predictions.paths[row], label))
