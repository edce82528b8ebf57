"""The embeddings of all photos with their classes and splits, and what training needs of them.

All of it is in memory, the embeddings with the byte per value that the extractor gives.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import SPLITS, Photo
from edgetpu_retrain.runtime.interpreter import Quantization

TRAIN, VALIDATION, TEST = range(3)
# Photos whose embeddings are float32 at once.
_BLOCK = 2_048
# Photos that the principal axes are taken from.
_MAX_FOR_AXES = 16_384
# Directions with less than this part of the mean variance are rounding.
_MIN_VARIANCE = 1e-6


@dataclass(frozen=True)
class LabelledEmbeddings:
    """The embeddings of M photos, and N lines of the manifest with a class and a split for each.

    A photo that lies in the folders of two classes has one embedding and two lines. `len` gives
    the number of lines; `labelled[chosen]`, for a slice, a mask or positions, the dequantized
    embeddings of the chosen lines, float32 [n, D].

    Attributes:
        vectors: [M, D] uint8 or int8, the quantized embeddings.
        hashes: [M, 32] uint8, perceptual hashes (`photos.perceptual_hash`).
        identities: SHA-256 of the M photos in hexadecimal, in the same order, which does not
            depend on the number of shards.
        quantization: what the quantized values stand for.
        extractor: identity (SHA-256) of the extractor's file.
        preprocessing: version of the way from photo to bytes (`preprocessing.version`).
        classes: names of the C classes, sorted.
        rows: [N] int, the row of each line's photo in `vectors`, ascending; lines of the same photo
            are sorted by class.
        labels: [N] int, positions in `classes`.
        splits: [N] int8, positions in `manifest.SPLITS`.
        paths: [N] object (str), where the photos are.
        lines: [N] int, positions in the manifest, not counting photos that could not be decoded.
    """

    vectors: np.ndarray
    hashes: np.ndarray
    identities: Sequence[str]
    quantization: Quantization
    extractor: str
    preprocessing: str
    classes: tuple[str, ...]
    rows: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    paths: np.ndarray
    lines: np.ndarray

    @classmethod
    def load(cls, shards: Iterable[str | Path], photos: Iterable[Photo]) -> "LabelledEmbeddings":
        """Loads the embeddings of all shards, and joins them with the manifest by identity.

        Photos that could not be decoded are left out, and so are embeddings of photos that are not
        listed: what is trained must not depend on photos without a class.

        Args:
            shards: paths of the files that `Embeddings.save` wrote.
            photos: the lines of the manifest.

        Raises:
            UserError: a file is damaged; two shards come from different extractors or
                preprocessings, or hold the same photo; or a listed photo is not embedded.
        """
        merged = _merge([Embeddings.load(path) for path in shards])
        identities = [sha256.decode() for sha256 in merged.photos.tolist()]
        row_of = {sha256: row for row, sha256 in enumerate(identities)}
        undecodable = merged.why_undecodable()
        rows, names, splits, paths = [], [], [], []
        for photo in photos:
            if photo.sha256 not in undecodable:
                rows.append(row_of.get(photo.sha256, -1))
                names.append(photo.label)
                splits.append(SPLITS.index(photo.split))
                paths.append(photo.path)
        if missing := rows.count(-1):
            raise UserError(
                f"{missing} photos are not embedded; delete the folder embeddings/ and run again."
            )
        listed = np.zeros(len(identities), bool)
        listed[rows] = True
        vectors, hashes = merged.embeddings, merged.hashes
        if not listed.all():
            vectors, hashes = vectors[listed], hashes[listed]
            identities = list(itertools.compress(identities, listed.tolist()))
            rows = (np.cumsum(listed) - 1)[rows].tolist()
        classes, labels = np.unique(np.array(names, np.str_), return_inverse=True)
        order = np.lexsort(np.array([splits, labels, rows]))
        return cls(
            vectors,
            hashes,
            identities,
            merged.quantization,
            merged.extractor,
            merged.preprocessing,
            tuple(classes.tolist()),
            np.array(rows, int)[order],
            labels[order],
            np.array(splits, np.int8)[order],
            np.array(paths, object)[order],
            order,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        return self.quantization.dequantize(self.vectors[self.rows[chosen]])

    def take(self, chosen: np.ndarray) -> "LabelledEmbeddings":
        """Returns the lines that a mask [N] bool chooses; the M embeddings stay."""
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            paths=self.paths[chosen],
            lines=self.lines[chosen],
        )

    def listed(self) -> Iterator[tuple[int, Photo]]:
        """Yields each line with its position here, in the manifest's order."""
        for i in np.argsort(self.lines).tolist():
            label, split = self.classes[self.labels[i]], SPLITS[self.splits[i]]
            yield i, Photo(self.paths[i], label, split, self.identities[self.rows[i]])


def _merge(shards: Sequence[Embeddings]) -> Embeddings:
    """Returns the embeddings of all shards as those of one, sorted by identity.

    Raises:
        UserError: two shards come from different extractors or preprocessings, or hold the same
            photo.
    """
    first = shards[0]
    if len({(shard.extractor, shard.preprocessing) for shard in shards}) > 1:
        raise UserError("The embeddings come from different extractors; delete them.")
    photos = np.concatenate([shard.photos for shard in shards])
    # By the digits that decide about a photo's shard (`manifest.shard_of`), then by all.
    order = np.lexsort((photos, photos.view("S16").reshape(-1, 4)[:, 1]))
    photos = photos[order]
    if np.any(photos[1:] == photos[:-1]):
        raise UserError(
            "Two files of embeddings hold the same photo. Delete the folder embeddings/ and run "
            "again."
        )
    embeddings, hashes = (
        np.empty((len(photos), *array.shape[1:]), array.dtype)
        for array in (first.embeddings, first.hashes)
    )
    # Shard by shard: sorting all at once would need a third copy.
    ends = np.cumsum([len(shard.photos) for shard in shards])
    for shard, rows in zip(shards, np.split(np.argsort(order), ends[:-1]), strict=True):
        embeddings[rows], hashes[rows] = shard.embeddings, shard.hashes
    return replace(
        first,
        embeddings=embeddings,
        photos=photos,
        hashes=hashes,
        undecodable=np.concatenate([shard.undecodable for shard in shards]),
        reasons=np.concatenate([shard.reasons for shard in shards]),
    )


@dataclass(frozen=True)
class TrainingData:
    """Labelled embeddings as training takes them: centred, scaled, along their principal axes.

    Attributes:
        vectors: [M, D] uint8 or int8, the quantized embeddings.
        rows: [N] int, which of them is the photo's.
        labels: [N] int, classes.
        folds: [N] int, of the cross-validation.
        ranks: [N] float in (0, 1), for drawing subsets: place within the class.
        num_classes: C.
        mean: [D] float32, of the N quantized vectors.
        spread: root of the mean square distance from the mean.
        axes: [D, K] float32, orthonormal; principal axes of the centred and scaled embeddings.
        variances: [K] float32, of the embeddings along these; their sum is 1.
    """

    vectors: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    ranks: np.ndarray
    num_classes: int
    mean: np.ndarray
    spread: float
    axes: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, labelled: LabelledEmbeddings, folds: np.ndarray) -> "TrainingData":
        """Measures mean, spread and axes, and ranks photos by their order.

        Args:
            labelled: N photos.
            folds: [N] int, their folds.
        """
        vectors, rows, labels = labelled.vectors, labelled.rows, labelled.labels
        total = np.zeros(vectors.shape[1], np.int64)
        squares = 0
        for block in blocks(len(rows), _BLOCK):
            values = vectors[rows[block]].astype(np.int32)
            total += values.sum(axis=0)
            squares += int(np.einsum("ij,ij->", values, values, dtype=np.int64))
        mean = total / len(rows)
        variance = squares / len(rows) - float(np.sum(mean**2))
        ranks = np.empty(len(rows))
        for label in range(len(labelled.classes)):
            chosen = np.flatnonzero(labels == label)
            ranks[chosen] = (np.arange(len(chosen)) + 0.5) / max(len(chosen), 1)
        none = np.empty(0, np.float32)
        data = cls(
            vectors,
            rows,
            labels,
            folds,
            ranks,
            len(labelled.classes),
            mean.astype(np.float32),
            max(variance, 0.0) ** 0.5 or 1.0,
            none,
            none,
        )
        with threads(1):
            axes, variances = _principal_axes(data.sample(_MAX_FOR_AXES))
        return replace(data, axes=axes, variances=variances)

    def sample(self, count: int) -> "TrainingData":
        """Returns at most `count` photos, evenly taken; itself where there are no more."""
        if len(self.rows) <= count:
            return self
        step = -(-len(self.rows) // count)
        return replace(
            self,
            rows=self.rows[::step],
            labels=self.labels[::step],
            folds=self.folds[::step],
            ranks=self.ranks[::step],
        )

    def embeddings(self, chosen: np.ndarray | slice) -> np.ndarray:
        """Returns centred and scaled embeddings of some photos, float32 [n, D]."""
        values = self.vectors[self.rows[chosen]].astype(np.float32)
        values -= self.mean
        values *= np.float32(1 / self.spread)
        return values

    def blocks(self) -> list[slice]:
        """Returns slices of the photos, few enough in each to be float32 at once."""
        return blocks(len(self.rows), _BLOCK)


def _principal_axes(data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """Returns orthonormal directions [D, K] and the variances [K] along them, float32."""
    # Importing the library should not need what only the workflow does.
    import scipy.linalg

    width, count = len(data.mean), len(data.rows)
    if count < width:
        # Fewer photos span fewer directions: those of the products between photos.
        embeddings = data.embeddings(slice(None))
        squares, found = scipy.linalg.eigh(embeddings @ embeddings.T, driver="evd")
    else:
        products = np.zeros((width, width), np.float32)
        for block in data.blocks():
            embeddings = data.embeddings(block)
            products += embeddings.T @ embeddings
        squares, found = scipy.linalg.eigh(products, driver="evd")
    kept = squares > _MIN_VARIANCE * max(squares.mean(), np.finfo(np.float32).tiny)
    squares, found = squares[kept], found[:, kept]
    if count < width:
        found = embeddings.T @ (found / np.sqrt(squares))
    return found, squares / count
