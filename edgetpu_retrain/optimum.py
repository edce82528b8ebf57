"""Softmax regression at its optimum: many layers by SGD at once, one of them to the end.

A layer minimizes mean cross-entropy + strength / 2 * sum(weights²). Embeddings are centred and
scaled by one number, so that their mean square length is 1; a strength means the same for every
extractor. Nothing here depends on chance or on the number of threads: the batches are always the
same, and what a thread computes is the same wherever it runs.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

log = logging.getLogger(__name__)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_BATCH = 128
# Columns of weights per matrix product; fewer waste the processor, more leave threads idle.
_COLUMNS = 128
_MIN_UPDATES = 800
_MIN_EPOCHS = 2
# Largest step that stays stable: a mean square length of 1 has no direction with more than some
# tenths of it.
_RATE = 10.0
_MOMENTUM = np.float32(0.9)
_PART = 8_192
_MAX_ITERATIONS = 500
# How far the loss may be above its minimum, as a part of the loss of a layer of zeros.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Data:
    """Quantized embeddings of N photos with classes, read a batch at a time.

    Attributes:
        vectors: [M, D] uint8 or int8.
        rows: [N] int, which vector is the photo's.
        labels: [N] int, classes.
        folds: [N] int, of the cross-validation.
        ranks: [N] float in (0, 1), for drawing subsets: place within the class.
        num_classes: C.
        mean: [D] float32, of the N quantized vectors.
        spread: root of the mean square distance from the mean.
    """

    vectors: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    ranks: np.ndarray
    num_classes: int
    mean: np.ndarray
    spread: float

    @classmethod
    def of(
        cls,
        vectors: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        folds: np.ndarray,
        num_classes: int,
    ) -> "Data":
        """Measures mean and spread, and ranks photos by their order."""
        total = np.zeros(vectors.shape[1], np.int64)
        squares = 0
        for start in range(0, len(rows), _PART):
            part = vectors[rows[start : start + _PART]].astype(np.int32)
            total += part.sum(axis=0)
            squares += int(np.einsum("ij,ij->", part, part, dtype=np.int64))
        mean = total / len(rows)
        variance = squares / len(rows) - float(np.sum(mean**2))
        ranks = np.empty(len(rows))
        for label in range(num_classes):
            chosen = np.flatnonzero(labels == label)
            ranks[chosen] = (np.arange(len(chosen)) + 0.5) / max(len(chosen), 1)
        return cls(
            vectors,
            rows,
            labels,
            folds,
            ranks,
            num_classes,
            mean.astype(np.float32),
            max(variance, 0.0) ** 0.5 or 1.0,
        )

    def sample(self, count: int) -> "Data":
        """Returns at most `count` photos, evenly taken; itself where there are no more."""
        if len(self.rows) <= count:
            return self
        step = -(-len(self.rows) // count)
        return replace(
            self,
            rows=self.rows[::step],
            labels=self.labels[::step],
            folds=self.folds[::step],
            ranks=self.ranks[::step],
        )

    def embeddings(self, chosen: np.ndarray | slice) -> np.ndarray:
        """Returns centred and scaled embeddings of some photos, float32 [n, D]."""
        found = self.vectors[self.rows[chosen]].astype(np.float32)
        found -= self.mean
        found *= np.float32(1 / self.spread)
        return found

    def parts(self) -> list[slice]:
        """Returns slices of the photos that fit into memory as float32."""
        return [slice(i, i + _PART) for i in range(0, len(self.rows), _PART)]


@dataclass(frozen=True)
class Plan:
    """What each of H layers is trained on, and how.

    Attributes:
        held_out: [H] int, the fold that a layer does not see; -1 for none.
        shares: [H] float, the part of each class's photos that it sees.
        strengths: [H] float32, of the L2 penalty.
        balanced: [H] bool, whether each class counts the same, instead of each photo.
    """

    held_out: np.ndarray
    shares: np.ndarray
    strengths: np.ndarray
    balanced: np.ndarray

    @classmethod
    def of(cls, layers: list[tuple[int, float, float, bool]]) -> "Plan":
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

    def take(self, chosen: slice) -> "Plan":
        """Returns some of the layers."""
        return Plan(
            self.held_out[chosen],
            self.shares[chosen],
            self.strengths[chosen],
            self.balanced[chosen],
        )

    def sees(self, data: Data, photos: np.ndarray | slice) -> np.ndarray:
        """Returns [n, H] bool, which photos each layer is trained on."""
        return (data.folds[photos, np.newaxis] != self.held_out) & (
            data.ranks[photos, np.newaxis] < self.shares
        )

    def class_weights(self, data: Data) -> np.ndarray:
        """Returns float32 [C, H]: the weight of a class's photo in the loss; all sum to 1."""
        counts = np.stack(
            [
                np.bincount(data.labels[seen], minlength=data.num_classes)
                for seen in self.sees(data, slice(None)).T
            ],
            axis=1,
        ).astype(np.float64)
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


def descend(data: Data, plan: Plan, num_threads: int = 1) -> Layers:
    """Trains all layers by SGD, from zero.

    Batches are drawn without replacement; Nesterov's momentum; the rate falls like a cosine to 0.
    Layers are columns of one matrix, which is divided among threads.

    Args:
        data: what to train on.
        plan: the layers.
        num_threads: how many run at once; the result does not depend on it.
    """
    per_block = max(1, _COLUMNS // data.num_classes)
    blocks = [plan.take(slice(i, i + per_block)) for i in range(0, len(plan), per_block)]
    done = _in_threads(lambda block: _descend(data, block), blocks, num_threads)
    found = list(done)
    return Layers(
        np.concatenate([layers.weights for layers in found], axis=1),
        np.concatenate([layers.biases for layers in found]),
    )


def _descend(data: Data, plan: Plan) -> Layers:
    classes, photos = data.num_classes, len(data.rows)
    weights = np.zeros((len(data.mean), len(plan) * classes), np.float32)
    biases = np.zeros(len(plan) * classes, np.float32)
    speeds, bias_speeds = np.zeros_like(weights), np.zeros_like(biases)
    strengths = np.repeat(plan.strengths, classes)
    class_weights = plan.class_weights(data)
    layers = np.arange(len(plan))
    batches = max(1, round(photos / _BATCH))
    epochs = max(_MIN_EPOCHS, -(-_MIN_UPDATES // batches))
    # Which photos share a batch needs to be random, not different every time.
    random = np.random.default_rng(0)
    for update in range(epochs * batches):
        if update % batches == 0:
            drawn = np.array_split(random.permutation(photos), batches)
        batch = drawn[update % batches]
        labels = data.labels[batch]
        embeddings = data.embeddings(batch)
        logits = (embeddings @ weights + biases).reshape(len(batch), len(plan), classes)
        softmax(logits)
        # In place, from probabilities to the derivative of the loss by the logits.
        logits[np.arange(len(batch))[:, np.newaxis], layers, labels[:, np.newaxis]] -= 1
        seen = plan.sees(data, batch) * class_weights[labels]
        logits *= (seen * np.float32(photos / len(batch)))[:, :, np.newaxis]
        errors = logits.reshape(len(batch), -1)
        rate = np.float32(_RATE * 0.5 * (1 + np.cos(np.pi * update / (epochs * batches))))
        gradient = embeddings.T @ errors
        gradient += strengths * weights
        for values, speed, slope in (
            (weights, speeds, gradient),
            (biases, bias_speeds, errors.sum(axis=0)),
        ):
            speed *= _MOMENTUM
            speed += slope
            slope += _MOMENTUM * speed
            slope *= rate
            values -= slope
    return Layers(weights.reshape(-1, len(plan), classes), biases.reshape(len(plan), classes))


def finish(data: Data, plan: Plan, start: Layers, num_threads: int = 1) -> Layers:
    """Takes one layer the rest of the way to its optimum, by L-BFGS over all photos.

    It ends where the loss is certainly within a tolerance of its minimum: with a strength s, it is
    above it by at most |gradient|² / 2s (strong convexity; Boyd & Vandenberghe, equation 9.9).

    Args:
        data: what to train on.
        plan: of one layer.
        start: what `descend` reached.
        num_threads: how many run at once; the result does not depend on it.
    """
    # Importing the library should not need what only the workflow does.
    from scipy.optimize import minimize

    classes, width = data.num_classes, len(data.mean)
    strength = float(plan.strengths[0])
    class_weights = plan.class_weights(data)
    shape = (width + 1, classes)

    def loss(part: slice, layer: np.ndarray) -> tuple[float, np.ndarray]:
        labels = data.labels[part]
        embeddings = data.embeddings(part)
        scores = embeddings @ layer[:-1] + layer[-1]
        rows = np.arange(len(labels))
        highest = scores.max(axis=1)
        own = scores[rows, labels] - highest
        sums = softmax(scores)
        factors = plan.sees(data, part)[:, 0] * class_weights[labels, 0]
        scores[rows, labels] -= 1
        scores *= factors[:, np.newaxis]
        gradient = np.concatenate([embeddings.T @ scores, scores.sum(axis=0, keepdims=True)])
        return float(np.dot(factors.astype(np.float64), np.log(sums) - own)), gradient

    @functools.lru_cache(maxsize=1)
    def evaluated(content: bytes) -> tuple[float, np.ndarray]:
        flat = np.frombuffer(content)
        layer = flat.reshape(shape)
        values = layer.astype(np.float32)
        total, gradient = 0.0, np.zeros(shape)
        for part_loss, part in _in_threads(lambda p: loss(p, values), data.parts(), num_threads):
            total += part_loss
            gradient += part
        gradient[:-1] += strength * layer[:-1]
        total += strength / 2 * float(np.sum(layer[:-1] ** 2))
        return total, gradient.reshape(-1)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        # The last result is asked for again to see whether it is the optimum.
        total, gradient = evaluated(flat.tobytes())
        return total, gradient.copy()

    def stop_at_optimum(x: np.ndarray) -> None:
        if distance(x) <= _TOLERANCE * np.log(classes):
            raise StopIteration

    def distance(flat: np.ndarray) -> float:
        """How far the loss is above its minimum at most."""
        return float(np.sum(objective(flat)[1] ** 2)) / (2 * strength)

    first = np.concatenate([start.weights[:, 0], start.biases]).astype(np.float64).reshape(-1)
    found = minimize(
        objective,
        first,
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
    return Layers(layer[:-1, np.newaxis], layer[-1:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turns logits [..., C] into probabilities in place; returns the sums before division [...]."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    sums = logits.sum(axis=-1, keepdims=True)
    logits /= sums
    return sums[..., 0]


def _in_threads(
    function: Callable[[_In], _Out], items: list[_In], num_threads: int
) -> Iterator[_Out]:
    """Yields function(item) in order; each call computes with one thread."""
    # Importing the library should not need what only the workflow does.
    from threadpoolctl import threadpool_limits

    # The order of a sum, and so its last bits, depends on the number of threads of a product.
    with threadpool_limits(1), ThreadPoolExecutor(num_threads) as threads:
        yield from threads.map(function, items)
