"""Train a layer again and again while labels come in, and say how good it is by now.

The layer is a linear discriminant of the principal components that look-alikes are found by: a
closed form, computed in a moment. Training afterwards uses the whole embeddings.
"""

from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData
from edgetpu_retrain.training import discriminant, folds
from edgetpu_retrain.training.cross_validation import fit_temperature, losses
from edgetpu_retrain.training.optimum import softmax

_FOLDS = 5
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
        half: [M] bool, whether layers trained on half as many photos were right; None where a
            class has too few photos for that.
    """

    scores: np.ndarray
    held_out: np.ndarray
    half: np.ndarray | None


def learn(places: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int) -> Learned:
    """Trains a layer on the photos that have a label, and layers without a fifth of them each.

    How much the covariance is shrunk is chosen by the loss on the photos that were held out.

    Args:
        places: [N, K] float32, as `look_alikes.directions` gives them.
        labels: [N] int, the class of every photo; negative without one. Every class has a photo.
        groups: [N] int; near-copies share a number.
        num_classes: C, at least two.
    """
    chosen = labels >= 0
    given = labels[chosen]
    of_labelled = np.unique(groups[chosen], return_inverse=True)[1]
    divided = folds.assign_folds(given, of_labelled, _FOLDS)
    data = TrainingData.of_coordinates(places[chosen], given, divided, num_classes)
    measured = discriminant.by_fold(data, _FOLDS)
    tried = discriminant.out_of_fold(data, measured, discriminant.SHRINKAGES, balanced=False)
    temperatures = [np.float32(fit_temperature(logits, given, fewest=1)) for logits in tried]
    tried /= np.array(temperatures)[:, np.newaxis, np.newaxis]
    best = int(np.argmin([losses(logits.astype(np.float64), given).mean() for logits in tried]))
    shrinkage, held_out = discriminant.SHRINKAGES[best], tried[best]
    layer = sum(measured[1:], measured[0]).discriminant(data, shrinkage, balanced=False)
    scores = np.empty((len(places), num_classes), np.float32)
    for block in blocks(len(places), _BLOCK):
        scores[block] = layer.logits(places[block]) / temperatures[best]
    for logits in (scores, held_out):
        softmax(logits)
    half = None
    if np.bincount(given).min() >= _FOLDS:
        fewer = discriminant.by_fold(data, _FOLDS, _HALF)
        by_half = discriminant.out_of_fold(data, fewer, [shrinkage], balanced=False)[0]
        half = by_half.argmax(axis=1) == given
    return Learned(scores, held_out, half)


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
        self._numbers = self._bins(highest)
        self._photos = np.bincount(self._numbers, minlength=bins)
        self._shares = self._right_in_bins(right)

    def _right_in_bins(self, right: np.ndarray) -> np.ndarray:
        # Half a right and half a wrong answer more (Jeffreys) keep small bins from being certain.
        counts = np.bincount(self._numbers, right, minlength=len(self._photos))
        return (counts + 0.5) / (self._photos + 1)

    def _weights(self, scores: np.ndarray) -> np.ndarray:
        numbers = self._bins(scores.max(axis=1))
        return np.bincount(numbers, minlength=len(self._photos)) / len(scores)

    def _bins(self, highest: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._edges, highest, side="right")

    def accuracy(self, scores: np.ndarray) -> tuple[float, float, float]:
        """Returns the accuracy to expect for scores [n, C], and its 95 % interval."""
        weights = self._weights(scores)
        accuracy = float(weights @ self._shares)
        variances = self._shares * (1 - self._shares) / (self._photos + 1)
        error = 1.96 * float(weights**2 @ variances) ** 0.5
        return accuracy, max(accuracy - error, 0.0), min(accuracy + error, 1.0)

    def gain(self, before: np.ndarray, scores: np.ndarray) -> float:
        """Returns by how much the accuracy for scores [n, C] is above that of other layers.

        Args:
            before: [M] bool, whether these were right about the labelled photos.
            scores: [n, C], of the layer itself.
        """
        return float(self._weights(scores) @ (self._shares - self._right_in_bins(before)))

    def threshold(self, scores: np.ndarray) -> float | None:
        """Returns the lowest score from which 95 % of photos with scores [n, C] are right.

        None if there is none.
        """
        highest = np.sort(scores.max(axis=1))[::-1]
        expected = np.cumsum(self._shares[self._bins(highest)]) / np.arange(1, len(highest) + 1)
        reached = np.flatnonzero(expected >= _PRECISION)
        return float(highest[reached[-1]]) if len(reached) else None
