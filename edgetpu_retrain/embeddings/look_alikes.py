"""Photos that look alike, by the directions of their embeddings from the mean of all."""

from collections.abc import Iterator

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.head import l2_normalize

_COMPONENTS = 128
# Photos that the principal axes are computed from.
_MAX_FOR_AXES = 16_384
# k-means++ chooses better starting points, but takes a minute for many groups.
_MOST_SPREAD = 64
_BLOCK = 2_048
# The fraction of the labelled photos that counts as far from all others.
_FAR = 0.05


def directions(vectors: np.ndarray) -> np.ndarray:
    """Returns unit vectors in which look-alikes are close: normalized principal components.

    Args:
        vectors: [N, D] uint8 or int8, the quantized embeddings.

    Returns:
        [N, K] float32; K is 128, or fewer with few photos.
    """
    # Importing the library should not need what only the workflow does.
    import scipy.linalg

    sampled = sample(vectors, _MAX_FOR_AXES)
    mean = sampled.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = vectors.shape[1]
    products = np.zeros((width, width), np.float32)
    for block in blocks(len(sampled), _BLOCK):
        values = sampled[block] - mean
        products += values.T @ values
    first = max(width - min(_COMPONENTS, len(vectors)), 0)
    axes = scipy.linalg.eigh(products, subset_by_index=(first, width - 1))[1]
    return np.concatenate(
        [l2_normalize((vectors[block] - mean) @ axes) for block in blocks(len(vectors), _BLOCK)]
    ).astype(np.float32)


def sample(rows: np.ndarray, most: int) -> np.ndarray:
    """Returns every k-th row, at most `most` rows in all."""
    return rows[:: max(-(-len(rows) // most), 1)]


def look_alikes(places: np.ndarray, count: int) -> np.ndarray:
    """Divides photos into groups with k-means; deterministic.

    Args:
        places: [N, K] float32, from `directions`.
        count: number of groups.

    Returns:
        [N] int, the group of every photo.
    """
    # Importing the library should not need what only the workflow does.
    from sklearn.cluster import KMeans

    count = min(count, len(places))
    if count < 2:
        return np.zeros(len(places), int)
    start = "k-means++" if count <= _MOST_SPREAD else "random"
    # The order of a sum, and so its last bits, depends on the number of threads.
    with threads(1):
        kmeans = KMeans(count, init=start, n_init=1, max_iter=10, random_state=0)
        return np.asarray(kmeans.fit_predict(places))


def clusters(places: np.ndarray, count: int) -> Iterator[tuple[float, np.ndarray]]:
    """Yields groups of look-alikes, as the mean cosine of all pairs and their rows.

    The rows are in the order of their distance from the middle.

    Args:
        places: [N, K] float32, as `directions` gives them.
        count: how many groups.
    """
    numbers = look_alikes(places, count)
    for number in range(numbers.max(initial=-1) + 1):
        rows = np.flatnonzero(numbers == number)
        if len(rows):
            centre = places[rows].mean(axis=0)
            # The squared length of the mean direction is the mean cosine of all pairs.
            yield float(centre @ centre), rows[np.argsort(-(places[rows] @ centre), kind="stable")]


def spread(places: np.ndarray, count: int) -> np.ndarray:
    """Chooses photos that are unlike each other: the first of each of `count` look-alike groups.

    Args:
        places: [N, K] float32, as `directions` gives them, the most wanted photo first.
        count: how many.

    Returns:
        [count] int, rows in ascending order; all where there are no more.
    """
    if len(places) <= count:
        return np.arange(len(places))
    return np.sort(np.unique(look_alikes(places, count), return_index=True)[1])


def likeness(places: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Returns [N], the cosine of every photo with the nearest that has a label.

    Args:
        places: [N, K] float32, as `directions` gives them.
        labelled: [M, K] float32, those of photos with a label.
    """
    found = np.full(len(places), -1.0, np.float32)
    for block in blocks(len(places), _BLOCK):
        for others in blocks(len(labelled), _BLOCK):
            nearest = (places[block] @ labelled[others].T).max(axis=1)
            found[block] = np.maximum(found[block], nearest)
    return found


def least_likeness(labelled: np.ndarray, groups: np.ndarray) -> float:
    """Returns the `likeness` that all but a twentieth of the labelled photos have with another.

    Args:
        labelled: [M, K] float32, as `directions` gives them; M is at least 2.
        groups: [M] int; near-copies, which say nothing of one another, share a number.
    """
    # Some thousand photos are enough for a quantile.
    cosines = sample(labelled, _BLOCK) @ labelled.T
    cosines[sample(groups, _BLOCK)[:, np.newaxis] == groups] = -1
    return float(np.quantile(cosines.max(axis=1), _FAR))
