"""Estimate the accuracy that the labels so far give, and whether they are enough."""

from dataclasses import dataclass
from math import log2

import numpy as np

from edgetpu_retrain.labelling.learner import Learned, Reliability
from edgetpu_retrain.training.intervals import wilson_interval

_NEXT = 50
# A label that the page asks for is worth so many random ones (`benchmarks/labelling.py`).
_WORTH = 2
# With fewer, there is nothing to cross-validate.
_CLASSES, _OF_CLASS = 2, 2
# With fewer labels, or fewer photos in a class, figures are mostly chance.
_FEWEST, _FEWEST_OF_CLASS = 50, 5
# If more of the photos look like no labelled one, the accuracy on labelled photos says little.
_MOST_UNLIKE = 0.5
_SMALL_GAIN = 0.005


@dataclass(frozen=True)
class Progress:
    """The state of labelling. Estimates are None while there are too few labels.

    Attributes:
        labelled: number of labelled photos.
        rest: number of photos that have no label and are not left out.
        correct: number of labelled photos that are classified correctly in cross-validation; None
            until two classes have two photos each.
        interval: the 95 % interval of that fraction.
        accuracy: the estimated accuracy on all photos, and the bounds of its 95 % interval.
        gain: the expected gain in accuracy from the next 50 labels.
        sure: number of unlabelled photos above the score for a precision of 95 %.
        unlike: the fraction of unlabelled photos that look like no labelled one.
        verdict: whether the labels are enough, in a sentence or two.
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
    """Returns the progress before there are two classes."""
    return Progress(labelled, rest, verdict="To begin, label photos of two classes.")


def measure(
    learned: Learned,
    reliability: Reliability,
    threshold: float | None,
    labels: np.ndarray,
    rest: np.ndarray,
    unlike: float,
) -> Progress:
    """Measures the progress.

    Args:
        learned: the layer trained on the labels.
        reliability: the accuracy of the layer by score.
        threshold: the score for a precision of 95 % on the unlabelled photos; None if none reaches
            it.
        labels: [N] int, the class of every photo; -1 without one.
        rest: [N] bool, the photos that have no label and are not left out.
        unlike: the fraction of unlabelled photos that look like no labelled one.
    """
    chosen = labels >= 0
    given, count, left = labels[chosen], int(chosen.sum()), int(rest.sum())
    correct = int(np.sum(learned.held_out.argmax(axis=1) == given))
    is_validated = np.sum(np.bincount(given) >= _OF_CLASS) >= _CLASSES
    every = np.concatenate([learned.held_out, learned.scores[rest]])
    gain = None
    if learned.half is not None and count >= _FEWEST:
        # The gain of the last doubling, scaled to the fraction of a doubling that comes next.
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
            f"Too early to say. It takes at least {_FEWEST} labels, and {_FEWEST_OF_CLASS} photos "
            "of every class, before these figures mean much."
        )
    if found.rest == 0:
        return "Every photo has a label."
    if found.unlike is not None and found.unlike > _MOST_UNLIKE:
        return (
            f"Too early to say: {found.unlike:.0%} of the unlabelled photos look like none of the "
            "labelled ones."
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
