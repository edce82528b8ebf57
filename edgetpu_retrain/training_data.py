"""Quantized embeddings as training takes them: centred, scaled, along their principal axes."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetpu_retrain.rows import ByRows

# A map, perhaps of several threads.
Run = Callable[..., Iterable[Any]]

_PART = 2_048
# Photos that the principal axes are taken from.
_MAX_FOR_AXES = 16_384
# Directions with less than this part of the mean variance are rounding.
_MIN_VARIANCE = 1e-6


@dataclass(frozen=True)
class Data:
    """Quantized embeddings of N photos with classes, read a batch at a time.

    Attributes:
        vectors: [M, D] uint8 or int8.
        rows: [N] int, which vector is the photo's.
        labels: [N] int, classes.
        folds: [N] int, of the cross-validation.
        ranks: [N] float in (0, 1), for drawing subsets: place within the class.
        num_classes: C.
        mean: [D] float32, of the N quantized vectors.
        spread: root of the mean square distance from the mean.
        axes: [D, K] float32, orthonormal; principal axes of the centred and scaled embeddings.
        variances: [K] float32, of the embeddings along these; their sum is 1.
    """

    vectors: ByRows
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
    def of(
        cls,
        vectors: ByRows,
        rows: np.ndarray,
        labels: np.ndarray,
        folds: np.ndarray,
        num_classes: int,
    ) -> "Data":
        """Measures mean, spread and axes, and ranks photos by their order."""
        total = np.zeros(vectors.shape[1], np.int64)
        squares = 0
        for start in range(0, len(rows), _PART):
            part = vectors[rows[start : start + _PART]].astype(np.int32)
            total += part.sum(axis=0)
            squares += int(np.einsum("ij,ij->", part, part, dtype=np.int64))
        mean = total / len(rows)
        variance = squares / len(rows) - float(np.sum(mean**2))
        ranks = np.empty(len(rows))
        for label in range(num_classes):
            chosen = np.flatnonzero(labels == label)
            ranks[chosen] = (np.arange(len(chosen)) + 0.5) / max(len(chosen), 1)
        none = np.empty(0, np.float32)
        data = cls(
            vectors,
            rows,
            labels,
            folds,
            ranks,
            num_classes,
            mean.astype(np.float32),
            max(variance, 0.0) ** 0.5 or 1.0,
            none,
            none,
        )
        with threads(1):
            axes, variances = _principal_axes(data.sample(_MAX_FOR_AXES))
        return replace(data, axes=axes, variances=variances)

    def sample(self, count: int) -> "Data":
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
        found = self.vectors[self.rows[chosen]].astype(np.float32)
        found -= self.mean
        found *= np.float32(1 / self.spread)
        return found

    def parts(self) -> list[slice]:
        """Returns slices of the photos that fit into memory as float32."""
        return cut(slice(0, len(self.rows)), _PART)


def _principal_axes(data: Data) -> tuple[np.ndarray, np.ndarray]:
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
        for part in data.parts():
            embeddings = data.embeddings(part)
            products += embeddings.T @ embeddings
        squares, found = scipy.linalg.eigh(products, driver="evd")
    kept = squares > _MIN_VARIANCE * max(squares.mean(), np.finfo(np.float32).tiny)
    squares, found = squares[kept], found[:, kept]
    if count < width:
        found = embeddings.T @ (found / np.sqrt(squares))
    return found, squares / count


def cut(part: slice, length: int) -> list[slice]:
    """Divides a slice into slices of at most this length."""
    return [
        slice(start, min(start + length, part.stop))
        for start in range(part.start, part.stop, length)
    ]


@contextlib.contextmanager
def threads(count: int) -> Iterator[Run]:
    """Gives a `map` that calls its function in `count` threads, each with one thread for sums."""
    # Importing the library should not need what only the workflow does. What threadpoolctl limits
    # has to be loaded before.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    # The order of a sum, and so its last bits, depends on the number of threads of a product.
    with threadpool_limits(1), ThreadPoolExecutor(count) as pool:
        yield pool.map
