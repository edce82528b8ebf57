"""Linear discriminant analysis whose covariance is shrunk: a closed form for each held-out fold.

A class's score is x' W m - m' W m / 2 + log(prior) with its mean m and W the inverse of the
covariance within classes, which all classes share (Hastie et al., The Elements of Statistical
Learning, section 4.3). The covariance S is shrunk towards a multiple of the identity,
(1 - s) S + s tr(S) / D I (Ledoit & Wolf, 2004), so that it can be inverted from few photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings.blocks import MapFunction
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData

# Shrinkages to choose from, the strongest first.
SHRINKAGES = (0.85, 0.5, 0.25, 0.1, 0.03)
# Half a photo for a class that has none, whose score would be minus infinity.
_FEWEST = 0.5
# Photos that are all the same have no variance.
_LEAST = 1e-30


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
    """What a discriminant is computed from, along the K principal axes of the embeddings.

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
        axes, classes = data.axes, data.num_classes
        counts = np.bincount(data.labels[chosen], minlength=classes).astype(np.float32)
        sums = np.zeros((classes, axes.shape[1]), np.float32)
        products = np.zeros((axes.shape[1], axes.shape[1]), np.float32)
        for block in data.blocks():
            photos = np.flatnonzero(chosen[block]) + block.start
            if len(photos):
                values = data.embeddings(photos) @ axes
                products += values.T @ values
                is_of = data.labels[photos] == np.arange(classes)[:, np.newaxis]
                sums += is_of.astype(np.float32) @ values
        return cls(counts, sums, products)

    def without(self, part: "Statistics") -> "Statistics":
        """Returns the statistics of the photos that are not in `part`."""
        return Statistics(
            self.counts - part.counts, self.sums - part.sums, self.products - part.products
        )

    def discriminant(self, data: TrainingData, shrinkage: float, balanced: bool) -> Discriminant:
        """Returns the discriminant.

        Args:
            data: gives the axes.
            shrinkage: s above, in (0, 1].
            balanced: whether all classes are taken for equally frequent.
        """
        # Importing the library should not need what only the workflow does.
        from scipy.linalg import cho_factor, cho_solve

        counts = np.maximum(self.counts, _FEWEST)
        means = self.sums / counts[:, np.newaxis]
        covariance = self.products - means.T @ self.sums
        covariance *= np.float32((1 - shrinkage) / counts.sum())
        variance = max(float(np.trace(covariance)), _LEAST) / data.width
        diagonal = shrinkage / (1 - shrinkage) * variance
        covariance[np.diag_indices_from(covariance)] += np.float32(diagonal)
        factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve(factor, means.T, check_finite=False)
        biases = -0.5 * np.einsum("kc,ck->c", weights, means)
        if not balanced:
            biases += np.log(counts / counts.sum())
        return Discriminant((data.axes @ weights).astype(np.float32), biases.astype(np.float32))


def out_of_fold(
    data: TrainingData,
    shrinkages: Sequence[float],
    balanced: bool,
    folds: np.ndarray,
    share: float = 1.0,
    run: MapFunction = map,
) -> np.ndarray:
    """Returns float32 [S, N, C]: logits of each photo from discriminants without its fold.

    Args:
        data: all photos.
        shrinkages: S of them, as `Statistics.discriminant` takes one.
        balanced: likewise.
        folds: [N] int from 0, the fold of each photo.
        share: the part of each class's photos that discriminants are computed from.
        run: as `blocks.threads` gives it.
    """
    drawn = data.ranks < share
    everything = Statistics.of(data, drawn)
    logits = np.empty((len(shrinkages), len(folds), data.num_classes), np.float32)

    def work(fold: int) -> None:
        held_out = folds == fold
        seen = everything.without(Statistics.of(data, held_out & drawn))
        found = [seen.discriminant(data, one, balanced) for one in shrinkages]
        for block in data.blocks():
            photos = np.flatnonzero(held_out[block]) + block.start
            embeddings = data.embeddings(photos)
            for i, discriminant in enumerate(found):
                logits[i, photos] = discriminant.logits(embeddings)

    # Each photo is of one fold, so that threads write to different rows.
    list(run(work, range(int(folds.max()) + 1)))
    return logits
