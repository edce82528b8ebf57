"""Softmax regression at its optimum: many layers by SGD at once, one of them to the end.

A layer minimizes mean cross-entropy + strength / 2 * sum(weights²). Embeddings are centred and
scaled by one number, so that their mean square length is 1; a strength means the same for every
extractor. Training goes along the principal axes of the embeddings, where one step suits all
directions. Nothing here depends on chance or on the number of threads: the batches are always the
same, and what a thread computes is the same wherever it runs.
"""

import functools
import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import MapFunction, blocks
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData

log = logging.getLogger(__name__)

_BATCH = 128
# Columns of weights per matrix product; fewer waste the processor, more leave threads idle.
_COLUMNS = 64
_MIN_UPDATES = 280
_MIN_EPOCHS = 2
# Of the largest step that stays stable.
_RATE = 0.6
_MOMENTUM = 0.9
# Photos per matrix product, so that threads have something to share.
_ROTATED = 1_024
_FINISHED = 1_024
# The typical curvature of the loss by the logits, p (1 - p), near the optimum.
_STEEPNESS = 0.1
_MAX_ITERATIONS = 500
# How far the loss may be above its minimum, as a part of the loss of a layer of zeros.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Plan:
    """What each of H layers is trained on, and how.

    Attributes:
        held_out: [H, 2] int, the first fold that a layer does not see and the first that it sees
            again.
        shares: [H] float, the part of each class's photos that it sees.
        strengths: [H] float32, of the L2 penalty.
        balanced: [H] bool, whether each class counts the same, instead of each photo.
    """

    held_out: np.ndarray
    shares: np.ndarray
    strengths: np.ndarray
    balanced: np.ndarray

    @classmethod
    def of(cls, layers: Sequence[tuple[tuple[int, int], float, float, bool]]) -> "Plan":
        """Makes a plan of one (held_out, share, strength, balanced) per layer."""
        held_out, shares, strengths, balanced = zip(*layers, strict=True)
        return cls(
            np.array(held_out),
            np.array(shares),
            np.array(strengths, np.float32),
            np.array(balanced),
        )

    def __len__(self) -> int:
        return len(self.held_out)

    def select(self, chosen: slice) -> "Plan":
        """Returns some of the layers."""
        return Plan(
            self.held_out[chosen],
            self.shares[chosen],
            self.strengths[chosen],
            self.balanced[chosen],
        )

    def sees(self, data: TrainingData, photos: np.ndarray | slice) -> np.ndarray:
        """Returns [n, H] bool, which photos each layer is trained on."""
        folds = data.folds[photos, np.newaxis]
        held_out = (folds >= self.held_out[:, 0]) & (folds < self.held_out[:, 1])
        return ~held_out & (data.ranks[photos, np.newaxis] < self.shares)

    def class_weights(self, data: TrainingData) -> np.ndarray:
        """Returns float32 [C, H]: the weight of a class's photo in the loss; all sum to 1."""
        counts = np.zeros((data.num_classes, len(self)))
        for block in data.blocks():
            np.add.at(counts, data.labels[block], self.sees(data, block))
        present = counts > 0
        equal = present / np.maximum(counts, 1) / np.maximum(present.sum(axis=0), 1)
        return np.where(self.balanced, equal, 1 / np.maximum(counts.sum(axis=0), 1)).astype(
            np.float32
        )


@dataclass(frozen=True)
class Layers:
    """Weights [D, H, C] and biases [H, C] over centred and scaled embeddings, float32."""

    weights: np.ndarray
    biases: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns [n, H, C] for float32 [n, D]."""
        width, layers, classes = self.weights.shape
        product = embeddings @ self.weights.reshape(width, layers * classes)
        return product.reshape(-1, layers, classes) + self.biases


def train_sgd(data: TrainingData, plan: Plan, run: MapFunction = map) -> Layers:
    """Trains all layers by SGD, from zero.

    Batches are drawn without replacement from photos that follow one another; Nesterov's momentum;
    the rate falls like a cosine to 0. Layers are columns of one matrix, which is divided among
    threads.

    Args:
        data: what to train on.
        plan: the layers.
        run: as `threads` gives it.
    """
    # Between steps that suit all axes of a quadratic (power 1/2) and little noise from batches.
    scale = (data.variances + data.variances.mean()) ** np.float32(-0.375)
    basis = data.axes * scale
    parts = data.blocks()
    batches = [max(1, round(len(data.labels[part]) / _BATCH)) for part in parts]
    epochs = max(_MIN_EPOCHS, -(-_MIN_UPDATES // sum(batches)))
    rate = _RATE / float(np.max(data.variances * scale**2))
    num_cuts = min(-(-len(plan) * data.num_classes // _COLUMNS), len(plan))
    cuts = [len(plan) * i // num_cuts for i in range(num_cuts + 1)]
    descents = [
        _Descent(data, plan.select(slice(*cut)), scale, rate, epochs * sum(batches))
        for cut in itertools.pairwise(cuts)
    ]
    # Which photos share a batch needs to be random, not different every time.
    random = np.random.default_rng(0)
    values = None
    for part, count in list(zip(parts, batches, strict=True)) * epochs:
        if values is None or len(parts) > 1:
            pieces = blocks(part.stop, _ROTATED, part.start)
            rotated = run(lambda piece: data.embeddings(piece) @ basis, pieces)
            values = np.concatenate(list(rotated))
        order = random.permutation(len(values))
        drawn = np.array_split(order, count)
        list(run(lambda d, v=values, p=part.start, b=drawn: d.step(v, p, b), descents))
    return Layers(
        np.concatenate([basis @ d.weights for d in descents], axis=1).reshape(
            len(basis), len(plan), data.num_classes
        ),
        np.concatenate([d.biases for d in descents]).reshape(len(plan), data.num_classes),
    )


class _Descent:
    """Some layers on their way down; weights [K, H * C] over scaled principal components."""

    def __init__(
        self, data: TrainingData, plan: Plan, scale: np.ndarray, rate: float, updates: int
    ):
        self._data, self._plan, self._rate, self._updates = data, plan, rate, updates
        self._class_weights = plan.class_weights(data)
        columns = len(plan) * data.num_classes
        self._penalties = np.outer(scale**2, np.repeat(plan.strengths, data.num_classes))
        self.weights = np.zeros((len(scale), columns), np.float32)
        self.biases = np.zeros(columns, np.float32)
        self._speeds = [np.zeros_like(self.weights), np.zeros_like(self.biases)]
        self._done = 0

    def step(self, values: np.ndarray, first: int, batches: list[np.ndarray]) -> None:
        """Takes one step per batch; `values` [n, K] are of the photos from `first` on."""
        data, layers = self._data, np.arange(len(self._plan))
        for batch in batches:
            photos, components = first + batch, values[batch]
            labels = data.labels[photos]
            errors = components @ self.weights
            errors += self.biases
            logits = errors.reshape(len(batch), len(layers), data.num_classes)
            softmax(logits)
            # In place, from probabilities to the derivative of the loss by the logits.
            logits[np.arange(len(batch))[:, np.newaxis], layers, labels[:, np.newaxis]] -= 1
            seen = self._plan.sees(data, photos) * self._class_weights[labels]
            logits *= (seen * np.float32(len(data.labels) / len(batch)))[:, :, np.newaxis]
            rate = self._rate * 0.5 * (1 + math.cos(math.pi * self._done / self._updates))
            for parameters, speed, slope in (
                (self.weights, self._speeds[0], components.T @ errors),
                (self.biases, self._speeds[1], errors.sum(axis=0)),
            ):
                speed *= _MOMENTUM
                speed += slope
                slope += _MOMENTUM * speed
                slope *= np.float32(rate)
                parameters -= slope
            # Implicit, so that it is stable along axes of little variance.
            self.weights /= 1 + np.float32(rate / (1 - _MOMENTUM)) * self._penalties
            self._done += 1


def refine_lbfgs(data: TrainingData, plan: Plan, start: Layers, run: MapFunction = map) -> Layers:
    """Takes one layer the rest of the way to its optimum, by L-BFGS over all photos.

    It ends where the loss is certainly within a tolerance of its minimum: with a strength s, it is
    above it by at most |gradient|² / 2s (strong convexity; Boyd & Vandenberghe, equation 9.9).

    Args:
        data: what to train on.
        plan: of one layer.
        start: what `train_sgd` reached.
        run: as `threads` gives it.
    """
    # Importing the library should not need what only the workflow does.
    from scipy.optimize import minimize

    classes, strength = data.num_classes, float(plan.strengths[0])
    class_weights = plan.class_weights(data)
    # Along these the loss is about as steep in all directions.
    scale = (_STEEPNESS * data.variances + strength) ** -0.5
    basis = data.axes * scale.astype(np.float32)
    shape = (len(scale) + 1, classes)
    pieces = blocks(len(data.labels), _FINISHED)

    def loss(part: slice, weights: np.ndarray, biases: np.ndarray) -> tuple[float, Any, Any]:
        labels = data.labels[part]
        embeddings = data.embeddings(part)
        scores = embeddings @ weights + biases
        rows = np.arange(len(labels))
        highest = scores.max(axis=1)
        own = scores[rows, labels] - highest
        sums = softmax(scores)
        factors = plan.sees(data, part)[:, 0] * class_weights[labels, 0]
        scores[rows, labels] -= 1
        scores *= factors[:, np.newaxis]
        total = float(np.dot(factors.astype(np.float64), np.log(sums) - own))
        return total, embeddings.T @ scores, scores.sum(axis=0)

    @functools.lru_cache(maxsize=1)
    def evaluated(content: bytes) -> tuple[float, np.ndarray]:
        layer = np.frombuffer(content).reshape(shape)
        weights, biases = basis @ layer[:-1].astype(np.float32), layer[-1].astype(np.float32)
        total, slope, bias_slope = 0.0, np.zeros(weights.shape), np.zeros(classes)
        for part_loss, *slopes in run(lambda piece: loss(piece, weights, biases), pieces):
            total += part_loss
            slope += slopes[0]
            bias_slope += slopes[1]
        penalized = scale[:, np.newaxis] * layer[:-1]
        gradient = basis.T @ slope.astype(np.float32) + strength * scale[:, np.newaxis] * penalized
        total += strength / 2 * float(np.sum(penalized**2))
        return total, np.concatenate([gradient, bias_slope[np.newaxis]]).reshape(-1)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        # The last result is asked for again to see whether it is the optimum.
        total, gradient = evaluated(flat.tobytes())
        return total, gradient.copy()

    def stop_at_optimum(x: np.ndarray) -> None:
        if distance(x) <= _TOLERANCE * np.log(classes):
            raise StopIteration

    def distance(flat: np.ndarray) -> float:
        """How far the loss is above its minimum at most."""
        gradient = objective(flat)[1].reshape(shape)
        gradient[:-1] /= scale[:, np.newaxis]
        return float(np.sum(gradient**2)) / (2 * strength)

    first = np.concatenate(
        [(data.axes.T @ start.weights[:, 0]) / scale[:, np.newaxis], start.biases]
    ).astype(np.float64)
    found = minimize(
        objective,
        first.reshape(-1),
        jac=True,
        method="L-BFGS-B",
        callback=stop_at_optimum,
        options={"maxiter": _MAX_ITERATIONS, "gtol": 0, "ftol": 0},
    )
    above = distance(found.x)
    log.debug(
        "%d steps over all photos; loss %.6f, %.0e above its minimum at most",
        found.nit,
        found.fun,
        above,
    )
    if above > _TOLERANCE * np.log(classes):
        log.warning("The last layer has not quite reached its optimum.")
    layer = found.x.reshape(shape).astype(np.float32)
    return Layers((basis @ layer[:-1])[:, np.newaxis], layer[-1:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turns logits [..., C] into probabilities in place; returns the sums before division [...]."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    sums = logits.sum(axis=-1, keepdims=True)
    logits /= sums
    return sums[..., 0]
