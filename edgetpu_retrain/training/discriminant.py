"""Linear discriminant analysis whose covariance is shrunk: a closed form for each held-out fold.

A class's score is x' W m - m' W m / 2 + log(prior) with its mean m and W the inverse of the
covariance within classes, which all classes share (Hastie et al., The Elements of Statistical
Learning, section 4.3). The covariance S is shrunk towards a multiple of the identity,
(1 - s) S + s tr(S) / D I (Ledoit & Wolf, 2004), so that it can be inverted from few photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings.blocks import MapFunction, blocks
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData

# Shrinkages to choose from, the strongest first.
SHRINKAGES = (0.85, 0.5, 0.25, 0.1, 0.03)
# Half a photo for a class that has none, whose score would be minus infinity.
_FEWEST = 0.5
# Photos whose embeddings are float32 at once.
_JUDGED = 1_024
# Photos that are all the same have no variance.
_LEAST = 1e-30
# Of the variance of all photos; less is lost in the rounding of float32.
_RESOLVED = 1e-6


@dataclass(frozen=True)
class Discriminant:
    """Weights [D, C] and biases [C] over centred and scaled embeddings, float32."""

    weights: np.ndarray
    biases: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns [n, C] for centred and scaled embeddings, float32 [n, D]."""
        return np.asarray(embeddings @ self.weights + self.biases)


@dataclass(frozen=True)
class Statistics:
    """What a discriminant is computed from.

    K is the number of values that `TrainingData.embeddings` gives.

    Attributes:
        counts: [C] float32, photos of each class.
        sums: [C, K] float32, of the embeddings of each class.
        products: [K, K] float32, sum of the outer products of the embeddings.
    """

    counts: np.ndarray
    sums: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, data: TrainingData, chosen: np.ndarray) -> "Statistics":
        """Measures the photos for which `chosen`, [N] bool, is true."""
        classes, width = data.num_classes, len(data.axes)
        counts = np.bincount(data.labels[chosen], minlength=classes).astype(np.float32)
        sums = np.zeros((classes, width), np.float32)
        products = np.zeros((width, width), np.float32)
        for block in data.blocks():
            photos = np.flatnonzero(chosen[block]) + block.start
            if len(photos):
                values = data.embeddings(photos)
                products += values.T @ values
                is_of = data.labels[photos] == np.arange(classes)[:, np.newaxis]
                sums += is_of.astype(np.float32) @ values
        return cls(counts, sums, products)

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            self.counts + other.counts, self.sums + other.sums, self.products + other.products
        )

    def __sub__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            self.counts - other.counts, self.sums - other.sums, self.products - other.products
        )

    def discriminant(self, data: TrainingData, shrinkage: float, balanced: bool) -> Discriminant:
        """Returns the discriminant.

        Args:
            data: what the statistics are of.
            shrinkage: s above, in (0, 1).
            balanced: whether all classes are assumed to be equally frequent.
        """
        # Importing the library should not need what only the workflow does.
        from scipy.linalg import cho_factor, cho_solve

        counts = np.maximum(self.counts, _FEWEST)
        means = self.sums / counts[:, np.newaxis]
        covariance = self.products - means.T @ self.sums
        covariance *= np.float32((1 - shrinkage) / counts.sum())
        variance = max(float(np.trace(covariance)), _LEAST) / data.width
        # A photo of each class has no variance within classes.
        least = _RESOLVED * float(np.trace(self.products)) / float(counts.sum())
        diagonal = max(shrinkage / (1 - shrinkage) * variance, least)
        covariance[np.diag_indices_from(covariance)] += np.float32(diagonal)
        factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve(factor, means.T, check_finite=False)
        biases = -0.5 * np.einsum("kc,ck->c", weights, means)
        if not balanced:
            biases += np.log(counts / counts.sum())
        return Discriminant(weights.astype(np.float32), biases.astype(np.float32))


def by_fold(
    data: TrainingData, num_folds: int, share: float = 1.0, run: MapFunction = map
) -> list[Statistics]:
    """Measures the photos of each fold, and last those that are never held out, if there are any.

    Args:
        data: all photos.
        num_folds: the number of folds.
        share: the part of each class's photos to measure.
        run: as `blocks.threads` gives it.
    """
    drawn = data.ranks < share
    folds = [*range(num_folds), *([-1] if np.any(data.folds < 0) else [])]
    return list(run(lambda fold: Statistics.of(data, (data.folds == fold) & drawn), folds))


def out_of_fold(
    data: TrainingData,
    measured: Sequence[Statistics],
    shrinkages: Sequence[float],
    balanced: bool,
    held_out: int = 1,
    photos: np.ndarray | None = None,
    run: MapFunction = map,
) -> np.ndarray:
    """Returns float32 [S, n, C]: logits of photos from discriminants without their folds.

    Args:
        data: all photos.
        measured: as `by_fold` gives it.
        shrinkages: S of them, as `Statistics.discriminant` takes one.
        balanced: likewise.
        held_out: how many folds at a time a discriminant does not see.
        photos: [n] int, the photos to judge; by default all of them.
        run: as `blocks.threads` gives it.
    """
    everything = sum(measured[1:], measured[0])
    judged = np.arange(len(data.labels)) if photos is None else photos
    logits = np.zeros((len(shrinkages), len(judged), data.num_classes), np.float32)

    def judge(first: int) -> None:
        parts = measured[first : first + held_out]
        seen = everything - sum(parts[1:], parts[0])
        found = [seen.discriminant(data, one, balanced) for one in shrinkages]
        rows = np.flatnonzero(data.folds[judged] // held_out == first // held_out)
        for block in blocks(len(rows), _JUDGED):
            embeddings = data.embeddings(judged[rows[block]])
            for i, discriminant in enumerate(found):
                logits[i, rows[block]] = discriminant.logits(embeddings)

    # Each photo is of one fold, so threads write to different rows.
    list(run(judge, range(0, len(measured), held_out)))
    return logits
