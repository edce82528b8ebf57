"""How far the labels have come, and an honest answer to whether they are enough."""

from dataclasses import dataclass
from math import log2

import numpy as np

from edgetpu_retrain.labelling.learner import Learned, Reliability
from edgetpu_retrain.training.intervals import wilson_interval

_NEXT = 50
# Random labels that one is worth which the page asks for (`benchmarks/labelling.py`).
_WORTH = 2
# With fewer, there is nothing to cross-validate.
_CLASSES, _OF_CLASS = 2, 2
# Below that many labels, or photos in a class, figures say more about chance.
_FEWEST, _FEWEST_OF_CLASS = 50, 5
# Above that share of photos unlike any labelled one, accuracy on the labelled says little.
_MOST_UNLIKE = 0.5
_SMALL_GAIN = 0.005


@dataclass(frozen=True)
class Progress:
    """What the labels give by now; None where there are too few to say.

    Attributes:
        labelled: how many photos have a class.
        rest: how many photos have none and are not left out.
        correct: how many of the labelled are classified correctly, cross-validated; there as soon
            as two classes have two photos.
        interval: the 95 % interval of that share.
        accuracy: the estimate for all photos, and its 95 % interval.
        gain: by how much the next 50 labels are expected to raise the accuracy.
        sure: how many photos of the rest are above the threshold for a precision of 95 %.
        unlike: the share of the rest that looks like nothing labelled.
        verdict: whether that is enough, in a sentence or two.
    """

    labelled: int
    rest: int
    correct: int | None = None
    interval: tuple[float, float] | None = None
    accuracy: tuple[float, float, float] | None = None
    gain: float | None = None
    sure: int | None = None
    unlike: float | None = None
    verdict: str = ""


def nothing(labelled: int, rest: int) -> Progress:
    """Returns what can be said before there are two classes."""
    return Progress(labelled, rest, verdict="Give photos of two classes a label to begin with.")


def measure(
    learned: Learned,
    reliability: Reliability,
    threshold: float | None,
    labels: np.ndarray,
    rest: np.ndarray,
    unlike: float,
) -> Progress:
    """Measures what the labels give.

    Args:
        learned: from the labels.
        reliability: of the layer.
        threshold: the score from which 95 % of the rest are right; None if there is none.
        labels: [N] int, the class of every photo; -1 without one.
        rest: [N] bool, the photos that are to have a label and have none.
        unlike: the share of the rest that looks like nothing labelled.
    """
    chosen = labels >= 0
    given, count, left = labels[chosen], int(chosen.sum()), int(rest.sum())
    correct = int(np.sum(learned.held_out.argmax(axis=1) == given))
    is_validated = np.sum(np.bincount(given) >= _OF_CLASS) >= _CLASSES
    every = np.concatenate([learned.held_out, learned.scores[rest]])
    gain = None
    if learned.half is not None and count >= _FEWEST:
        # What the last doubling brought, for the part of a doubling that the next labels are.
        doubling = max(reliability.gain(learned.half, every), 0)
        gain = doubling * log2((count + _WORTH * _NEXT) / count)
    sure = 0
    if threshold is not None:
        sure = int(np.sum(learned.scores[rest].max(axis=1) >= threshold))
    smallest = int(np.bincount(given).min())
    is_told = unlike <= _MOST_UNLIKE and count >= _FEWEST
    found = Progress(
        count,
        left,
        correct if is_validated else None,
        wilson_interval(correct, count) if is_validated else None,
        reliability.accuracy(every) if is_told else None,
        gain,
        sure if is_told else None,
        unlike,
    )
    return Progress(**{**vars(found), "verdict": _verdict(found, smallest)})


def _verdict(found: Progress, smallest: int) -> str:
    if found.labelled < _FEWEST or smallest < _FEWEST_OF_CLASS:
        return (
            f"Too early to say. At least {_FEWEST} labels, and {_FEWEST_OF_CLASS} photos of every "
            "class, are needed before figures mean much."
        )
    if found.rest == 0:
        return "Every photo has a label."
    if found.unlike is not None and found.unlike > _MOST_UNLIKE:
        return (
            f"Too early to say: {found.unlike:.0%} of the photos without a label look like none "
            "that has one."
        )
    if found.gain is None:
        return "Too early to say."
    if found.gain < _SMALL_GAIN:
        return (
            f"Probably enough: the next {_NEXT} labels are expected to add less than half a "
            "point of accuracy."
        )
    return (
        f"Not yet: the next {_NEXT} labels are expected to add about {100 * found.gain:.1f} "
        "points of accuracy."
    )
