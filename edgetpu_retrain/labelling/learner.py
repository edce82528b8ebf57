"""Train the layer again and again while labels come in, and say how good it is by now."""

from dataclasses import dataclass, replace

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings, TrainingData
from edgetpu_retrain.training import folds
from edgetpu_retrain.training.cross_validation import fit_temperature
from edgetpu_retrain.training.optimum import Plan, softmax, train_sgd

# One strength of regularization, as there is no time to try several at every click. Training
# afterwards chooses its own. Compared in `benchmarks/labelling.py`.
_STRENGTH = 1e-3
_FOLDS = 5
_NONE = (-1, -1)
_HALF = 0.5
_PRECISION = 0.95
_BLOCK = 2_048
# Bins of the highest score, with as many labelled photos in each.
_BINS = 10
_MIN_PER_BIN = 10


@dataclass(frozen=True)
class Learned:
    """A layer that knows all labels there are.

    Attributes:
        scores: [N, C] float32, calibrated, of every photo.
        held_out: [M, C] float32, of the labelled photos, from layers that had not seen them.
        half: how many of the labelled photos were right for layers trained on half as many; None
            where a class has too few photos for that.
    """

    scores: np.ndarray
    held_out: np.ndarray
    half: int | None


def learn(
    photos: LabelledEmbeddings, labels: np.ndarray, groups: np.ndarray, num_classes: int
) -> Learned:
    """Trains a layer on the photos that have a label, and layers without a fifth of them each.

    Args:
        photos: N of them, a line each; their classes are not looked at.
        labels: [N] int, the class of every photo; -1 without one. Every class has a photo.
        groups: [N] int; near-copies share a number.
        num_classes: C, at least two.
    """
    chosen = labels >= 0
    names = tuple(map(str, range(num_classes)))
    labelled = replace(photos.select(chosen), labels=labels[chosen], classes=names)
    of_labelled = np.unique(groups[chosen], return_inverse=True)[1]
    divided = folds.assign_folds(labelled.labels, of_labelled, _FOLDS)
    data = TrainingData.of(labelled, divided)
    held_out = [(fold, fold + 1) for fold in range(_FOLDS)]
    layers = [(fold, 1.0, _STRENGTH, False) for fold in (_NONE, *held_out)]
    layers += [(fold, _HALF, _STRENGTH, False) for fold in held_out]
    with threads(1) as run:
        found = train_sgd(data, Plan.of(layers), run)
    scores = np.empty((len(photos), num_classes), np.float32)
    # Photos without a label are not in the span of those with one.
    everything = replace(data, rows=photos.rows, labels=labels, span=None, coordinates=None)
    weights = data.weights(found.weights[:, 0])
    out_of_fold = np.empty((len(divided), num_classes), np.float32)
    right = np.empty(len(divided), bool)
    for block in blocks(len(photos), _BLOCK):
        values = everything.embeddings(block)
        scores[block] = values @ weights + found.biases[0]
    for block in data.blocks():
        logits = found.logits(data.embeddings(block))
        rows = np.arange(len(logits))
        out_of_fold[block] = logits[rows, 1 + divided[block]]
        by_half = logits[rows, 1 + _FOLDS + divided[block]].argmax(axis=1)
        right[block] = by_half == data.labels[block]
    temperature = np.float32(fit_temperature(out_of_fold, data.labels))
    for logits in (scores, out_of_fold):
        logits /= temperature
        softmax(logits)
    smallest = np.bincount(data.labels, minlength=num_classes).min()
    return Learned(scores, out_of_fold, int(right.sum()) if smallest >= _FOLDS else None)


class Reliability:
    """How often the layer is right at each level of its highest score.

    The labelled photos are not a random sample: those that a model was sure of were confirmed in
    bulk, and the hardest were asked for. So what holds on them does not hold on the others, but at
    the same score it nearly does. What is said of other photos is therefore taken level by level,
    and weighted by how many of them have such a score (post-stratification; Cochran, Sampling
    Techniques, section 5A.9).
    """

    def __init__(self, held_out: np.ndarray, labels: np.ndarray) -> None:
        """Counts right answers in up to ten bins with as many labelled photos in each.

        Args:
            held_out: [M, C], scores of the labelled photos from layers that had not seen them.
            labels: [M] int, their classes.
        """
        highest, right = held_out.max(axis=1), held_out.argmax(axis=1) == labels
        bins = max(1, min(_BINS, len(labels) // _MIN_PER_BIN))
        self._edges = np.quantile(highest, np.arange(1, bins) / bins)
        numbers = self._bins(highest)
        self._photos = np.bincount(numbers, minlength=bins)
        # Half a right and half a wrong answer more (Jeffreys) keep small bins from being certain.
        right_in_bin = np.bincount(numbers, right, minlength=bins)
        self._shares = (right_in_bin + 0.5) / (self._photos + 1)

    def _bins(self, highest: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._edges, highest, side="right")

    def accuracy(self, scores: np.ndarray) -> tuple[float, float, float]:
        """Returns the accuracy to expect for scores [n, C], and its 95 % interval."""
        numbers = self._bins(scores.max(axis=1))
        weights = np.bincount(numbers, minlength=len(self._shares)) / len(scores)
        accuracy = float(weights @ self._shares)
        variances = self._shares * (1 - self._shares) / (self._photos + 1)
        error = 1.96 * float(weights**2 @ variances) ** 0.5
        return accuracy, max(accuracy - error, 0.0), min(accuracy + error, 1.0)

    def threshold(self, scores: np.ndarray) -> float | None:
        """Returns the lowest score from which 95 % of photos with scores [n, C] are right.

        None if there is none.
        """
        highest = np.sort(scores.max(axis=1))[::-1]
        expected = np.cumsum(self._shares[self._bins(highest)]) / np.arange(1, len(highest) + 1)
        reached = np.flatnonzero(expected >= _PRECISION)
        return float(highest[reached[-1]]) if len(reached) else None
