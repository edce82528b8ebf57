"""Choose what to label next: groups of look-alikes, the most useful first.

This module deals with neither files nor the page. A row of an array is a card: a photo that stands
for itself and its near-copies.
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
    """Cards that are shown together, because one label often fits all of them.

    Attributes:
        kind: SURE, predictions that only need to be confirmed; UNSURE, the cards whose labels would
            teach the model the most; UNLIKE, cards that look like nothing labelled so far; or
            ALIKE, any other look-alikes.
        label: the class that the model predicts; -1 without a model.
        cards: [n] int, the rows of the cards.
    """

    kind: str
    label: int
    cards: np.ndarray


def begin(places: np.ndarray) -> list[Group]:
    """Groups cards before any has a label: large groups of very similar cards come first."""
    found = []
    for tightness, cards in clusters(places, max(2, round((2 * len(places)) ** 0.5))):
        for some in blocks(len(cards), MOST_CARDS):
            part = cards[some]
            found.append((-tightness * len(part) ** 0.5, Group(ALIKE, -1, part)))
    return [group for _, group in sorted(found, key=lambda one: one[0])]


def teaching(scores: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Returns the cards whose labels would teach the model the most.

    Their two highest scores are close together, and each is from a different group of look-alikes,
    so that no two teach the same thing. `benchmarks/labelling.py` compares this with other methods.

    Args:
        scores: [N, C], softmax scores.
        places: [N, K] float32, from `look_alikes.directions`.
        count: number of cards to choose.

    Returns:
        [count] int, rows; all rows if there are no more than `count`.
    """
    pool = np.argsort(margins_of(scores), kind="stable")[: _POOL * count]
    return np.asarray(pool[spread(places[pool], count)])


def margins_of(scores: np.ndarray) -> np.ndarray:
    """Returns [N], the difference between the two highest scores."""
    two = np.partition(scores, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def share_unlike(rest: np.ndarray, labelled: np.ndarray, groups: np.ndarray) -> float:
    """Returns the fraction of unlabelled cards that look like no labelled card.

    These are the cards whose nearest labelled card is farther away than for 95 % of the labelled
    cards themselves.

    Args:
        rest: [N, K] float32, cards without a label, from `look_alikes.directions`.
        labelled: [M, K] float32, cards with a label; M is at least 2.
        groups: [M] int, group of near-copies of each labelled card; cards of the same group are not
            compared.
    """
    near = likeness(sample(rest, _SAMPLED), labelled)
    return float(np.mean(near < least_likeness(labelled, groups)))


def go_on(
    scores: np.ndarray, places: np.ndarray, labelled: np.ndarray, threshold: float | None
) -> list[Group]:
    """Groups unlabelled cards by the model's predictions.

    First come, class by class, the cards that the model is sure of; then those whose labels would
    teach it the most; then those that look like nothing labelled so far; then all others, the least
    certain groups first.

    Args:
        scores: [N, C], softmax scores.
        places: [N, K] float32, from `look_alikes.directions`.
        labelled: [M, K] float32, the same of the labelled cards.
        threshold: the score from which the model counts as sure; None if it never does.
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
    # Large groups first, because one key labels all of a group.
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
    """Yields one group per predicted class, largest first."""
    counts = np.bincount(predicted[cards])
    for label in np.argsort(-counts, kind="stable").tolist():
        if counts[label]:
            yield Group(kind, label, cards[predicted[cards] == label])


def _by_looks(
    kind: str, cards: np.ndarray, places: np.ndarray, scores: np.ndarray
) -> Iterator[Group]:
    """Yields groups of look-alikes, largest first; the label is the class of their mean score."""
    numbers = look_alikes(places[cards], 3)
    counts = np.bincount(numbers) if len(cards) else np.empty(0, int)
    for number in np.argsort(-counts, kind="stable").tolist():
        part = cards[numbers == number]
        yield Group(kind, int(scores[part].mean(axis=0).argmax()), part)
