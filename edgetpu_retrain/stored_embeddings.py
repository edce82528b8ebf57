"""The embeddings of all shards as one; they stay on the disk until they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain import identities
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.interpreter import Quantization
from edgetpu_retrain.rows import ByRows, Places, StoredRows

_BLOCK = 1_024


@dataclass(frozen=True)
class StoredEmbeddings:
    """What an extractor gave for N photos, sorted by identity as `identities.pack` gives it.

    So neither the order nor anything else depends on the number of shards, and the photos of a
    shard follow one another.

    Attributes:
        vectors: [N, D] uint8 or int8, as the extractor gave them.
        hashes: [N, 32] uint8, perceptual hashes (`copies.perceptual_hash`).
        photos: [N, 64] uint8, the digits of the photos' identities.
        undecodable: [M] S32, identities of photos that could not be decoded, sorted.
        quantization: what the quantized values stand for.
        extractor: identity (SHA-256) of the extractor's file.
        preprocessing: version of the way from photo to bytes (`preprocessing.version`).
    """

    vectors: ByRows
    hashes: ByRows
    photos: ByRows
    undecodable: np.ndarray
    quantization: Quantization
    extractor: str
    preprocessing: str

    @classmethod
    def open(cls, paths: Sequence[str | Path]) -> "StoredEmbeddings":
        """Looks through the files of shards, one after the other.

        Args:
            paths: in the order of shards.

        Raises:
            UserError: a file is damaged, or the shards come from different extractors or
                preprocessings, or are not those of one number of shards.
        """
        undecodable, places, starts = [], [], [0]
        first, last = None, identities.pack([])
        for path in paths:
            shard = Embeddings.load(path)
            first = first or shard
            if (shard.extractor, shard.preprocessing) != (first.extractor, first.preprocessing):
                raise UserError("The embeddings come from different extractors; delete them.")
            undecodable.append(_packed(shard.undecodable))
            photos = _packed(shard.photos)
            order = np.argsort(photos)
            if len(last) and len(order) and photos[order[0]] <= last[0]:
                raise UserError(f"{path} holds photos of another shard. Delete it and run again.")
            last = photos[order[-1:]] if len(order) else last
            places.append(order.astype(np.int32))
            starts.append(starts[-1] + len(order))
        assert first is not None
        found = Places(paths, np.array(starts[:-1]), np.concatenate(places))
        return cls(
            StoredRows("embeddings", found),
            StoredRows("hashes", found),
            StoredRows("photos", found),
            np.sort(np.concatenate(undecodable)),
            first.quantization,
            first.extractor,
            first.preprocessing,
        )

    def __len__(self) -> int:
        return len(self.vectors)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields some rows at a time, in order."""
        rows = np.arange(len(self), dtype=np.int32)
        return (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))

    def known(self) -> np.ndarray:
        """Returns the identities of the photos, [N] S32, sorted, as `identities.pack` gives them.

        They are read each time, since they are as large as much else together.
        """
        found = np.empty(len(self), identities.pack([]).dtype)
        for rows in self.blocks():
            found[rows] = identities.pack_digits(self.photos[rows])
        return found

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Returns what the vectors of some rows stand for, float32 [n, D]."""
        return self.quantization.dequantize(self.vectors[rows])


def _packed(photos: np.ndarray) -> np.ndarray:
    return identities.pack(photos.astype(str).tolist())


def rows_among(known: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Returns the rows of photos, as int [M].

    Args:
        known: what `StoredEmbeddings.known` gives.
        photos: [M] S32, their identities.

    Raises:
        UserError: a photo is not among those embedded.
    """
    rows, there = identities.find(known, photos)
    if not there.all():
        raise UserError(
            f"{int(np.sum(~there))} photos are not embedded; delete the folder embeddings/ "
            "and run again."
        )
    return rows
