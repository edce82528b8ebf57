"""Cross-validation: choose the regularization, and estimate the accuracy."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import MapFunction, threads
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData
from edgetpu_retrain.training.intervals import wilson_interval
from edgetpu_retrain.training.optimum import Layers, Plan, refine_lbfgs, train_sgd

FOLDS = 10
# Ranges of folds that a layer is trained without: none, one or two. Two (5-fold cross-validation)
# are enough to compare hyperparameters.
NO_FOLD = (-1, -1)
_FINE = tuple((fold, fold + 1) for fold in range(FOLDS))
PER_COARSE = 2
_COARSE = tuple((fold, fold + PER_COARSE) for fold in range(0, FOLDS, PER_COARSE))
STRENGTHS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
CLASS_WEIGHTS = ("none", "balanced")
# Shares of the photos for the learning curve, in addition to all of them.
_SHARES = (0.25, 0.5)
# Class weights are tried if the largest class is larger than the smallest by more than this factor.
_MIN_IMBALANCE = 1.5
# More photos would make the choice slower, but not better.
_MAX_TO_CHOOSE = 50_000
# More photos would not make the temperature more accurate.
_MAX_FOR_TEMPERATURE = 20_000
# Fewer out-of-fold photos are not enough to fit a temperature.
MIN_FOR_TEMPERATURE = 100
_TEMPERATURES = (0.1, 10.0)


@dataclass(frozen=True)
class Choice:
    """A layer, and the results of the cross-validation.

    Attributes:
        layer: layer trained on all photos, for centred and scaled embeddings.
        logits: [N, C] float32, out-of-fold logits, from layers trained without the photo's fold;
            of no use for photos that are never held out.
        strength: strength of the L2 penalty.
        class_weights: "none" or "balanced".
        strengths: out-of-fold accuracy and loss for each strength, with these class weights.
        learning_curve: out-of-fold accuracy and its 95 % interval by number of training photos.
        shares: the S shares of the photos in the learning curve, in addition to all of them.
        share_layers: for each share, one layer per coarse fold, trained without that fold.
    """

    layer: Layers
    logits: np.ndarray
    strength: float
    class_weights: str
    strengths: list[dict[str, float]]
    learning_curve: list[dict[str, Any]]
    shares: list[float]
    share_layers: Layers

    def share_logits(self, data: TrainingData, index: int) -> np.ndarray:
        """Returns the out-of-fold logits [N, C] float32 of the layers trained on one share."""
        number = len(_COARSE)
        layers = _select(self.share_layers, slice(index * number, (index + 1) * number))
        logits = np.empty((len(data.labels), data.num_classes), np.float32)
        for block in data.blocks():
            folds = data.folds[block] // PER_COARSE
            scores = layers.logits(data.embeddings(block))
            logits[block] = scores[np.arange(len(folds)), folds]
        return logits


@dataclass(frozen=True)
class _Tally:
    """Out-of-fold sums by class for V variants.

    Attributes:
        correct: [V, C], number of correct photos.
        losses: [V, C], sums of the cross-entropies.
        photos: [C], number of photos.
    """

    correct: np.ndarray
    losses: np.ndarray
    photos: np.ndarray

    @property
    def balanced_accuracy(self) -> np.ndarray:
        return _mean_over_classes(self.correct, self.photos)


def choose(data: TrainingData, class_weights: str = "auto", num_threads: int = 1) -> Choice:
    """Chooses the strength and the class weights by cross-validation, and trains a layer with them.

    The strength with the lowest out-of-fold loss is chosen. Class weights are used if they raise
    the out-of-fold balanced accuracy by more than its standard error.

    Args:
        data: all photos that are not held out for testing, with folds 0 to 9.
        class_weights: "none", "balanced", or "auto" to choose.
        num_threads: number of threads; the result does not depend on it.
    """
    with threads(num_threads) as parallel_map:
        return _choose(data, class_weights, parallel_map)


def _choose(data: TrainingData, class_weights: str, parallel_map: MapFunction) -> Choice:
    sample = data.sample(_MAX_TO_CHOOSE)
    sizes = np.bincount(sample.labels, minlength=sample.num_classes)
    options = [class_weights]
    if class_weights == "auto":
        is_imbalanced = sizes.max() > _MIN_IMBALANCE * sizes.min()
        options = list(CLASS_WEIGHTS if is_imbalanced else CLASS_WEIGHTS[:1])
    variants = [(strength, name == "balanced") for name in options for strength in STRENGTHS]
    layers = [(fold, 1.0, *variant) for fold in _COARSE for variant in variants]
    tally = _tally(sample, train_sgd(sample, Plan.of(layers), parallel_map))
    best = [_best_variant(tally, variants, name == "balanced") for name in options]
    chosen = best[0]
    if len(best) > 1:
        accuracy = tally.balanced_accuracy
        gain = accuracy[best[1]] - accuracy[best[0]]
        if gain > _standard_error(tally, best[0]):
            chosen = best[1]
    strength, balanced = variants[chosen]

    shares = [share for share in _SHARES if _is_enough(data, share)]
    layers = [(fold, 1.0, strength, balanced) for fold in (NO_FOLD, *_FINE)]
    layers += [(fold, share, strength, balanced) for share in shares for fold in _COARSE]
    plan = Plan.of(layers)
    trained = train_sgd(data, plan, parallel_map)
    layer = refine_lbfgs(data, plan.select(slice(1)), _select(trained, slice(1)), parallel_map)
    logits = np.empty((len(data.rows), data.num_classes), np.float32)
    fine = _select(trained, slice(1, 1 + FOLDS))
    for block in data.blocks():
        folds = data.folds[block]
        logits[block] = fine.logits(data.embeddings(block))[np.arange(len(folds)), folds]
    choice = Choice(
        layer,
        logits,
        strength,
        "balanced" if balanced else "none",
        [
            {
                "strength": variants[i][0],
                "accuracy": float(tally.correct[i].sum() / tally.photos.sum()),
                "loss": float(tally.losses[i].sum() / tally.photos.sum()),
            }
            for i in range(len(variants))
            if variants[i][1] == balanced
        ],
        [],
        shares,
        _select(trained, slice(1 + FOLDS, None)),
    )
    curve = [
        curve_point(data, choice.share_logits(data, i), share) for i, share in enumerate(shares)
    ]
    return replace(choice, learning_curve=[*curve, curve_point(data, logits)])


def fit_temperature(
    logits: np.ndarray, labels: np.ndarray, fewest: int = MIN_FOR_TEMPERATURE
) -> float:
    """Returns the temperature that calibrates scores when logits are divided by it.

    It minimizes the mean cross-entropy (Guo et al., 2017: On Calibration of Modern Neural
    Networks). With fewer photos than `fewest` it is 1.

    Args:
        logits: [N, C], out-of-fold logits.
        labels: [N] int, true classes.
        fewest: the smallest N that a temperature is fitted to.
    """
    # Imported here because only the workflow depends on it.
    from scipy.optimize import minimize_scalar

    if len(labels) < fewest:
        return 1.0
    step = -(-len(labels) // _MAX_FOR_TEMPERATURE)
    logits, labels = logits[::step].astype(np.float64), labels[::step]
    result = minimize_scalar(
        lambda x: float(losses(logits / np.exp(x), labels).mean()),
        bounds=np.log(_TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(result.x))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross-entropies [N, ...] of logits [N, ..., C]."""
    highest = logits.max(axis=-1)
    sums = np.log(np.exp(logits - highest[..., np.newaxis]).sum(axis=-1))
    index = labels.reshape(-1, *[1] * (logits.ndim - 1))
    return np.asarray(sums + highest - np.take_along_axis(logits, index, axis=-1)[..., 0])


def _tally(data: TrainingData, layers: Layers) -> _Tally:
    variants = layers.biases.shape[0] // len(_COARSE)
    shape = (data.num_classes, variants)
    correct, total = np.zeros(shape), np.zeros(shape)
    for block in data.blocks():
        photos = np.arange(block.start, block.stop)[data.folds[block] >= 0]
        labels, folds = data.labels[photos], data.folds[photos]
        logits = layers.logits(data.embeddings(photos))
        logits = logits.reshape(len(labels), len(_COARSE), variants, -1)[
            np.arange(len(labels)), folds // PER_COARSE
        ]
        np.add.at(correct, labels, logits.argmax(axis=-1) == labels[:, np.newaxis])
        np.add.at(total, labels, losses(logits, labels))
    counts = np.bincount(data.labels[data.scored], minlength=data.num_classes)
    return _Tally(correct.T, total.T, counts)


def _best_variant(tally: _Tally, variants: list[tuple[float, bool]], balanced: bool) -> int:
    """Returns the variant with the lowest mean loss, over classes if balanced, else over photos."""
    losses = (
        _mean_over_classes(tally.losses, tally.photos) if balanced else tally.losses.sum(axis=1)
    )
    candidates = [i for i, variant in enumerate(variants) if variant[1] == balanced]
    return min(candidates, key=lambda i: losses[i])


def _mean_over_classes(sums: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Returns the mean [V] over classes of sums [V, C] per photo of the class."""
    present = photos > 0
    return np.asarray((sums[:, present] / photos[present]).mean(axis=1))


def _standard_error(tally: _Tally, variant: int) -> float:
    """Returns the standard error of the balanced accuracy, for independent photos."""
    present = tally.photos > 0
    photos = tally.photos[present]
    accuracy = tally.correct[variant][present] / photos
    return float(np.sum(accuracy * (1 - accuracy) / photos) ** 0.5 / len(photos))


def _select(layers: Layers, chosen: slice) -> Layers:
    return Layers(layers.weights[:, chosen], layers.biases[chosen])


def _is_enough(data: TrainingData, share: float) -> bool:
    """Returns whether the layers of all folds would be trained on photos of every class."""
    is_drawn = data.ranks < share
    coarse = data.folds // PER_COARSE
    return all(
        np.bincount(data.labels[is_drawn & (coarse != fold)], minlength=data.num_classes).all()
        for fold in range(len(_COARSE))
    )


def curve_point(
    data: TrainingData, logits: np.ndarray, share: float | None = None
) -> dict[str, Any]:
    """Returns a point of the learning curve.

    Args:
        data: the photos.
        logits: [N, C], out-of-fold logits: from coarse folds for a share, else from fine ones.
        share: the share of the photos that the layers were trained on; None for all of them.
    """
    scored = data.scored
    total = len(scored)
    correct = int(np.sum(logits[scored].argmax(axis=1) == data.labels[scored]))
    is_drawn = data.ranks < (1.0 if share is None else share)
    # Photos that are never held out are in the training photos of every fold.
    held_out = np.sum(is_drawn[scored]) / (FOLDS if share is None else len(_COARSE))
    photos = float(np.sum(is_drawn) - held_out)
    return {
        "photos": round(photos),
        "accuracy": correct / total,
        "interval": list(wilson_interval(correct, total)),
    }
