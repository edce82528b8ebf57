"""Train a layer whenever there are new labels, and estimate its accuracy.

The layer is a linear discriminant on the principal components that look-alikes are found by. It has
a closed form, so training takes a moment. The final model is trained on the whole embeddings.
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
# Bins of the highest score, each with the same number of labelled photos.
_BINS = 10
_MIN_PER_BIN = 10


@dataclass(frozen=True)
class Learned:
    """The predictions of a layer that was trained on all labels.

    Attributes:
        scores: [N, C] float32, calibrated scores of all photos.
        held_out: [M, C] float32, calibrated out-of-fold scores of the labelled photos.
        half: [M] bool, whether layers trained on half as many photos classified the labelled photos
            correctly; None if a class has too few photos for that.
    """

    scores: np.ndarray
    held_out: np.ndarray
    half: np.ndarray | None


def learn(places: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int) -> Learned:
    """Trains a layer on the labelled photos, with five-fold cross-validation.

    The shrinkage of the covariance is the one with the lowest out-of-fold loss.

    Args:
        places: [N, K] float32, from `look_alikes.directions`.
        labels: [N] int, the class of every photo; negative without one. Every class has a photo.
        groups: [N] int, group of near-copies of each photo.
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
    """The accuracy of the layer as a function of its highest score.

    The labelled photos are not a random sample: easy ones were confirmed in bulk, and the page
    asked for the hardest. So their accuracy differs from that of the other photos; but among photos
    with similar scores, it is nearly the same. The accuracy on other photos is therefore estimated
    as the mean over score bins, weighted by the number of photos in each (post-stratification;
    Cochran, Sampling Techniques, section 5A.9).
    """

    def __init__(self, held_out: np.ndarray, labels: np.ndarray) -> None:
        """Measures the accuracy in up to ten bins with equal numbers of labelled photos.

        Args:
            held_out: [M, C], out-of-fold scores of the labelled photos.
            labels: [M] int, classes of the labelled photos.
        """
        highest, right = held_out.max(axis=1), held_out.argmax(axis=1) == labels
        bins = max(1, min(_BINS, len(labels) // _MIN_PER_BIN))
        self._edges = np.quantile(highest, np.arange(1, bins) / bins)
        self._numbers = self._bins(highest)
        self._photos = np.bincount(self._numbers, minlength=bins)
        self._shares = self._right_in_bins(right)

    def _right_in_bins(self, right: np.ndarray) -> np.ndarray:
        # Jeffreys prior: small bins must not look certain.
        counts = np.bincount(self._numbers, right, minlength=len(self._photos))
        return (counts + 0.5) / (self._photos + 1)

    def _weights(self, scores: np.ndarray) -> np.ndarray:
        numbers = self._bins(scores.max(axis=1))
        return np.bincount(numbers, minlength=len(self._photos)) / len(scores)

    def _bins(self, highest: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._edges, highest, side="right")

    def accuracy(self, scores: np.ndarray) -> tuple[float, float, float]:
        """Returns the expected accuracy for scores [n, C], and the bounds of its 95 % interval."""
        weights = self._weights(scores)
        accuracy = float(weights @ self._shares)
        variances = self._shares * (1 - self._shares) / (self._photos + 1)
        error = 1.96 * float(weights**2 @ variances) ** 0.5
        return accuracy, max(accuracy - error, 0.0), min(accuracy + error, 1.0)

    def gain(self, before: np.ndarray, scores: np.ndarray) -> float:
        """Returns how much higher the expected accuracy for scores [n, C] is than that of others.

        Args:
            before: [M] bool, whether other layers classified the labelled photos correctly.
            scores: [n, C], of this layer.
        """
        return float(self._weights(scores) @ (self._shares - self._right_in_bins(before)))

    def threshold(self, scores: np.ndarray) -> float | None:
        """Returns the score above which 95 % of photos with scores [n, C] should be correct.

        It is the lowest such score; None if there is none.
        """
        highest = np.sort(scores.max(axis=1))[::-1]
        expected = np.cumsum(self._shares[self._bins(highest)]) / np.arange(1, len(highest) + 1)
        reached = np.flatnonzero(expected >= _PRECISION)
        return float(highest[reached[-1]]) if len(reached) else None
