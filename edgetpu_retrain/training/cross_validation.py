"""Choose how the layer is regularized, and say how good it will be: cross-validation."""

from dataclasses import dataclass

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
_MIN_FOR_TEMPERATURE = 100
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
    """

    layer: Layers
    logits: np.ndarray
    strength: float
    class_weights: str
    strengths: list[dict[str, float]]
    learning_curve: list[dict]


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
    hits = np.zeros(len(shares), int)
    for block in data.blocks():
        labels, folds = data.labels[block], data.folds[block]
        scores = found.logits(data.embeddings(block))
        rows = np.arange(len(labels))
        logits[block] = scores[rows, 1 + folds]
        for i in range(len(shares)):
            column = 1 + FOLDS + i * len(_COARSE) + folds // _PER_COARSE
            hits[i] += np.sum(scores[rows, column].argmax(axis=1) == labels)
    curve = [
        _point(data, int(number), np.sum(data.ranks < share) * (1 - 1 / len(_COARSE)))
        for share, number in zip(shares, hits, strict=True)
    ]
    correct = int(np.sum(logits.argmax(axis=1) == data.labels))
    curve.append(_point(data, correct, len(data.rows) * (1 - 1 / FOLDS)))
    return Choice(
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
        curve,
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns what to divide logits by, so that scores are probabilities (Guo et al., 2017).

    It minimizes the loss out of fold; with fewer than 100 photos it is left at 1.

    Args:
        logits: [N, C], of photos that their layer was not trained on.
        labels: [N] int, true classes.
    """
    # Importing the library should not need what only the workflow does.
    from scipy.optimize import minimize_scalar

    if len(labels) < _MIN_FOR_TEMPERATURE:
        return 1.0
    step = -(-len(labels) // _MAX_FOR_TEMPERATURE)
    logits, labels = logits[::step].astype(np.float64), labels[::step]
    found = minimize_scalar(
        lambda x: float(_losses(logits / np.exp(x), labels).mean()),
        bounds=np.log(_TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(found.x))


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross-entropies [N, ...] of logits [N, ..., C]."""
    highest = logits.max(axis=-1)
    sums = np.log(np.exp(logits - highest[..., np.newaxis]).sum(axis=-1))
    index = labels.reshape(-1, *[1] * (logits.ndim - 1))
    return sums + highest - np.take_along_axis(logits, index, axis=-1)[..., 0]


def _tally(data: TrainingData, layers: Layers) -> _Tally:
    variants = layers.biases.shape[0] // len(_COARSE)
    shape = (data.num_classes, variants)
    correct, losses = np.zeros(shape), np.zeros(shape)
    for block in data.blocks():
        labels, folds = data.labels[block], data.folds[block]
        logits = layers.logits(data.embeddings(block))
        logits = logits.reshape(len(labels), len(_COARSE), variants, -1)[
            np.arange(len(labels)), folds // _PER_COARSE
        ]
        np.add.at(correct, labels, logits.argmax(axis=-1) == labels[:, np.newaxis])
        np.add.at(losses, labels, _losses(logits, labels))
    return _Tally(correct.T, losses.T, np.bincount(data.labels, minlength=data.num_classes))


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
    coarse = data.folds // _PER_COARSE
    return all(
        np.bincount(data.labels[drawn & (coarse != fold)], minlength=data.num_classes).all()
        for fold in range(len(_COARSE))
    )


def _point(data: TrainingData, correct: int, photos: float) -> dict:
    total = len(data.labels)
    return {
        "photos": round(photos),
        "accuracy": correct / total,
        "interval": list(wilson_interval(correct, total)),
    }
