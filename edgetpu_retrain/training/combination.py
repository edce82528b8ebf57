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
from edgetpu_retrain.training.cross_validation import (
    FOLDS,
    NO_FOLD,
    PER_COARSE,
    Choice,
    fit_temperature,
)
from edgetpu_retrain.training.discriminant import (
    SHRINKAGES,
    Discriminant,
    Statistics,
    by_fold,
    out_of_fold,
)
from edgetpu_retrain.training.optimum import Layers, Plan, refine_lbfgs, train_sgd

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
        scales: by which the logits of regression and discriminant are multiplied before they are
            added.
    """

    choice: Choice
    weight: float
    shrinkage: float
    scales: tuple[float, float] = (1.0, 0.0)

    def train(
        self, data: TrainingData, held_out: tuple[int, int] = NO_FOLD, run: MapFunction = map
    ) -> Layers:
        """Trains one layer with these settings.

        Args:
            data: photos, with any labels.
            held_out: range of folds that it does not see: the first, and the one after the last.
                A layer that sees all of them is trained to its optimum.
            run: as `blocks.threads` gives it.
        """
        balanced = self.choice.class_weights == "balanced"
        plan = Plan.of([(held_out, 1.0, self.choice.strength, balanced)])
        layer = train_sgd(data, plan, run)
        if held_out == NO_FOLD:
            layer = refine_lbfgs(data, plan, layer, run)
        if not self.weight:
            return layer
        seen = plan.sees(data, slice(None))[:, 0]
        found = Statistics.of(data, seen).discriminant(data, self.shrinkage, balanced)
        return _add(layer, found, self.scales)


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
    chosen = int(np.argmin([calibrated_loss(logits, data.labels[photos]) for logits in tried]))
    shrinkage = SHRINKAGES[chosen]
    logits = out_of_fold(data, measured, [shrinkage], balanced, run=run)[0]
    weight, scales, mixed = weigh(regression.logits, logits, scored, labels)
    if not weight:
        return Combination(regression, weight, shrinkage)
    found = sum(measured[1:], measured[0]).discriminant(data, shrinkage, balanced)
    layer = _add(regression.layer, found, scales)
    curve = []
    for i, share in enumerate(regression.shares):
        part = by_fold(data, FOLDS, share, run)
        others = out_of_fold(data, part, [shrinkage], balanced, PER_COARSE, run=run)[0]
        mixed_share = _mix(regression.share_logits(data, i), others, scales)
        curve.append(cross_validation.curve_point(data, mixed_share, share))
    curve.append(cross_validation.curve_point(data, mixed))
    choice = replace(regression, layer=layer, logits=mixed, learning_curve=curve)
    return Combination(choice, weight, shrinkage, scales)


def weigh(
    first: np.ndarray, second: np.ndarray, scored: np.ndarray, labels: np.ndarray
) -> tuple[float, tuple[float, float], np.ndarray]:
    """Chooses how much the discriminant counts beside regression, by the loss out of fold.

    Args:
        first: [N, C], out-of-fold logits of regression.
        second: [N, C], those of the discriminant.
        scored: [n] int, the photos that are held out by one of the folds.
        labels: [n] int, their classes.

    Returns:
        The weight of the discriminant, `Combination.scales`, and the logits [N, C] of both.
    """
    if len(scored) < cross_validation.MIN_FOR_TEMPERATURE:
        return 0.0, (1.0, 0.0), first
    temperatures = [fit_temperature(one[scored], labels) for one in (first, second)]
    scales = [((1 - w) / temperatures[0], w / temperatures[1]) for w in WEIGHTS]
    mixed = [_mix(first, second, both) for both in scales]
    best = int(np.argmin([calibrated_loss(one[scored], labels) for one in mixed]))
    if not WEIGHTS[best]:
        return 0.0, (1.0, 0.0), first
    return WEIGHTS[best], scales[best], mixed[best]


def _add(layer: Layers, discriminant: Discriminant, scales: tuple[float, float]) -> Layers:
    return Layers(
        _mix(layer.weights, discriminant.weights[:, np.newaxis], scales),
        _mix(layer.biases, discriminant.biases[np.newaxis], scales),
    )


def _mix(first: np.ndarray, second: np.ndarray, scales: tuple[float, float]) -> np.ndarray:
    return first * np.float32(scales[0]) + second * np.float32(scales[1])


def calibrated_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean cross-entropy of logits [N, C] divided by their best temperature."""
    temperature = np.float32(fit_temperature(logits, labels))
    return float(cross_validation.losses(logits / temperature, labels).mean())
