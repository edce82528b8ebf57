"""Find near-copies among photos: the same picture re-encoded, resized, brightened, cropped.

A photo's perceptual hash tells re-encoded, resized and brightened copies, its embedding tells
crops; neither is enough alone. Both are compared as they differ from the data set's mean, so that
a background which all photos share says nothing.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.labelled_embeddings import MAX_VALUES
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import l2_normalize
from edgetpu_retrain.io import tables
from edgetpu_retrain.photos.perceptual_hash import HASH_BYTES

log = logging.getLogger(__name__)

_GROUP_COLUMNS = ("sha256", "group")
# Two photos are near-copies where 100 * cosine + 128 * correlation of hash bits is 108 or more
# (128 * (1 - correlation) is the number of bits that differ). Measured on 1,000 flower photos and
# 334 of them changed, with MobileNet v1: `benchmarks/near_copies.py`.
_COSINE_WEIGHT = 100.0
_HASH_WEIGHT = 128.0
_LIKENESS = 108.0
# The comparison of all pairs begins with this many principal components.
_COMPONENTS = 128
_SAMPLE = 10_000
# Photos that are compared with as many others at once.
_BLOCK = 1_024
# Pairs that are compared exactly at once, and near-copies that are joined to groups at once.
_PAIRS, _JOINED = 512, 2_048
# Above it the pairs are too many to compare; only photos of the same hash are grouped.
_MAX_COMPARED = 200_000
# A group larger than this part of all photos means that all of them look alike.
_MAX_GROUP = 0.2
_MIN_LARGE_GROUP = 20


def near_copies(
    embeddings: np.ndarray, hashes: np.ndarray, num_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Finds all pairs of photos that are near-copies of one another.

    Args:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        hashes: [N, 32] uint8, as `perceptual_hash` gives them.
        num_threads: how many run at once; the result does not depend on it.

    Returns:
        pairs [M, 2] int, the lower position first, and their likeness [M] float64: 0 at the
        threshold, 1 for the same picture.
    """
    found, scores = [np.empty((0, 2), int)], [np.empty(0)]
    comparison = _Comparison(embeddings, hashes)
    for pairs in comparison.candidates(num_threads):
        score = comparison.scores(pairs)
        found.append(pairs[score >= _LIKENESS])
        scores.append(score[score >= _LIKENESS])
    highest = _COSINE_WEIGHT + _HASH_WEIGHT
    return np.concatenate(found), (np.concatenate(scores) - _LIKENESS) / (highest - _LIKENESS)


def groups(embeddings: np.ndarray, hashes: np.ndarray, num_threads: int = 1) -> np.ndarray:
    """Numbers the groups of near-copies; most photos are a group of one.

    Where all photos look alike (a group holds a fifth of them), or where there are more than
    200,000, only photos of the same hash share a group.

    Args:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        hashes: [N, 32] uint8, as `perceptual_hash` gives them.
        num_threads: how many run at once; the result does not depend on it.

    Returns:
        [N] int32, the number of every photo's group, in the order of first appearance.
    """
    count = len(embeddings)
    if count <= _MAX_COMPARED:
        most = max(_MIN_LARGE_GROUP, _MAX_GROUP * count)
        found = _joined(_Comparison(embeddings, hashes), most, num_threads)
        if found is not None:
            return found
    as_one = np.ascontiguousarray(hashes).view(f"S{HASH_BYTES}")[:, 0]
    _, first, same = np.unique(as_one, return_index=True, return_inverse=True)
    return np.unique(first[same], return_inverse=True)[1].astype(np.int32)


def _joined(comparison: "_Comparison", most: float, num_threads: int) -> np.ndarray | None:
    """Returns the groups that near-copies make; None where one has `most` photos or more."""
    # Importing the library should not need what only the workflow does.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(comparison)
    numbers = np.arange(count, dtype=np.int32)
    waiting: list[np.ndarray] = []

    def join() -> np.ndarray:
        edges = numbers[np.concatenate(waiting)]
        graph = coo_array((np.ones(len(edges), bool), edges.T), shape=(count, count))
        waiting.clear()
        return connected_components(graph, directed=False)[1][numbers]

    for candidates in comparison.candidates(num_threads):
        # Where many photos look alike, most pairs say nothing new.
        pairs = candidates[numbers[candidates[:, 0]] != numbers[candidates[:, 1]]]
        waiting.append(pairs[comparison.scores(pairs) >= _LIKENESS])
        if sum(map(len, waiting)) >= _JOINED:
            numbers = join()
            if np.bincount(numbers).max() >= most:
                break
    if waiting:
        numbers = join()
    largest = np.bincount(numbers).max(initial=0)
    if largest < most:
        return numbers
    log.warning(
        "%d of %d photos look alike, or more; only those of the same picture are taken for copies",
        largest,
        count,
    )
    return None


def write_groups(identities: Sequence[str], groups: np.ndarray, path: str | Path) -> None:
    """Writes the number of every photo's group, by identity.

    Args:
        identities: of N photos, SHA-256 in hexadecimal.
        groups: [N] int.
        path: of the table.
    """
    rows = zip(identities, map(str, groups.tolist()), strict=True)
    tables.write(path, _GROUP_COLUMNS, rows)


def read_groups(path: str | Path, identities: Sequence[str]) -> np.ndarray:
    """Returns the number of every photo's group, int32 [N], as `write_groups` wrote them.

    Raises:
        UserError: they are of other photos.
    """
    rows = list(tables.read(path, _GROUP_COLUMNS))
    if [sha256 for sha256, _ in rows] != list(identities):
        raise UserError(f"{path} is of other photos. Delete it and run again.")
    return np.array([int(group) for _, group in rows], np.int32)


class _Comparison:
    """The likeness of pairs of N photos, and which pairs may be near-copies."""

    def __init__(self, embeddings: np.ndarray, hashes: np.ndarray):
        self._embeddings, self._hashes = embeddings, hashes
        count = max(len(embeddings), 1)
        self._mean = embeddings.sum(axis=0) / count
        self._bit_mean = np.unpackbits(hashes, axis=1).sum(axis=0) / count

    def __len__(self) -> int:
        return len(self._embeddings)

    def _directions(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings and the hashes of photos, of length 1."""
        bits = np.unpackbits(self._hashes[rows], axis=1)
        return l2_normalize(self._embeddings[rows] - self._mean), l2_normalize(
            bits - self._bit_mean
        )

    def scores(self, pairs: np.ndarray) -> np.ndarray:
        """Returns the likeness [n] of pairs [n, 2], as the thresholds have it."""
        found = np.empty(len(pairs))
        for block in blocks(len(pairs), _PAIRS):
            first, second = (self._directions(rows) for rows in pairs[block].T)
            cosine, correlation = (
                np.sum(a * b, axis=1) for a, b in zip(first, second, strict=True)
            )
            found[block] = _COSINE_WEIGHT * cosine + _HASH_WEIGHT * correlation
        return found

    def candidates(self, num_threads: int) -> Iterator[np.ndarray]:
        """Yields some pairs [n, 2] at a time whose bound reaches the threshold."""
        if len(self) < 2:
            return
        # Rounding must not lose a pair.
        threshold = np.float32(_LIKENESS - 0.01)
        parts = blocks(len(self), _BLOCK)
        with threads(num_threads) as run:
            bounds = self._bounds()

            def compare(first: slice, second: slice) -> np.ndarray:
                return np.flatnonzero(bounds[first] @ bounds[second].T >= threshold)

            for i, first in enumerate(parts):
                # Few at a time, as every pair may be wanted.
                for j in range(i, len(parts), num_threads):
                    others = parts[j : j + num_threads]
                    found = run(compare, itertools.repeat(first), others)
                    for second, flat in zip(others, found, strict=True):
                        for some in blocks(len(flat), _JOINED):
                            rows, columns = np.divmod(flat[some], second.stop - second.start)
                            pairs = np.stack([rows + first.start, columns + second.start], axis=1)
                            yield pairs[pairs[:, 0] < pairs[:, 1]]

    def _bounds(self) -> np.ndarray:
        """Returns float32 [N, P + 1 + 256]; the product of two rows is at least the pair's score.

        The embedding stands there with its first principal components and the length of the rest:
        by Cauchy and Schwarz, the rests' product is at most that of their lengths.
        """
        basis = self._basis()
        components = basis.shape[1]
        bounds = np.empty((len(self), components + 1 + 8 * HASH_BYTES), np.float32)
        for block in blocks(len(self), _BLOCK):
            directions, bits = self._directions(block)
            directions = directions.astype(np.float32)
            projected = directions @ basis
            directions -= projected @ basis.T
            bounds[block, :components] = projected
            bounds[block, components] = np.linalg.norm(directions, axis=1)
            bounds[block, components + 1 :] = bits * _HASH_WEIGHT**0.5
        bounds[:, : components + 1] *= _COSINE_WEIGHT**0.5
        return bounds

    def _basis(self) -> np.ndarray:
        """Returns the first principal components [D, P] of a sample."""
        # Importing the library should not need what only the workflow does.
        import scipy.linalg

        width = self._embeddings.shape[1]
        rows = np.arange(0, len(self), -(-len(self) // min(_SAMPLE, MAX_VALUES // width)))
        if len(rows) < width:
            # Fewer photos span fewer directions: those of the products between photos.
            directions = self._directions(rows)[0].astype(np.float32)
            last = (max(len(rows) - _COMPONENTS, 0), len(rows) - 1)
            found = scipy.linalg.eigh(directions @ directions.T, subset_by_index=last)[1]
            return np.linalg.qr(directions.T @ found)[0]
        products = np.zeros((width, width), np.float32)
        for block in blocks(len(rows), _BLOCK):
            directions = self._directions(rows[block])[0].astype(np.float32)
            products += directions.T @ directions
        last = (max(width - _COMPONENTS, 0), width - 1)
        return scipy.linalg.eigh(products, subset_by_index=last)[1]
