"""Groups of photos that look alike, and how much of the accuracy rests on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from edgetpu_retrain import tables
from edgetpu_retrain.predictions import SPLITS, ListedPredictions, Predictions

# Bits of 256 in which hashes differ. Measured on flower photos: re-encoded and resized copies at
# most 4, brightened ones at most 34, different photos seldom less than 50.
_MOST_BITS = 40
_MOST_COMPARED = 500

_KINDS = IDENTICAL, COPIES, ALIKE = "the same file", "copies", "alike"


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


class Groups(Sequence[Group]):
    """All groups of two or more photos: of different classes first, then the most alike."""

    def __init__(self, predictions: ListedPredictions, numbers: np.ndarray, hashes: np.ndarray):
        """Looks at the groups, one after the other.

        Args:
            predictions: of N photos.
            numbers: [N] int; photos that look alike share a number (`copies.groups`).
            hashes: [N, 32] uint8, perceptual hashes (`copies.perceptual_hash`).
        """
        self._predictions = predictions
        self._rows = np.argsort(numbers, kind="stable").astype(np.int32)
        ends = np.flatnonzero(np.diff(numbers[self._rows], append=-1)) + 1
        sizes = np.diff(ends, prepend=0)
        self._ends, self._sizes = ends[sizes > 1], sizes[sizes > 1]
        count = len(self._ends)
        self._bits, self._kinds = np.empty(count, np.int16), np.empty(count, np.int8)
        self._differ = np.empty(count, bool)
        for i in range(count):
            rows = self._members(i)
            nearest = _bits_to_nearest(hashes[rows[:_MOST_COMPARED]])
            labels = predictions.labels[rows]
            self._bits[i], self._differ[i] = nearest.min(), labels.min() != labels.max()
            kind = COPIES if nearest.max() <= _MOST_BITS else ALIKE
            # The same file has the same hash.
            if not nearest.max() and _is_one(predictions.identities[row] for row in rows):
                kind = IDENTICAL
            self._kinds[i] = _KINDS.index(kind)
        first = self._rows[self._ends - self._sizes]
        different = self._kinds != _KINDS.index(IDENTICAL)
        self._order = np.lexsort((first, self._bits, different, ~self._differ))

    def _members(self, i: int) -> np.ndarray:
        return self._rows[self._ends[i] - self._sizes[i] : self._ends[i]]

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Group: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Group]: ...
    def __getitem__(self, place: int | slice) -> Group | Sequence[Group]:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        i = self._order[place]
        rows, names = self._members(i), self._predictions.classes
        classes = sorted(names[label] for label in np.unique(self._predictions.labels[rows]))
        return Group(rows, tuple(classes), _KINDS[self._kinds[i]], int(self._bits[i]))

    def tally(self, different: bool) -> tuple[int, int]:
        """Returns how many groups there are of different classes, or of one, and their photos."""
        sizes = self._sizes[self._differ == different]
        return len(sizes), int(sizes.sum())


def _is_one(texts: Iterator[str]) -> bool:
    first = next(texts)
    return all(text == first for text in texts)


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


def write_copies(groups: Groups, predictions: ListedPredictions, path: str | Path) -> None:
    """Writes copies.tsv: number of the group, path and class of each photo in it."""
    with tables.writing(path, ("group", "path", "class")) as add:
        for number, group in enumerate(groups, start=1):
            for row in group.rows:
                label = predictions.classes[predictions.labels[row]]
                add((str(number), predictions.paths[row], label))
