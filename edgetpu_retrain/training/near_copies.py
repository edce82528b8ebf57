"""Find near-copies among photos: the same picture re-encoded, resized, brightened or cropped.

Perceptual hashes detect re-encoded, resized and brightened copies, embeddings detect crops; neither
is enough alone. The mean over the dataset is subtracted from both before they are compared, so that
a background common to all photos has no effect.
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
# Two photos are near-copies if 100 * cosine + 128 * correlation of hash bits is at least 108
# (128 * (1 - correlation) is the number of different bits). Measured on 1,000 flower photos and 334
# modified copies, with MobileNet v1: `benchmarks/near_copies.py`.
_COSINE_WEIGHT = 100.0
_HASH_WEIGHT = 128.0
_MIN_SIMILARITY = 108.0
# The correlation of hash bits of near-copies where embeddings say nothing. No two of 500 flower
# photos reach 0.3; nearly all resized or brightened copies reach 0.8, most of those cropped by 5 %
# of their sides 0.6.
_MIN_CORRELATION = 0.6
# Principal components of the embeddings in the first, approximate comparison of all pairs.
_COMPONENTS = 128
# Photos to compute the principal components from.
_SAMPLE = 10_000
# Photos per block; all pairs of two blocks are compared at once.
_BLOCK = 1_024
# Pairs per block in the exact comparison, and near-copies joined into groups at once.
_PAIRS, _JOINED = 512, 2_048
# With more photos, only photos with equal hashes are grouped, because there are too many pairs.
_MAX_COMPARED = 200_000
# If a group has at least this share of all photos, the photos look too similar to be told apart.
_MAX_GROUP = 0.2
_MIN_LARGE_GROUP = 20


def near_copies(
    embeddings: np.ndarray, hashes: np.ndarray, num_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Finds all pairs of photos that are near-copies of each other.

    Args:
        embeddings: [N, D] uint8 or int8, output of the extractor.
        hashes: [N, 32] uint8, results of `perceptual_hash`.
        num_threads: number of threads; the result does not depend on it.

    Returns:
        Pairs [M, 2] int of indices, the lower one first, and their similarities [M] float64, from 0
        at the threshold to 1 for identical pictures.
    """
    near_pairs, scores = [np.empty((0, 2), int)], [np.empty(0)]
    comparison = _Comparison(embeddings, hashes)
    for pairs in comparison.candidates(num_threads):
        score = comparison.scores(pairs)
        near_pairs.append(pairs[score >= _MIN_SIMILARITY])
        scores.append(score[score >= _MIN_SIMILARITY])
    highest = _COSINE_WEIGHT + _HASH_WEIGHT
    similarities = (np.concatenate(scores) - _MIN_SIMILARITY) / (highest - _MIN_SIMILARITY)
    return np.concatenate(near_pairs), similarities


def groups(embeddings: np.ndarray | None, hashes: np.ndarray, num_threads: int = 1) -> np.ndarray:
    """Groups near-copies, and numbers the groups; a photo without near-copies is its own group.

    If all photos look alike (a group has at least a fifth of them, and at least 20), or if there
    are more than 200,000 photos, only photos with equal hashes are grouped.

    Args:
        embeddings: [N, D] uint8 or int8, output of the extractor; None to compare hashes only.
        hashes: [N, 32] uint8, results of `perceptual_hash`.
        num_threads: number of threads; the result does not depend on it.

    Returns:
        [N] int32, the group of each photo, numbered by first appearance.
    """
    count = len(hashes)
    if count <= _MAX_COMPARED:
        limit = max(_MIN_LARGE_GROUP, _MAX_GROUP * count)
        numbers = _connected_groups(_Comparison(embeddings, hashes), limit, num_threads)
        if numbers is not None:
            return numbers
    hash_strings = np.ascontiguousarray(hashes).view(f"S{HASH_BYTES}")[:, 0]
    _, first, inverse = np.unique(hash_strings, return_index=True, return_inverse=True)
    return np.unique(first[inverse], return_inverse=True)[1].astype(np.int32)


def _connected_groups(
    comparison: "_Comparison", limit: float, num_threads: int
) -> np.ndarray | None:
    """Returns the connected components of near-copies; None if one has `limit` photos or more."""
    # Imported here because only the workflow depends on it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(comparison)
    numbers = np.arange(count, dtype=np.int32)
    pending: list[np.ndarray] = []

    def join() -> np.ndarray:
        edges = numbers[np.concatenate(pending)]
        graph = coo_array((np.ones(len(edges), bool), edges.T), shape=(count, count))
        pending.clear()
        return np.asarray(connected_components(graph, directed=False)[1][numbers])

    for candidates in comparison.candidates(num_threads):
        # If many photos look alike, most pairs are already in the same group.
        pairs = candidates[numbers[candidates[:, 0]] != numbers[candidates[:, 1]]]
        pending.append(pairs[comparison.scores(pairs) >= comparison.threshold])
        if sum(map(len, pending)) >= _JOINED:
            numbers = join()
            if np.bincount(numbers).max() >= limit:
                break
    if pending:
        numbers = join()
    largest = np.bincount(numbers).max(initial=0)
    if largest < limit:
        return numbers
    log.warning(
        "At least %d of %d photos look alike; only those with equal hashes are grouped",
        largest,
        count,
    )
    return None


def write_groups(identities: Sequence[str], groups: np.ndarray, path: str | Path) -> None:
    """Writes the group of each photo to a .tsv file.

    Args:
        identities: SHA-256 of the N photos in hexadecimal.
        groups: [N] int, groups of near-copies.
        path: path of the file.
    """
    rows = zip(identities, map(str, groups.tolist()), strict=True)
    tables.write(path, _GROUP_COLUMNS, rows)


def read_groups(path: str | Path, identities: Sequence[str]) -> np.ndarray:
    """Reads the group of each photo, int32 [N], from a file written by `write_groups`.

    Raises:
        UserError: the file is damaged, or has other photos than `identities`.
    """
    rows = list(tables.read(path, _GROUP_COLUMNS))
    if [sha256 for sha256, _ in rows] != list(identities):
        raise UserError(f"{path} was made from different photos. Delete it and run again.")
    return np.array([int(group) for _, group in rows], np.int32)


class _Comparison:
    """Compares pairs of N photos.

    Attributes:
        threshold: the similarity of near-copies.
    """

    def __init__(self, embeddings: np.ndarray | None, hashes: np.ndarray):
        self.threshold = _MIN_SIMILARITY
        if embeddings is None:
            # The cosine of two zeros is taken for 0, so it adds nothing.
            embeddings = np.zeros((len(hashes), 1), np.uint8)
            self.threshold = _HASH_WEIGHT * _MIN_CORRELATION
        self._embeddings, self._hashes = embeddings, hashes
        count = max(len(embeddings), 1)
        self._mean = embeddings.sum(axis=0) / count
        self._bit_mean = np.unpackbits(hashes, axis=1).sum(axis=0) / count

    def __len__(self) -> int:
        return len(self._embeddings)

    def _directions(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings and hash bits of photos, centred and scaled to unit norm."""
        bits = np.unpackbits(self._hashes[rows], axis=1)
        return l2_normalize(self._embeddings[rows] - self._mean), l2_normalize(
            bits - self._bit_mean
        )

    def scores(self, pairs: np.ndarray) -> np.ndarray:
        """Returns the similarities [n] of pairs [n, 2], on the scale of `threshold`."""
        scores = np.empty(len(pairs))
        for block in blocks(len(pairs), _PAIRS):
            first, second = (self._directions(rows) for rows in pairs[block].T)
            cosine, correlation = (
                np.sum(a * b, axis=1) for a, b in zip(first, second, strict=True)
            )
            scores[block] = _COSINE_WEIGHT * cosine + _HASH_WEIGHT * correlation
        return scores

    def candidates(self, num_threads: int) -> Iterator[np.ndarray]:
        """Yields batches of pairs [n, 2] that may be near-copies, by an upper bound of scores."""
        if len(self) < 2:
            return
        # The margin prevents float32 rounding from excluding a pair.
        threshold = np.float32(self.threshold - 0.01)
        parts = blocks(len(self), _BLOCK)
        with threads(num_threads) as parallel_map:
            bounds = self._bounds()

            def compare(first: slice, second: slice) -> np.ndarray:
                return np.flatnonzero(bounds[first] @ bounds[second].T >= threshold)

            for i, first in enumerate(parts):
                # A few blocks at a time, because every pair may be a candidate.
                for j in range(i, len(parts), num_threads):
                    others = parts[j : j + num_threads]
                    results = parallel_map(compare, itertools.repeat(first), others)
                    for second, flat in zip(others, results, strict=True):
                        for batch in blocks(len(flat), _JOINED):
                            rows, columns = np.divmod(flat[batch], second.stop - second.start)
                            pairs = np.stack([rows + first.start, columns + second.start], axis=1)
                            yield pairs[pairs[:, 0] < pairs[:, 1]]

    def _bounds(self) -> np.ndarray:
        """Returns float32 [N, P + 1 + 256]; the dot product of two rows bounds their score above.

        Embeddings are represented by P principal components and the norm of the residual: by the
        Cauchy-Schwarz inequality, the dot product of two residuals is at most the product of their
        norms.
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
        """Returns the first principal axes [D, P] of a sample of the embeddings."""
        # Imported here because only the workflow depends on it.
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
        return np.asarray(scipy.linalg.eigh(products, subset_by_index=last)[1])
