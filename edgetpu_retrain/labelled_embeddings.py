"""Join embeddings with the manifest's classes and splits."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgetpu_retrain import identities, manifest
from edgetpu_retrain.manifest import Photo
from edgetpu_retrain.stored_embeddings import StoredEmbeddings, rows_among

# Photos whose embeddings are in memory as float32 at once.
_PART = 1_024
# Lines of the manifest that are looked up at once.
_LINES = 2_048
_NUMBERS = {name: number for number, name in enumerate(manifest.SPLITS)}
TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class LabelledEmbeddings:
    """The embeddings of N listed photos, in their order, of copies by class.

    Attributes:
        embeddings: what their vectors are rows of.
        rows: [N] int, which vector is the photo's.
        classes: names of the C classes, sorted.
        labels: [N] int, positions among the classes.
        splits: [N] int8, positions in `manifest.SPLITS`.
        lines: [N] int, which of the manifest's photos each is, counted from 0.
    """

    embeddings: StoredEmbeddings
    rows: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    lines: np.ndarray

    @classmethod
    def join(cls, embeddings: StoredEmbeddings, photos: Iterable[Photo]) -> "LabelledEmbeddings":
        """Looks up the listed photos that could be decoded; copies are listed more than once.

        Raises:
            UserError: a photo is not embedded.
        """
        ids: dict[str, int] = {}
        parts = [np.empty((4, 0), np.int32)]
        known, listed, line = embeddings.known(), iter(photos), 0
        while some := list(itertools.islice(listed, _LINES)):
            packed = identities.pack([photo.sha256 for photo in some])
            usable = ~identities.find(embeddings.undecodable, packed)[1]
            kept = list(itertools.compress(some, usable))
            parts.append(
                np.array(
                    [
                        rows_among(known, packed[usable]),
                        [ids.setdefault(photo.label, len(ids)) for photo in kept],
                        [_NUMBERS[photo.split] for photo in kept],
                        line + np.flatnonzero(usable),
                    ],
                    np.int32,
                )
            )
            line += len(some)
        rows, labels, splits, lines = np.concatenate(parts, axis=1)
        ranks = np.argsort(np.argsort(list(ids))).astype(np.int32)
        labels = ranks[labels] if len(ids) else labels
        order = np.lexsort((lines, splits, labels, rows))
        return cls(
            embeddings,
            rows[order],
            tuple(sorted(ids)),
            labels[order],
            splits[order].astype(np.int8),
            lines[order],
        )

    def take(self, chosen: np.ndarray) -> "LabelledEmbeddings":
        """Returns the photos that a mask chooses."""
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            lines=self.lines[chosen],
        )

    def listed(self, photos: Iterable[Photo]) -> Iterator[tuple[int, Photo]]:
        """Yields where each photo stands here, and what the manifest says of it, in its order.

        Args:
            photos: those of the manifest.
        """
        chosen = np.zeros(self.lines.max(initial=-1) + 1, bool)
        chosen[self.lines] = True
        order = np.argsort(self.lines)
        return zip(map(int, order), itertools.compress(photos, chosen), strict=True)

    def values(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields slices of the photos with their embeddings, float32 [n, D]."""
        for start in range(0, len(self.rows), _PART):
            part = slice(start, start + _PART)
            yield part, self.embeddings.values(self.rows[part])
