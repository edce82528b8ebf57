"""Add a discriminant's logits to those of softmax regression: still one linear layer.

Regression is better on photos like those that the extractor was trained on, the discriminant on
photos of another kind. Both are calibrated out of fold, which puts their logits on one scale, and
their weights are chosen out of fold as well.
"""

from dataclasses import dataclass, replace

import numpy as np

from edgetpu_retrain.embeddings.blocks import MapFunction, threads
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData
from edgetpu_retrain.training import cross_validation
from edgetpu_retrain.training.cross_validation import FOLDS, PER_COARSE, Choice, fit_temperature
from edgetpu_retrain.training.discriminant import SHRINKAGES, by_fold, out_of_fold
from edgetpu_retrain.training.optimum import Layers

# How much the discriminant counts, beside regression.
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
# More photos choose no better shrinkage.
_MAX_TO_CHOOSE = 20_000


@dataclass(frozen=True)
class Combination:
    """A layer, and what the cross-validation said.

    Attributes:
        choice: what `cross_validation.choose` gave, with the layer, the logits and the learning
            curve of the combination.
        weight: of the discriminant, in [0, 1].
        shrinkage: of its covariance.
    """

    choice: Choice
    weight: float
    shrinkage: float


def combine(data: TrainingData, regression: Choice, num_threads: int = 1) -> Combination:
    """Combines softmax regression with a discriminant, as the loss out of fold advises.

    With fewer than 100 photos, which calibrate no logits, regression stays alone.

    Args:
        data: what the regression was trained on.
        regression: as `cross_validation.choose` gives it.
        num_threads: how many run at once; the result does not depend on it.
    """
    if len(data.scored) < cross_validation.MIN_FOR_TEMPERATURE:
        return Combination(regression, 0.0, SHRINKAGES[0])
    with threads(num_threads) as run:
        return _combine(data, regression, run)


def _combine(data: TrainingData, regression: Choice, run: MapFunction) -> Combination:
    balanced = regression.class_weights == "balanced"
    measured = by_fold(data, FOLDS, run=run)
    scored = data.scored
    labels = data.labels[scored]
    photos = scored[:: -(-len(scored) // _MAX_TO_CHOOSE)]
    tried = out_of_fold(data, measured, SHRINKAGES, balanced, PER_COARSE, photos, run)
    chosen = int(np.argmin([_calibrated_loss(logits, data.labels[photos]) for logits in tried]))
    shrinkage = SHRINKAGES[chosen]
    logits = out_of_fold(data, measured, [shrinkage], balanced, run=run)[0]
    temperatures = [fit_temperature(one[scored], labels) for one in (regression.logits, logits)]

    def mix(weight: float, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Returns the weighted mean of calibrated values, of regression and discriminant."""
        return first * np.float32((1 - weight) / temperatures[0]) + second * np.float32(
            weight / temperatures[1]
        )

    mixed = [mix(weight, regression.logits, logits) for weight in WEIGHTS]
    best = int(np.argmin([_calibrated_loss(one[scored], labels) for one in mixed]))
    weight = WEIGHTS[best]
    if not weight:
        return Combination(regression, weight, shrinkage)
    found = sum(measured[1:], measured[0]).discriminant(data, shrinkage, balanced)
    layer = Layers(
        mix(weight, regression.layer.weights, found.weights[:, np.newaxis]),
        mix(weight, regression.layer.biases, found.biases[np.newaxis]),
    )
    curve = []
    for i, share in enumerate(regression.shares):
        part = by_fold(data, FOLDS, share, run)
        others = out_of_fold(data, part, [shrinkage], balanced, PER_COARSE, run=run)[0]
        mixed_share = mix(weight, regression.share_logits(data, i), others)
        curve.append(cross_validation.curve_point(data, mixed_share, share))
    curve.append(cross_validation.curve_point(data, mixed[best]))
    choice = replace(regression, layer=layer, logits=mixed[best], learning_curve=curve)
    return Combination(choice, weight, shrinkage)


def _calibrated_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    temperature = np.float32(fit_temperature(logits, labels))
    return float(cross_validation.losses(logits / temperature, labels).mean())
