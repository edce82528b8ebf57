"""Find near-copies among photos: the same picture re-encoded, resized, brightened, cropped.

A photo's perceptual hash tells re-encoded, resized and brightened copies, its embedding tells
crops; neither is enough alone. Both are compared as they differ from the data set's mean, so that
a background which all photos share says nothing.
"""

import logging
from pathlib import Path

import numpy as np
from PIL import Image

from edgetpu_retrain import files, tables
from edgetpu_retrain.head import unit

log = logging.getLogger(__name__)

_GROUP_COLUMNS = ("sha256", "group")
HASH_BYTES = 32
_HASH_SIDE = 16
# Two photos are near-copies where 100 * cosine + 128 * correlation of hash bits is 108 or more
# (128 * (1 - correlation) is the number of bits that differ). Measured on 1,000 flower photos and
# 334 of them changed, with MobileNet v1: `benchmarks/near_copies.py`.
_COSINE_WEIGHT = 100.0
_HASH_WEIGHT = 128.0
_LIKENESS = 108.0
# The comparison of all pairs begins with this many principal components.
_COMPONENTS = 128
_SAMPLE = 10_000
_BLOCK = 2_048
# Above it the pairs are too many to compare; only photos of the same hash are grouped.
_MAX_COMPARED = 200_000
# A group larger than this part of all photos means that all of them look alike.
_MAX_GROUP = 0.2
_MIN_LARGE_GROUP = 20


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Returns the 256-bit DCT hash of a picture, as uint8 [32].

    >>> perceptual_hash(Image.new("RGB", (8, 8))).shape
    (32,)
    """
    # Importing the library should not need what only the workflow does.
    import imagehash

    # imagehash would resize with Lanczos, which takes twice as long and finds the same copies.
    side = 4 * _HASH_SIDE
    small = image.convert("L").resize((side, side), Image.Resampling.BILINEAR)
    return np.packbits(imagehash.phash(small, _HASH_SIDE, highfreq_factor=4).hash.reshape(-1))


def near_copies(embeddings: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds all pairs of photos that are near-copies of one another.

    Args:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        hashes: [N, 32] uint8, as `perceptual_hash` gives them.

    Returns:
        pairs [M, 2] int, the lower position first, and their likeness [M] float64: 0 at the
        threshold, 1 for the same picture.
    """
    # Importing the library should not need what only the workflow does.
    from threadpoolctl import threadpool_limits

    if len(embeddings) < 2:
        return np.empty((0, 2), int), np.empty(0)
    mean = embeddings.mean(axis=0, dtype=np.float64)
    bit_mean = np.unpackbits(hashes, axis=1).mean(axis=0)
    with threadpool_limits():
        bounds = _bounds(embeddings, hashes, mean, bit_mean)
        candidates = _candidates(bounds)
    likeness = np.empty(len(candidates))
    for start in range(0, len(candidates), _BLOCK):
        pairs = candidates[start : start + _BLOCK]
        score = np.zeros(len(pairs))
        for weight, side in (
            (_COSINE_WEIGHT, lambda i: unit(embeddings[i] - mean)),
            (_HASH_WEIGHT, lambda i: unit(np.unpackbits(hashes[i], axis=1) - bit_mean)),
        ):
            score += weight * np.sum(side(pairs[:, 0]) * side(pairs[:, 1]), axis=1)
        likeness[start : start + _BLOCK] = score
    near = likeness >= _LIKENESS
    highest = _COSINE_WEIGHT + _HASH_WEIGHT
    return candidates[near], (likeness[near] - _LIKENESS) / (highest - _LIKENESS)


def groups(embeddings: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Numbers the groups of near-copies; most photos are a group of one.

    Where all photos look alike (a group holds a fifth of them), or where there are more than
    200,000, only photos of the same hash share a group.

    Args:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        hashes: [N, 32] uint8, as `perceptual_hash` gives them.

    Returns:
        [N] int, the number of every photo's group, in the order of first appearance.
    """
    # Importing the library should not need what only the workflow does.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(embeddings)
    if count <= _MAX_COMPARED:
        pairs, _ = near_copies(embeddings, hashes)
        graph = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
        _, found = connected_components(graph, directed=False)
        largest = np.bincount(found).max(initial=0)
        if largest < max(_MIN_LARGE_GROUP, _MAX_GROUP * count):
            return found
        log.warning(
            "%d of %d photos look alike; only those of the same picture are taken for copies",
            largest,
            count,
        )
    _, first, same = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    return np.unique(first[same.reshape(-1)], return_inverse=True)[1]


def write_groups(identities: np.ndarray, groups: np.ndarray, path: str | Path) -> None:
    """Writes the number of every photo's group, by identity."""
    rows = zip(identities.astype(str).tolist(), map(str, groups.tolist()), strict=True)
    with files.replacing(path) as temporary:
        temporary.write_bytes(tables.to_tsv(_GROUP_COLUMNS, rows))


def read_groups(path: str | Path) -> dict[str, int]:
    """Reads what `write_groups` wrote."""
    return {sha256: int(group) for sha256, group in tables.read(path, _GROUP_COLUMNS)}


def _bounds(
    embeddings: np.ndarray, hashes: np.ndarray, mean: np.ndarray, bit_mean: np.ndarray
) -> np.ndarray:
    """Returns float32 [N, P + 1 + 256]; the product of two rows is at least the pair's score.

    The embedding stands there with its first principal components and the length of the rest:
    by Cauchy and Schwarz, the rests' product is at most that of their lengths.
    """
    # Importing the library should not need what only the workflow does.
    from threadpoolctl import threadpool_limits

    width = embeddings.shape[1]
    components = min(_COMPONENTS, width)
    step = -(-len(embeddings) // _SAMPLE)
    sample = unit(embeddings[::step] - mean).astype(np.float32)
    # More threads than one wait for one another here, longer than they work.
    with threadpool_limits(1):
        basis = np.linalg.eigh(sample.T @ sample)[1][:, width - components :]
    rows = np.empty((len(embeddings), components + 1 + 8 * HASH_BYTES), np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        directions = unit(embeddings[block] - mean).astype(np.float32)
        main = directions @ basis
        rest = np.linalg.norm(directions - main @ basis.T, axis=1)
        rows[block, :components] = main
        rows[block, components] = rest
        rows[block, : components + 1] *= _COSINE_WEIGHT**0.5
        bits = unit(np.unpackbits(hashes[block], axis=1) - bit_mean)
        rows[block, components + 1 :] = bits * _HASH_WEIGHT**0.5
    return rows


def _candidates(bounds: np.ndarray) -> np.ndarray:
    """Returns the pairs [M, 2] whose bound reaches the threshold."""
    # Rounding must not lose a pair.
    threshold = np.float32(_LIKENESS - 0.01)
    found = [np.empty((0, 2), int)]
    for i in range(0, len(bounds), _BLOCK):
        for j in range(i, len(bounds), _BLOCK):
            scores = bounds[i : i + _BLOCK] @ bounds[j : j + _BLOCK].T
            pairs = np.argwhere(scores >= threshold) + np.array([i, j])
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)
