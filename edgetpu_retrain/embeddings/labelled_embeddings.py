"""The embeddings of all photos with their classes and splits, as input for training.

All embeddings are in memory, quantized, with one byte per value.
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
# Photos per block of dequantized embeddings.
_BLOCK = 2_048
# Maximum number of photos to compute the principal axes from.
_MAX_FOR_AXES = 16_384
# Maximum number of float32 values at a time, for wide embeddings: 0.5 GB.
MAX_VALUES = 1 << 27
# Axes with a smaller variance, relative to the mean variance, are rounding errors.
_MIN_VARIANCE = 1e-6


@dataclass(frozen=True)
class LabelledEmbeddings:
    """The embeddings of M photos, and N lines of the manifest with the class and split of each.

    A photo in the folders of two classes has one embedding and two lines. `len` is the number of
    lines. `labelled[chosen]`, for a slice, a mask or indices, is the dequantized embeddings of the
    chosen lines, float32 [n, D].

    Attributes:
        vectors: [M, D] uint8 or int8, quantized embeddings.
        hashes: [M, 32] uint8, perceptual hashes (`photos.perceptual_hash`).
        identities: SHA-256 of the M photos in hexadecimal, in the same order, which does not
            depend on the number of shards.
        quantization: scale and zero point of the embeddings.
        extractor: identity (SHA-256) of the extractor's file.
        preprocessing: version of the preprocessing (`preprocessing.version`).
        classes: names of the C classes, sorted.
        rows: [N] int, row of each line's photo in `vectors`, ascending; lines of the same photo
            are sorted by class.
        labels: [N] int, indices in `classes`.
        splits: [N] int8, indices in `manifest.SPLITS`.
        paths: [N] object (str), paths of the photos.
        lines: [N] int, positions in the manifest without undecodable photos.
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
        """Loads the embeddings of all shards, and joins them with the manifest as `join` does.

        Args:
            shards: paths of files written by `Embeddings.save`.
            photos: the lines of the manifest.

        Raises:
            UserError: a file is damaged; or as for `join`.
        """
        return cls.join([Embeddings.load(path) for path in shards], photos)

    @classmethod
    def join(cls, shards: Sequence[Embeddings], photos: Iterable[Photo]) -> "LabelledEmbeddings":
        """Joins the embeddings of all shards with the manifest by identity.

        Photos that cannot be decoded are left out. So are the embeddings of photos that are not
        listed, because training must not depend on photos without a class.

        Args:
            shards: the embeddings of every photo, in any number of parts.
            photos: the lines of the manifest.

        Raises:
            UserError: two shards are from different extractors or preprocessings, or contain the
                same photo; or a photo has no embedding.
        """
        merged = merge(shards)
        identities = [sha256.decode() for sha256 in merged.photos.tolist()]
        row_of = {sha256: row for row, sha256 in enumerate(identities)}
        undecodable = merged.undecodable_reasons()
        rows, names, splits, paths = [], [], [], []
        for photo in photos:
            if photo.sha256 not in undecodable:
                rows.append(row_of.get(photo.sha256, -1))
                names.append(photo.label)
                splits.append(SPLITS.index(photo.split))
                paths.append(photo.path)
        if missing := rows.count(-1):
            raise UserError(
                f"{missing} {'photo has' if missing == 1 else 'photos have'} no embedding. Delete "
                "the folder embeddings/ and run again."
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

    def select(self, chosen: np.ndarray) -> "LabelledEmbeddings":
        """Returns the lines selected by a mask [N] bool; all M embeddings are kept."""
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            paths=self.paths[chosen],
            lines=self.lines[chosen],
        )

    def are_of(self, identities: Iterable[str]) -> np.ndarray:
        """Returns whether the photo of each line is one of these, bool [N]."""
        wanted = set(identities)
        is_wanted = np.fromiter((one in wanted for one in self.identities), bool)
        return np.asarray(is_wanted[self.rows])

    def in_manifest_order(self) -> Iterator[tuple[int, Photo]]:
        """Yields the index and the photo of each line, in the order of the manifest."""
        for i in np.argsort(self.lines).tolist():
            label, split = self.classes[self.labels[i]], SPLITS[self.splits[i]]
            yield i, Photo(self.paths[i], label, split, self.identities[self.rows[i]])


def merge(shards: Sequence[Embeddings]) -> Embeddings:
    """Merges shards into one, in an order that does not depend on the number of shards.

    Raises:
        UserError: two shards are from different extractors or preprocessings, or contain the same
            photo.
    """
    first = shards[0]
    if len({(shard.extractor, shard.preprocessing) for shard in shards}) > 1:
        raise UserError(
            "The embeddings are from different extractors or preprocessings. Delete the folder "
            "embeddings/ and run again."
        )
    photos = np.concatenate([shard.photos for shard in shards])
    # By the digits that determine a photo's shard (`manifest.shard_of`), then by all digits.
    order = np.lexsort((photos, photos.view("S16").reshape(-1, 4)[:, 1]))
    photos = photos[order]
    if np.any(photos[1:] == photos[:-1]):
        raise UserError(
            "Two files of embeddings contain the same photo. Delete the folder embeddings/ and "
            "run again."
        )
    embeddings, hashes = (
        np.empty((len(photos), *array.shape[1:]), array.dtype)
        for array in (first.embeddings, first.hashes)
    )
    # Copying shard by shard avoids a third copy in memory.
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
    """Labelled embeddings for training, with centring, scaling and principal axes.

    Where there are fewer photos than values in an embedding, training works in the photos' span:
    `embeddings` then gives K coordinates along `span` instead of D values, and `axes` are K
    directions of K values. The optimum of a layer with an L2 penalty is in that span.

    Attributes:
        vectors: [M, D] uint8 or int8, quantized embeddings.
        rows: [N] int, row of each photo in `vectors`.
        labels: [N] int, classes.
        folds: [N] int, folds of the cross-validation; -1 for photos that are never held out.
        ranks: [N] float in (0, 1), rank within the class, for drawing stratified subsets.
        num_classes: number C of classes.
        mean: [D] float32, mean of the N quantized vectors.
        spread: root mean square distance of the quantized vectors from the mean.
        axes: [D, K] float32, orthonormal principal axes of the centred and scaled embeddings.
        variances: [K] float32, variances of the embeddings along the axes; their sum is 1.
        span: [D, K] float32, orthonormal axes of the photos' span; None if it is not used.
        coordinates: [N, K] float32, coordinates of the embeddings along `span`.
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
    span: np.ndarray | None = None
    coordinates: np.ndarray | None = None

    @classmethod
    def of(cls, labelled: LabelledEmbeddings, folds: np.ndarray) -> "TrainingData":
        """Computes mean, spread and principal axes, and ranks photos by their order.

        Args:
            labelled: N photos.
            folds: [N] int, their folds; -1 for photos that are never held out.
        """
        rows, labels, num_classes = labelled.rows, labelled.labels, len(labelled.classes)
        return cls.of_vectors(labelled.vectors, rows, labels, folds, num_classes)

    @classmethod
    def of_vectors(
        cls,
        vectors: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        folds: np.ndarray,
        num_classes: int,
    ) -> "TrainingData":
        """Does what `of` does for photos whose attributes are given one by one."""
        total = np.zeros(vectors.shape[1], np.int64)
        squares = 0
        for block in blocks(len(rows), _BLOCK):
            values = vectors[rows[block]].astype(np.int32)
            total += values.sum(axis=0)
            squares += int(np.einsum("ij,ij->", values, values, dtype=np.int64))
        mean = total / len(rows)
        variance = squares / len(rows) - float(np.sum(mean**2))
        ranks = _ranks(labels)
        unknown = np.empty(0, np.float32)
        data = cls(
            vectors,
            rows,
            labels,
            folds,
            ranks,
            num_classes,
            mean.astype(np.float32),
            max(variance, 0.0) ** 0.5 or 1.0,
            unknown,
            unknown,
        )
        with threads(1):
            count = min(_MAX_FOR_AXES, MAX_VALUES // data.width)
            axes, variances = _principal_axes(data.sample(count))
            if axes.shape[1] >= data.width or min(count, len(rows)) >= data.width:
                return replace(data, axes=axes, variances=variances)
            coordinates = [data.embeddings(block) @ axes for block in data.blocks()]
        return replace(
            data,
            axes=np.eye(axes.shape[1], dtype=np.float32),
            variances=variances,
            span=axes,
            coordinates=np.concatenate(coordinates),
        )

    @classmethod
    def of_coordinates(
        cls, coordinates: np.ndarray, labels: np.ndarray, folds: np.ndarray, num_classes: int
    ) -> "TrainingData":
        """Takes coordinates, [N, K] float32, for embeddings as they are."""
        width = coordinates.shape[1]
        return cls(
            coordinates,
            np.arange(len(labels)),
            labels,
            folds,
            _ranks(labels),
            num_classes,
            np.zeros(width, np.float32),
            1.0,
            np.eye(width, dtype=np.float32),
            coordinates.var(axis=0),
            coordinates=coordinates,
        )

    @property
    def width(self) -> int:
        """D, values in an embedding."""
        return len(self.mean)

    @property
    def scored(self) -> np.ndarray:
        """Indices of the photos that are held out by one of the folds."""
        return np.flatnonzero(self.folds >= 0)

    def sample(self, count: int) -> "TrainingData":
        """Returns every k-th photo so that at most `count` remain; all photos if k is 1."""
        if len(self.rows) <= count:
            return self
        return self.select(slice(None, None, -(-len(self.rows) // count)))

    def select(self, chosen: np.ndarray | slice) -> "TrainingData":
        """Returns the chosen photos, centred and scaled like all of them."""
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            folds=self.folds[chosen],
            ranks=self.ranks[chosen],
            coordinates=None if self.coordinates is None else self.coordinates[chosen],
        )

    def embeddings(self, chosen: np.ndarray | slice) -> np.ndarray:
        """Returns the centred and scaled embeddings of the chosen photos, float32 [n, D].

        With a `span`, they are coordinates, [n, K].
        """
        if self.coordinates is not None:
            return self.coordinates[chosen]
        return self.normalized(self.vectors[self.rows[chosen]])

    def normalized(self, vectors: np.ndarray) -> np.ndarray:
        """Centres and scales quantized embeddings [n, D], of these or other photos, to float32."""
        values: np.ndarray = vectors.astype(np.float32)
        values -= self.mean
        values *= np.float32(1 / self.spread)
        return values

    def weights(self, weights: np.ndarray) -> np.ndarray:
        """Returns a layer's weights over embeddings [D, C], from those over what it was given."""
        return weights if self.span is None else self.span @ weights

    def blocks(self) -> list[slice]:
        """Returns slices of the photos, small enough to convert to float32 one at a time."""
        return blocks(len(self.rows), _BLOCK)


def _ranks(labels: np.ndarray) -> np.ndarray:
    """Returns [N] float in (0, 1), the rank of each photo within its class."""
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        ranks[chosen] = (np.arange(len(chosen)) + 0.5) / len(chosen)
    return ranks


def _principal_axes(data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """Returns orthonormal axes [D, K] and the variances [K] along them, float32."""
    # Imported here because only the workflow depends on it.
    import scipy.linalg

    width, count = len(data.mean), len(data.rows)
    if count < width:
        # The Gram matrix of the photos is smaller and has the same nonzero eigenvalues.
        embeddings = data.embeddings(slice(None))
        eigenvalues, vectors = scipy.linalg.eigh(embeddings @ embeddings.T, driver="evd")
    else:
        products = np.zeros((width, width), np.float32)
        for block in data.blocks():
            embeddings = data.embeddings(block)
            products += embeddings.T @ embeddings
        eigenvalues, vectors = scipy.linalg.eigh(products, driver="evd")
    kept = eigenvalues > _MIN_VARIANCE * max(eigenvalues.mean(), np.finfo(np.float32).tiny)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    if count < width:
        vectors = embeddings.T @ (vectors / np.sqrt(eigenvalues))
    return vectors, eigenvalues / count
