"""The photos that the index finds: some bytes of each in memory, the rest in a file."""

import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import BinaryIO

import numpy as np

from edgetpu_retrain.manifest import SPLITS, Photo, shard_of
from edgetpu_retrain.splits import assign_splits, in_several_classes

_IDENTITY_BYTES = 32


class Found:
    """Photos in the order in which they were added.

    Of each photo 20 bytes are in memory, and three times as many while splits are assigned.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Begins without photos; `file` is empty and keeps their paths and identities."""
        self._file = file
        self._ends = array("q", [0])
        self._positions = array("Q")
        self._labels = array("i")
        self._classes: dict[str, int] = {}
        self._splits = np.empty(0, np.int8)

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, path: str, label: str, sha256: str) -> None:
        """Adds a photo."""
        record = bytes.fromhex(sha256) + os.fsencode(path)
        self._file.write(record)
        self._ends.append(self._ends[-1] + len(record))
        self._positions.append(int(sha256[:16], 16))
        self._labels.append(self._classes.setdefault(label, len(self._classes)))

    def assign_splits(self, validation: float, test: float) -> None:
        """Gives every photo its split, when all are added."""
        ranks = {label: i for i, label in enumerate(sorted(self._classes))}
        labels = np.array([ranks[label] for label in self._classes], np.int32)[self._labels]
        self._splits = assign_splits(np.asarray(self._positions), labels, validation, test)

    def counts(self) -> Counter[tuple[str, str]]:
        """Returns how many photos there are of every class and split."""
        kinds = np.asarray(self._labels) * len(SPLITS) + self._splits
        counts = np.bincount(kinds, minlength=len(self._classes) * len(SPLITS))
        names = [(label, split) for label in self._classes for split in SPLITS]
        return Counter(dict(zip(names, counts.tolist(), strict=True)))

    def photos(self) -> Iterator[Photo]:
        """Yields all photos, with their splits."""
        classes = list(self._classes)
        for row, (sha256, path) in enumerate(self._read(range(len(self)))):
            yield Photo(path, classes[self._labels[row]], SPLITS[self._splits[row]], sha256)

    def contradictions(self) -> list[list[str]]:
        """Returns the paths of each photo that has copies in several classes."""
        positions, labels = np.asarray(self._positions), np.asarray(self._labels)
        rows = np.flatnonzero(np.isin(positions, in_several_classes(positions, labels)))
        copies = defaultdict(list)
        for row, (sha256, path) in zip(rows.tolist(), self._read(rows.tolist()), strict=True):
            copies[sha256].append((path, self._labels[row]))
        return [
            [path for path, _ in same]
            for same in copies.values()
            if len({label for _, label in same}) > 1
        ]

    def shards(self, count: int, others: Iterable[tuple[str, str]]) -> Iterator[dict[str, str]]:
        """Yields for each of `count` shards the path of a photo by identity.

        Of copies it is the path of the first. `others` are identities and paths of photos to be
        embedded that were not added.
        """
        more: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for sha256, path in others:
            more[shard_of(sha256, count)].append((sha256, path))
        numbers = array("I")
        for sha256, _ in self._read(range(len(self))):
            numbers.append(shard_of(sha256, count))
        order = np.argsort(np.asarray(numbers), kind="stable")
        starts = np.searchsorted(np.asarray(numbers), np.arange(count + 1), sorter=order)
        for i, (start, end) in enumerate(pairwise(starts.tolist())):
            shard: dict[str, str] = {}
            for sha256, path in chain(self._read(order[start:end].tolist()), more[i]):
                shard.setdefault(sha256, path)
            yield shard

    def _read(self, rows: Iterable[int]) -> Iterator[tuple[str, str]]:
        """Yields the identity and the path of photos."""
        for row in rows:
            start, end = self._ends[row : row + 2]
            self._file.seek(start)
            record = self._file.read(end - start)
            yield record[:_IDENTITY_BYTES].hex(), os.fsdecode(record[_IDENTITY_BYTES:])
