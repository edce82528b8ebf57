"""Choose what to label next: groups of look-alikes, the most useful first.

Nothing here knows of files or of the page. Rows of arrays are cards: a photo, or several
near-copies that one of them stands for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.embeddings.look_alikes import (
    clusters,
    least_likeness,
    likeness,
    look_alikes,
    sample,
    spread,
)

SURE, UNSURE, UNLIKE, ALIKE = "sure", "unsure", "unlike", "alike"
# Cards in a group: what fits on a screen, so that a wrong one is seen.
MOST_CARDS = 40
_TAUGHT_AT_ONCE = 24
_UNLIKE_AT_ONCE = 24
# The least certain cards that k-means spreads a choice over, as a multiple of the choice.
_POOL = 8
# Cards that a share is estimated from.
_SAMPLED = 2_048


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


def begin(places: np.ndarray) -> list[Group]:
    """Groups cards of which none has a label: the tightest large groups first."""
    found = []
    for tightness, cards in clusters(places, max(2, round((2 * len(places)) ** 0.5))):
        for some in blocks(len(cards), MOST_CARDS):
            part = cards[some]
            found.append((-tightness * len(part) ** 0.5, Group(ALIKE, -1, part)))
    return [group for _, group in sorted(found, key=lambda one: one[0])]


def teaching(scores: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Returns the cards whose labels would teach a model the most.

    They have a small margin between the two highest scores, and are spread over groups of
    look-alikes, so that no two say the same. `benchmarks/labelling.py` compares this with others.

    Args:
        scores: [N, C] of softmax.
        places: [N, K] float32, as `look_alikes.directions` gives them.
        count: how many.

    Returns:
        [count] int, rows; all where there are no more.
    """
    pool = np.argsort(margins_of(scores), kind="stable")[: _POOL * count]
    return np.asarray(pool[spread(places[pool], count)])


def margins_of(scores: np.ndarray) -> np.ndarray:
    """Returns [N], by how much the highest score is above the second."""
    two = np.partition(scores, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def share_unlike(rest: np.ndarray, labelled: np.ndarray, groups: np.ndarray) -> float:
    """Returns the share of cards that are less like any labelled one than those are like another.

    That is, than all but a twentieth of the labelled cards are like another labelled card.

    Args:
        rest: [N, K] float32, cards without a label, as `look_alikes.directions` gives them.
        labelled: [M, K] float32, those with one; M is at least 2.
        groups: [M] int; near-copies, which say nothing of one another, share a number.
    """
    near = likeness(sample(rest, _SAMPLED), labelled)
    return float(np.mean(near < least_likeness(labelled, groups)))


def go_on(
    scores: np.ndarray, places: np.ndarray, labelled: np.ndarray, threshold: float | None
) -> list[Group]:
    """Groups cards without a label by what a model says of them.

    First, class by class, those that it is sure of; then those that would teach it the most; then
    those that look like nothing with a label; then all others, the least certain groups first.

    Args:
        scores: [N, C] of softmax.
        places: [N, K] float32, as `look_alikes.directions` gives them.
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
