"""Choose how the layer is regularized, and say how good it will be: cross-validation."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import MapFunction, threads
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData
from edgetpu_retrain.training.intervals import wilson_interval
from edgetpu_retrain.training.optimum import Layers, Plan, refine_lbfgs, train_sgd

FOLDS = 10
# Folds that a layer is trained without: none, one, or two. Two at a time do for what is only
# compared with one another.
_NONE = (-1, -1)
_FINE = tuple((fold, fold + 1) for fold in range(FOLDS))
_PER_COARSE = 2
_COARSE = tuple((fold, fold + _PER_COARSE) for fold in range(0, FOLDS, _PER_COARSE))
STRENGTHS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
CLASS_WEIGHTS = ("none", "balanced")
# Parts of the photos for the learning curve, beside all of them.
_SHARES = (0.25, 0.5)
# Classes whose sizes differ less need no weights.
_UNEVEN = 1.5
# More photos than this choose no better strength, only later.
_MAX_TO_CHOOSE = 50_000
# Nor do more tell a temperature better.
_MAX_FOR_TEMPERATURE = 20_000
# Fewer photos out of fold do not tell a temperature.
MIN_FOR_TEMPERATURE = 100
_TEMPERATURES = (0.1, 10.0)


@dataclass(frozen=True)
class Choice:
    """A layer, and what the cross-validation said.

    Attributes:
        layer: trained on all photos, over centred and scaled embeddings.
        logits: [N, C] float32, of the layer that was trained without the photo's fold.
        strength: of the L2 penalty.
        class_weights: none or balanced.
        strengths: accuracy and loss of every strength, with these class weights.
        learning_curve: accuracy and its interval by the number of photos trained on.
        shares: S parts of the photos for the learning curve, beside all of them.
        share_layers: S times a layer per coarse fold, trained on that part without the fold.
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
        """Returns float32 [N, C]: each photo's logits by the layer of a share without its fold."""
        number = len(_COARSE)
        layers = _part(self.share_layers, slice(index * number, (index + 1) * number))
        logits = np.empty((len(data.labels), data.num_classes), np.float32)
        for block in data.blocks():
            folds = coarse_folds(data.folds[block])
            scores = layers.logits(data.embeddings(block))
            logits[block] = scores[np.arange(len(folds)), folds]
        return logits


@dataclass(frozen=True)
class _Tally:
    """Out-of-fold sums of V variants: [V, C] of correct photos and of losses; [C] of photos."""

    correct: np.ndarray
    losses: np.ndarray
    photos: np.ndarray

    @property
    def balanced_accuracy(self) -> np.ndarray:
        return _balanced(self.correct, self.photos)


def choose(data: TrainingData, class_weights: str = "auto", num_threads: int = 1) -> Choice:
    """Trains layers of all folds and strengths in one pass, and one on all photos as they advise.

    The strength is that of the lowest loss out of fold. Class weights are taken where they raise
    the balanced accuracy out of fold by more than its standard error.

    Args:
        data: all photos that are not held out for testing, with folds 0 to 9.
        class_weights: none, balanced, or auto, which chooses.
        num_threads: how many run at once; the result does not depend on it.
    """
    with threads(num_threads) as run:
        return _choose(data, class_weights, run)


def _choose(data: TrainingData, class_weights: str, run: MapFunction) -> Choice:
    sample = data.sample(_MAX_TO_CHOOSE)
    sizes = np.bincount(sample.labels, minlength=sample.num_classes)
    tried = [class_weights]
    if class_weights == "auto":
        uneven = sizes.max() > _UNEVEN * sizes.min()
        tried = list(CLASS_WEIGHTS if uneven else CLASS_WEIGHTS[:1])
    variants = [(strength, name == "balanced") for name in tried for strength in STRENGTHS]
    layers = [(fold, 1.0, *variant) for fold in _COARSE for variant in variants]
    tally = _tally(sample, train_sgd(sample, Plan.of(layers), run))
    best = [_best(tally, variants, name == "balanced") for name in tried]
    chosen = best[0]
    if len(best) > 1:
        accuracy = tally.balanced_accuracy
        gain = accuracy[best[1]] - accuracy[best[0]]
        if gain > _standard_error(tally, best[0]):
            chosen = best[1]
    strength, balanced = variants[chosen]

    shares = [share for share in _SHARES if _is_enough(data, share)]
    layers = [(fold, 1.0, strength, balanced) for fold in (_NONE, *_FINE)]
    layers += [(fold, share, strength, balanced) for share in shares for fold in _COARSE]
    plan = Plan.of(layers)
    found = train_sgd(data, plan, run)
    layer = refine_lbfgs(data, plan.select(slice(1)), _part(found, slice(1)), run)
    logits = np.empty((len(data.rows), data.num_classes), np.float32)
    fine = _part(found, slice(1, 1 + FOLDS))
    for block in data.blocks():
        folds = data.folds[block]
        scores = fine.logits(data.embeddings(block))
        logits[block] = scores[np.arange(len(folds)), folds]
    choice = Choice(
        layer,
        logits,
        strength,
        "balanced" if balanced else "none",
        [
            {
                "strength": variants[i][0],
                "accuracy": float(tally.correct[i].sum() / sizes.sum()),
                "loss": float(tally.losses[i].sum() / sizes.sum()),
            }
            for i in range(len(variants))
            if variants[i][1] == balanced
        ],
        [],
        shares,
        _part(found, slice(1 + FOLDS, None)),
    )
    curve = [
        curve_point(data, choice.share_logits(data, i), share) for i, share in enumerate(shares)
    ]
    return replace(choice, learning_curve=[*curve, curve_point(data, logits)])


def coarse_folds(folds: np.ndarray) -> np.ndarray:
    """Returns the coarse fold of each photo, for what is only compared with one another."""
    return folds // _PER_COARSE


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns what to divide logits by, so that scores are probabilities (Guo et al., 2017).

    It minimizes the loss out of fold; with fewer than 100 photos it is left at 1.

    Args:
        logits: [N, C], of photos that their layer was not trained on.
        labels: [N] int, true classes.
    """
    # Importing the library should not need what only the workflow does.
    from scipy.optimize import minimize_scalar

    if len(labels) < MIN_FOR_TEMPERATURE:
        return 1.0
    step = -(-len(labels) // _MAX_FOR_TEMPERATURE)
    logits, labels = logits[::step].astype(np.float64), labels[::step]
    found = minimize_scalar(
        lambda x: float(losses(logits / np.exp(x), labels).mean()),
        bounds=np.log(_TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(found.x))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross-entropies [N, ...] of logits [N, ..., C]."""
    highest = logits.max(axis=-1)
    sums = np.log(np.exp(logits - highest[..., np.newaxis]).sum(axis=-1))
    index = labels.reshape(-1, *[1] * (logits.ndim - 1))
    return sums + highest - np.take_along_axis(logits, index, axis=-1)[..., 0]


def _tally(data: TrainingData, layers: Layers) -> _Tally:
    variants = layers.biases.shape[0] // len(_COARSE)
    shape = (data.num_classes, variants)
    correct, total = np.zeros(shape), np.zeros(shape)
    for block in data.blocks():
        labels, folds = data.labels[block], data.folds[block]
        logits = layers.logits(data.embeddings(block))
        logits = logits.reshape(len(labels), len(_COARSE), variants, -1)[
            np.arange(len(labels)), coarse_folds(folds)
        ]
        np.add.at(correct, labels, logits.argmax(axis=-1) == labels[:, np.newaxis])
        np.add.at(total, labels, losses(logits, labels))
    return _Tally(correct.T, total.T, np.bincount(data.labels, minlength=data.num_classes))


def _best(tally: _Tally, variants: list[tuple[float, bool]], balanced: bool) -> int:
    """Returns the variant of the lowest loss, the mean of all photos or of all classes."""
    losses = _balanced(tally.losses, tally.photos) if balanced else tally.losses.sum(axis=1)
    wanted = [i for i, variant in enumerate(variants) if variant[1] == balanced]
    return min(wanted, key=lambda i: losses[i])


def _balanced(sums: np.ndarray, photos: np.ndarray) -> np.ndarray:
    present = photos > 0
    return (sums[:, present] / photos[present]).mean(axis=1)


def _standard_error(tally: _Tally, variant: int) -> float:
    """Returns that of the balanced accuracy, as the classes' photos are independent."""
    present = tally.photos > 0
    photos = tally.photos[present]
    shares = tally.correct[variant][present] / photos
    return float(np.sum(shares * (1 - shares) / photos) ** 0.5 / len(photos))


def _part(layers: Layers, chosen: slice) -> Layers:
    return Layers(layers.weights[:, chosen], layers.biases[chosen])


def _is_enough(data: TrainingData, share: float) -> bool:
    """Whether every fold's layer would see photos of every class."""
    drawn = data.ranks < share
    coarse = coarse_folds(data.folds)
    return all(
        np.bincount(data.labels[drawn & (coarse != fold)], minlength=data.num_classes).all()
        for fold in range(len(_COARSE))
    )


def curve_point(
    data: TrainingData, logits: np.ndarray, share: float | None = None
) -> dict[str, Any]:
    """Returns a point of the learning curve.

    Args:
        data: the photos.
        logits: [N, C], out of fold: coarse folds for a share, else fine ones.
        share: the part of the photos that was trained on, before the fold is left out.
    """
    total = len(data.labels)
    correct = int(np.sum(logits.argmax(axis=1) == data.labels))
    if share is None:
        photos = total * (1 - 1 / FOLDS)
    else:
        photos = float(np.sum(data.ranks < share)) * (1 - 1 / len(_COARSE))
    return {
        "photos": round(photos),
        "accuracy": correct / total,
        "interval": list(wilson_interval(correct, total)),
    }
