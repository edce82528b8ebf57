"""Train softmax regression to its optimum: many layers at once with SGD, then one with L-BFGS.

A layer minimizes mean cross-entropy + strength / 2 * sum(weights²). Embeddings are centred and
scaled to a mean squared norm of 1, so a strength has the same effect with every extractor. The
weights are trained in the coordinates of the principal axes, scaled so that one learning rate suits
all directions. Training is deterministic and does not depend on the number of threads: the batches
are always the same, and so is the computation for each block of photos or layers.
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
# Columns of weights per matrix product. Fewer are inefficient, more leave threads idle.
_COLUMNS = 64
_MIN_UPDATES = 280
_MIN_EPOCHS = 2
# Initial learning rate, relative to the largest stable one.
_RATE = 0.6
_MOMENTUM = 0.9
# Photos per matrix product and thread.
_SGD_BLOCK = 1_024
_LBFGS_BLOCK = 1_024
# Typical second derivative of the loss by a logit, p (1 - p), near the optimum.
_CURVATURE = 0.1
_MAX_ITERATIONS = 500
# Maximum excess of the loss over its minimum, relative to the loss with all weights 0.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Plan:
    """The training photos and hyperparameters of H layers.

    Attributes:
        held_out: [H, 2] int, range of held-out folds: the first, and the one after the last.
        shares: [H] float, share of each class's photos to train on.
        strengths: [H] float32, strength of the L2 penalty.
        balanced: [H] bool, whether classes have equal weight; if not, photos have.
    """

    held_out: np.ndarray
    shares: np.ndarray
    strengths: np.ndarray
    balanced: np.ndarray

    @classmethod
    def of(cls, layers: Sequence[tuple[tuple[int, int], float, float, bool]]) -> "Plan":
        """Makes a plan from one (held_out, share, strength, balanced) per layer."""
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
        """Returns the plan of the chosen layers."""
        return Plan(
            self.held_out[chosen],
            self.shares[chosen],
            self.strengths[chosen],
            self.balanced[chosen],
        )

    def sees(self, data: TrainingData, photos: np.ndarray | slice) -> np.ndarray:
        """Returns whether each of the photos is trained on by each layer, bool [n, H]."""
        folds = data.folds[photos, np.newaxis]
        held_out = (folds >= self.held_out[:, 0]) & (folds < self.held_out[:, 1])
        return np.asarray(~held_out & (data.ranks[photos, np.newaxis] < self.shares))

    def class_weights(self, data: TrainingData) -> np.ndarray:
        """Returns float32 [C, H]: the weight in the loss of one photo of each class.

        The weights of all photos that a layer is trained on sum to 1.
        """
        counts = np.zeros((data.num_classes, len(self)))
        for block in data.blocks():
            np.add.at(counts, data.labels[block], self.sees(data, block))
        present = counts > 0
        equal = present / np.maximum(counts, 1) / np.maximum(present.sum(axis=0), 1)
        uniform = 1 / np.maximum(counts.sum(axis=0), 1)
        return np.asarray(np.where(self.balanced, equal, uniform), np.float32)


@dataclass(frozen=True)
class Layers:
    """H layers for centred and scaled embeddings.

    Attributes:
        weights: [D, H, C] float32.
        biases: [H, C] float32.
    """

    weights: np.ndarray
    biases: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the logits [n, H, C] of embeddings, float32 [n, D]."""
        width, layers, classes = self.weights.shape
        product = embeddings @ self.weights.reshape(width, layers * classes)
        return np.asarray(product.reshape(-1, layers, classes) + self.biases)


def train_sgd(data: TrainingData, plan: Plan, parallel_map: MapFunction = map) -> Layers:
    """Trains layers with SGD, starting at zero.

    Batches are drawn without replacement from one block of photos at a time. Training uses Nesterov
    momentum and a learning rate with cosine decay to 0. The layers are columns of one matrix,
    which is divided among threads.

    Args:
        data: photos to train on.
        plan: plan of the layers.
        parallel_map: a map function, such as `threads` yields.
    """
    # A compromise: the power 1/2 gives all axes equal curvature, a smaller one less batch noise.
    scale = (data.variances + data.variances.mean()) ** np.float32(-0.375)
    basis = data.axes * scale
    parts = data.blocks()
    batches = [max(1, round(len(data.labels[part]) / _BATCH)) for part in parts]
    epochs = max(_MIN_EPOCHS, -(-_MIN_UPDATES // sum(batches)))
    rate = _RATE / float(np.max(data.variances * scale**2))
    num_cuts = min(-(-len(plan) * data.num_classes // _COLUMNS), len(plan))
    cuts = [len(plan) * i // num_cuts for i in range(num_cuts + 1)]
    trainers = [
        _SgdLayers(data, plan.select(slice(*cut)), scale, rate, epochs * sum(batches))
        for cut in itertools.pairwise(cuts)
    ]
    # Batches are random, but the same in every run.
    random = np.random.default_rng(0)
    values = None
    for part, count in list(zip(parts, batches, strict=True)) * epochs:
        if values is None or len(parts) > 1:
            pieces = blocks(part.stop, _SGD_BLOCK, part.start)
            rotated = parallel_map(lambda piece: data.embeddings(piece) @ basis, pieces)
            values = np.concatenate(list(rotated))
        order = random.permutation(len(values))
        drawn = np.array_split(order, count)
        list(parallel_map(lambda d, v=values, p=part.start, b=drawn: d.step(v, p, b), trainers))
    return Layers(
        np.concatenate([basis @ d.weights for d in trainers], axis=1).reshape(
            len(basis), len(plan), data.num_classes
        ),
        np.concatenate([d.biases for d in trainers]).reshape(len(plan), data.num_classes),
    )


class _SgdLayers:
    """SGD state of some layers; weights [K, H * C] for scaled principal components."""

    def __init__(
        self, data: TrainingData, plan: Plan, scale: np.ndarray, rate: float, updates: int
    ):
        self._data, self._plan, self._rate, self._updates = data, plan, rate, updates
        self._class_weights = plan.class_weights(data)
        columns = len(plan) * data.num_classes
        self._penalties = np.outer(scale**2, np.repeat(plan.strengths, data.num_classes))
        self.weights = np.zeros((len(scale), columns), np.float32)
        self.biases = np.zeros(columns, np.float32)
        self._velocities = [np.zeros_like(self.weights), np.zeros_like(self.biases)]
        self._done = 0

    def step(self, values: np.ndarray, first: int, batches: list[np.ndarray]) -> None:
        """Takes one SGD step per batch.

        Args:
            values: [n, K] float32, scaled principal components of n consecutive photos.
            first: index of the first of these photos.
            batches: indices of rows of `values`, one array per batch.
        """
        data, layers = self._data, np.arange(len(self._plan))
        for batch in batches:
            photos, components = first + batch, values[batch]
            labels = data.labels[photos]
            errors = components @ self.weights
            errors += self.biases
            logits = errors.reshape(len(batch), len(layers), data.num_classes)
            softmax(logits)
            # In place: from probabilities to the derivative of the loss by the logits.
            logits[np.arange(len(batch))[:, np.newaxis], layers, labels[:, np.newaxis]] -= 1
            weights = self._plan.sees(data, photos) * self._class_weights[labels]
            logits *= (weights * np.float32(len(data.labels) / len(batch)))[:, :, np.newaxis]
            rate = self._rate * 0.5 * (1 + math.cos(math.pi * self._done / self._updates))
            for parameters, velocity, gradient in (
                (self.weights, self._velocities[0], components.T @ errors),
                (self.biases, self._velocities[1], errors.sum(axis=0)),
            ):
                velocity *= _MOMENTUM
                velocity += gradient
                gradient += _MOMENTUM * velocity
                gradient *= np.float32(rate)
                parameters -= gradient
            # An implicit step for the L2 penalty is stable even along axes with a small variance.
            self.weights /= 1 + np.float32(rate / (1 - _MOMENTUM)) * self._penalties
            self._done += 1


def refine_lbfgs(
    data: TrainingData, plan: Plan, start: Layers, parallel_map: MapFunction = map
) -> Layers:
    """Trains one layer to its optimum with L-BFGS over all photos.

    It stops when the loss is guaranteed to be within a tolerance of its minimum: with strength s,
    the excess is at most |gradient|² / 2s (strong convexity; Boyd & Vandenberghe, Convex
    Optimization, equation 9.9).

    Args:
        data: photos to train on.
        plan: plan of the one layer.
        start: initial layer, result of `train_sgd`.
        parallel_map: a map function, such as `threads` yields.
    """
    # Imported here because only the workflow depends on it.
    from scipy.optimize import minimize

    classes, strength = data.num_classes, float(plan.strengths[0])
    class_weights = plan.class_weights(data)
    # In these coordinates the loss has about the same curvature in all directions.
    scale = (_CURVATURE * data.variances + strength) ** -0.5
    basis = data.axes * scale.astype(np.float32)
    shape = (len(scale) + 1, classes)
    pieces = blocks(len(data.labels), _LBFGS_BLOCK)

    def loss(part: slice, weights: np.ndarray, biases: np.ndarray) -> tuple[float, Any, Any]:
        labels = data.labels[part]
        embeddings = data.embeddings(part)
        logits = embeddings @ weights + biases
        rows = np.arange(len(labels))
        highest = logits.max(axis=1)
        true_logits = logits[rows, labels] - highest
        sums = softmax(logits)
        photo_weights = plan.sees(data, part)[:, 0] * class_weights[labels, 0]
        # In place: from probabilities to the derivative of the loss by the logits.
        logits[rows, labels] -= 1
        logits *= photo_weights[:, np.newaxis]
        total = float(np.dot(photo_weights.astype(np.float64), np.log(sums) - true_logits))
        return total, embeddings.T @ logits, logits.sum(axis=0)

    @functools.lru_cache(maxsize=1)
    def evaluated(content: bytes) -> tuple[float, np.ndarray]:
        layer = np.frombuffer(content).reshape(shape)
        weights, biases = basis @ layer[:-1].astype(np.float32), layer[-1].astype(np.float32)
        total, weight_gradient, bias_gradient = 0.0, np.zeros(weights.shape), np.zeros(classes)
        losses = parallel_map(lambda piece: loss(piece, weights, biases), pieces)
        for part_loss, part_weight_gradient, part_bias_gradient in losses:
            total += part_loss
            weight_gradient += part_weight_gradient
            bias_gradient += part_bias_gradient
        penalized = scale[:, np.newaxis] * layer[:-1]
        penalty_gradient = strength * scale[:, np.newaxis] * penalized
        gradient = basis.T @ weight_gradient.astype(np.float32) + penalty_gradient
        total += strength / 2 * float(np.sum(penalized**2))
        return total, np.concatenate([gradient, bias_gradient[np.newaxis]]).reshape(-1)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        # Cached, because `stop_at_optimum` needs the last gradient again.
        total, gradient = evaluated(flat.tobytes())
        return total, gradient.copy()

    def stop_at_optimum(x: np.ndarray) -> None:
        if max_excess(x) <= _TOLERANCE * np.log(classes):
            raise StopIteration

    def max_excess(flat: np.ndarray) -> float:
        """Returns an upper bound of the excess of the loss over its minimum."""
        gradient = objective(flat)[1].reshape(shape)
        gradient[:-1] /= scale[:, np.newaxis]
        return float(np.sum(gradient**2)) / (2 * strength)

    initial = np.concatenate(
        [(data.axes.T @ start.weights[:, 0]) / scale[:, np.newaxis], start.biases]
    ).astype(np.float64)
    result = minimize(
        objective,
        initial.reshape(-1),
        jac=True,
        method="L-BFGS-B",
        callback=stop_at_optimum,
        options={"maxiter": _MAX_ITERATIONS, "gtol": 0, "ftol": 0},
    )
    excess = max_excess(result.x)
    log.debug(
        "L-BFGS iterations: %d; loss %.6f, at most %.0e above its minimum",
        result.nit,
        result.fun,
        excess,
    )
    if excess > _TOLERANCE * np.log(classes):
        log.warning(
            "Training of the last layer stopped before its optimum, after %d iterations.",
            result.nit,
        )
    layer = result.x.reshape(shape).astype(np.float32)
    return Layers((basis @ layer[:-1])[:, np.newaxis], layer[-1:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turns logits [..., C] into probabilities, in place.

    Returns:
        The sums [...] of exp(logit - highest logit), by which the probabilities were divided.
    """
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    sums = logits.sum(axis=-1, keepdims=True)
    logits /= sums
    return np.asarray(sums[..., 0])
