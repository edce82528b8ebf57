"""Choose what to label next: groups of look-alikes, the most useful first.

Nothing here knows of files or of the page. Rows of arrays are cards: a photo, or several
near-copies that one of them stands for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.head import l2_normalize

SURE, UNSURE, UNLIKE, ALIKE = "sure", "unsure", "unlike", "alike"
# Cards in a group: what fits on a screen, so that a wrong one is seen.
MOST_CARDS = 40
_TAUGHT_AT_ONCE = 24
_UNLIKE_AT_ONCE = 24
# The least certain cards that k-means spreads a choice over, as a multiple of the choice.
_POOL = 8
_COMPONENTS = 128
_MOST_SPREAD = 64
_BLOCK = 2_048
# The part of the labelled cards that are far from all others.
_FAR = 0.05


@dataclass(frozen=True)
class Group:
    """Cards that are shown together, because one label will often do for all.

    Attributes:
        kind: SURE, where the model needs only to be confirmed; UNSURE, what would teach it the
            most; UNLIKE, what looks like nothing that has a label; or ALIKE.
        label: the class that the model takes them for; -1 where there is no model.
        cards: [n] int, their rows.
    """

    kind: str
    label: int
    cards: np.ndarray


def directions(vectors: np.ndarray) -> np.ndarray:
    """Returns what look-alikes are found by: principal components, of length 1.

    Args:
        vectors: [N, D] uint8 or int8, the quantized embeddings.

    Returns:
        [N, K] float32; K is 128, or less for few photos.
    """
    # Importing the library should not need what only the workflow does.
    import scipy.linalg

    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = vectors.shape[1]
    products = np.zeros((width, width), np.float32)
    for block in blocks(len(vectors), _BLOCK):
        values = vectors[block] - mean
        products += values.T @ values
    first = max(width - min(_COMPONENTS, len(vectors)), 0)
    axes = scipy.linalg.eigh(products, subset_by_index=(first, width - 1))[1]
    return np.concatenate(
        [l2_normalize((vectors[block] - mean) @ axes) for block in blocks(len(vectors), _BLOCK)]
    ).astype(np.float32)


def look_alikes(places: np.ndarray, count: int) -> np.ndarray:
    """Divides cards into groups by k-means; the same cards give the same groups.

    Args:
        places: [N, K] float32, as `directions` gives them.
        count: how many groups.

    Returns:
        [N] int, the group of every card.
    """
    # Importing the library should not need what only the workflow does.
    from sklearn.cluster import KMeans

    count = min(count, len(places))
    if count < 2:
        return np.zeros(len(places), int)
    # k-means++ starts in places that are far from one another, but takes a minute for many groups.
    start = "k-means++" if count <= _MOST_SPREAD else "random"
    # The order of a sum, and so its last bits, depends on the number of threads.
    with threads(1):
        kmeans = KMeans(count, init=start, n_init=1, max_iter=10, random_state=0)
        return np.asarray(kmeans.fit_predict(places))


def begin(places: np.ndarray) -> list[Group]:
    """Groups cards of which none has a label: the tightest large groups first."""
    numbers = look_alikes(places, max(2, round((2 * len(places)) ** 0.5)))
    found = []
    for number in range(numbers.max(initial=-1) + 1):
        cards = np.flatnonzero(numbers == number)
        if not len(cards):
            continue
        centre = places[cards].mean(axis=0)
        order = np.argsort(-(places[cards] @ centre), kind="stable")
        # The squared length of the mean direction is the mean cosine of all pairs.
        tightness = float(centre @ centre)
        for some in blocks(len(cards), MOST_CARDS):
            part = cards[order[some]]
            found.append((-tightness * len(part) ** 0.5, Group(ALIKE, -1, part)))
    return [group for _, group in sorted(found, key=lambda one: one[0])]


def teaching(scores: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Returns the cards whose labels would teach a model the most.

    They have a small margin between the two highest scores, and are spread over groups of
    look-alikes, so that no two say the same. `benchmarks/labelling.py` compares this with others.

    Args:
        scores: [N, C] of softmax.
        places: [N, K] float32, as `directions` gives them.
        count: how many.

    Returns:
        [count] int, rows; all where there are no more.
    """
    margins = margins_of(scores)
    pool = np.argsort(margins, kind="stable")[: _POOL * count]
    if len(pool) <= count:
        return pool
    numbers = look_alikes(places[pool], count)
    # The pool is in the order of margins: of every group its first.
    firsts = np.unique(numbers, return_index=True)[1]
    return pool[np.sort(firsts)]


def margins_of(scores: np.ndarray) -> np.ndarray:
    """Returns [N], by how much the highest score is above the second."""
    two = np.partition(scores, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def share_unlike(rest: np.ndarray, labelled: np.ndarray, groups: np.ndarray) -> float:
    """Returns the share of cards that are less like any labelled one than those are like another.

    That is, than all but a twentieth of the labelled cards are like another labelled card.

    Args:
        rest: [N, K] float32, cards without a label, as `directions` gives them.
        labelled: [M, K] float32, those with one; M is at least 2.
        groups: [M] int; near-copies, which say nothing of one another, share a number.
    """
    # A share is as good as exact from some thousand cards.
    rest, sampled = _sample(rest), _sample(labelled)
    cosines = sampled @ labelled.T
    cosines[_sample(groups)[:, np.newaxis] == groups] = -1
    return float(np.mean(likeness(rest, labelled) < np.quantile(cosines.max(axis=1), _FAR)))


def _sample(cards: np.ndarray) -> np.ndarray:
    return cards[:: -(-len(cards) // _BLOCK)]


def likeness(places: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Returns [N], the cosine of every card with the nearest that has a label.

    Args:
        places: [N, K] float32, as `directions` gives them.
        labelled: [M, K] float32, those of cards with a label.
    """
    found = np.full(len(places), -1.0, np.float32)
    for block in blocks(len(places), _BLOCK):
        for others in blocks(len(labelled), _BLOCK):
            nearest = (places[block] @ labelled[others].T).max(axis=1)
            found[block] = np.maximum(found[block], nearest)
    return found


def go_on(
    scores: np.ndarray, places: np.ndarray, labelled: np.ndarray, threshold: float | None
) -> list[Group]:
    """Groups cards without a label by what a model says of them.

    First, class by class, those that it is sure of; then those that would teach it the most; then
    those that look like nothing with a label; then all others, the least certain groups first.

    Args:
        scores: [N, C] of softmax.
        places: [N, K] float32, as `directions` gives them.
        labelled: [M, K] float32, those of cards with a label.
        threshold: the score from which the model is taken to be sure; None where it never is.
    """
    predicted, highest = scores.argmax(axis=1), scores.max(axis=1)
    left = np.ones(len(scores), bool)
    groups = []
    sure = highest >= (2.0 if threshold is None else threshold)
    for label in range(scores.shape[1]):
        cards = np.flatnonzero(sure & (predicted == label))
        cards = cards[np.argsort(-highest[cards], kind="stable")][:MOST_CARDS]
        if len(cards):
            groups.append(Group(SURE, label, cards))
            left[cards] = False
    # The largest: most is done with one key.
    groups.sort(key=lambda group: -len(group.cards))

    for kind, most in ((UNSURE, _TAUGHT_AT_ONCE), (UNLIKE, _UNLIKE_AT_ONCE)):
        rows = np.flatnonzero(left)
        if kind == UNSURE:
            cards = rows[teaching(scores[rows], places[rows], most)]
            found = list(_by_class(kind, cards, predicted))
        else:
            cards = rows[np.argsort(likeness(places[rows], labelled), kind="stable")[:most]]
            found = list(_by_looks(kind, cards, places, scores))
        left[cards] = False
        groups += found

    rest = []
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(left & (predicted == label))
        numbers = look_alikes(places[rows], -(-len(rows) // (MOST_CARDS // 2)))
        for number in range(numbers.max(initial=-1) + 1):
            cards = rows[numbers == number]
            for some in blocks(len(cards), MOST_CARDS):
                part = cards[some]
                rest.append((highest[part].mean(), Group(ALIKE, label, part)))
    return groups + [group for _, group in sorted(rest, key=lambda one: one[0])]


def _by_class(kind: str, cards: np.ndarray, predicted: np.ndarray) -> Iterator[Group]:
    """Yields a group per predicted class, that with the most cards first."""
    counts = np.bincount(predicted[cards])
    for label in np.argsort(-counts, kind="stable").tolist():
        if counts[label]:
            yield Group(kind, label, cards[predicted[cards] == label])


def _by_looks(
    kind: str, cards: np.ndarray, places: np.ndarray, scores: np.ndarray
) -> Iterator[Group]:
    """Yields groups of look-alikes, the largest first, with the class of their mean score."""
    numbers = look_alikes(places[cards], 3)
    counts = np.bincount(numbers) if len(cards) else np.empty(0, int)
    for number in np.argsort(-counts, kind="stable").tolist():
        part = cards[numbers == number]
        yield Group(kind, int(scores[part].mean(axis=0).argmax()), part)
