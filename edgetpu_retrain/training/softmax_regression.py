"""Softmax regression trained by stochastic gradient descent, with PyCoral's interface."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.head import Head

log = logging.getLogger(__name__)

# Embeddings that are asked for at once.
_BLOCK = 2_048


class SoftmaxRegression:
    """The last layer of a classifier: softmax(embeddings @ weights + biases).

    A drop-in for ``pycoral.learn.backprop.softmax_regression.SoftmaxRegression``.

    Attributes:
        weights: [feature_dim, num_classes] float32.
        biases: [num_classes] float32.
        logit_range: (lowest, highest) logit over the training data after training; None before.

    >>> data = {"data_train": [[0.0, 3.0], [0.5, 2.0], [4.0, 1.0]], "labels_train": [0, 0, 1]}
    >>> layer = SoftmaxRegression(feature_dim=2, num_classes=2, seed=0)
    >>> layer.train_with_sgd(data, num_iter=200, learning_rate=0.1, print_every=0)
    >>> layer.predict([[0.2, 2.5], [3.0, 0.5]])
    array([0, 1])
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        weight_scale: float = 0.01,
        reg: float = 0.0,
        *,
        seed: int | None = None,
    ):
        """Initializes weights from N(0, weight_scale²) and biases with zeros.

        Args:
            feature_dim: the width D of an embedding.
            num_classes: the number C of classes.
            weight_scale: the standard deviation of the initial weights.
            reg: the factor of the L2 penalty, reg / 2 * sum(weights²).
            seed: makes initialization and batches repeatable; None takes fresh randomness.
        """
        self._random = np.random.default_rng(seed)
        self.feature_dim = int(feature_dim)
        self.num_classes = int(num_classes)
        self.reg = reg
        shape = (self.feature_dim, self.num_classes)
        self.weights = self._random.normal(0.0, weight_scale, shape).astype(np.float32)
        self.biases = np.zeros(self.num_classes, np.float32)
        self.logit_range: tuple[float, float] | None = None

    def train_with_sgd(
        self,
        data: Mapping[str, np.ndarray],
        num_iter: int,
        learning_rate: float,
        batch_size: int = 100,
        print_every: int = 100,
    ) -> None:
        """Minimizes the cross-entropy by SGD over batches drawn with replacement.

        Args:
            data: ``data_train`` [N, D] float and ``labels_train`` [N] int in [0, C);
                ``data_val`` [M, D] and ``labels_val`` [M], both optional, are only reported on.
                Embeddings may be anything that has a length and gives float32 arrays for slices
                and rows, so that they need not all be float32 at once.
            num_iter: how many batches.
            learning_rate: the step along the negative gradient.
            batch_size: how many embeddings per batch.
            print_every: log loss and accuracy after the last batch, and as details every so many
                batches; 0 for never.
        """
        embeddings, labels = _indexable(data["data_train"]), np.asarray(data["labels_train"])
        for iteration in range(num_iter):
            batch = self._random.integers(len(embeddings), size=batch_size)
            loss, gradient_weights, gradient_biases = self._loss(embeddings[batch], labels[batch])
            if print_every and iteration % print_every == 0:
                log.debug("iteration %d: %s", iteration, self._measure(loss, data))
            self.weights -= np.float32(learning_rate) * gradient_weights
            self.biases -= np.float32(learning_rate) * gradient_biases
        total, ends = 0.0, []
        for block in blocks(len(embeddings), _BLOCK):
            values = embeddings[block]
            logits = self._logits(values)
            ends.append((float(logits.min()), float(logits.max())))
            total += self._loss(values, labels[block])[0] * len(values)
        if print_every:
            loss = total / len(embeddings)
            log.info("After %d iterations: %s", num_iter, self._measure(loss, data))
        self.logit_range = (min(low for low, _ in ends), max(high for _, high in ends))

    def get_accuracy(self, mat_x: np.ndarray, labels: np.ndarray) -> float:
        """Returns the fraction of embeddings [N, D] whose highest logit is that of their label."""
        return float(np.mean(self.predict(mat_x) == np.asarray(labels)))

    def predict(self, mat_x: np.ndarray) -> np.ndarray:
        """Returns the class of the highest logit for embeddings [N, D], as int [N]."""
        embeddings = _indexable(mat_x)
        predicted = np.empty(len(embeddings), int)
        for block in blocks(len(embeddings), _BLOCK):
            predicted[block] = self._logits(embeddings[block]).argmax(axis=1)
        return predicted

    def serialize_model(self, in_model_path: str | Path) -> bytes:
        """Appends the layer to an embedding extractor.

        Args:
            in_model_path: path of the extractor's .tflite file, compiled or not.

        Returns:
            The classifier as a .tflite file's bytes.

        Raises:
            UserError: the extractor's output does not fit, or the file is not a model.
        """
        # Code that never serializes should not need the schema.
        from edgetpu_retrain.tflite.append_head import append_head
        from edgetpu_retrain.tflite.model import Model

        return append_head(Model.load(in_model_path), self.head).to_bytes()

    @property
    def head(self) -> Head:
        """The layer by itself."""
        return Head(self.weights, self.biases, self.logit_range)

    def _logits(self, embeddings: np.ndarray) -> np.ndarray:
        return self.head.logits(embeddings)

    def _loss(
        self, embeddings: np.ndarray, labels: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Returns the mean loss and its gradients (Bishop, PRML, equations 4.108 and 4.109)."""
        logits = self._logits(embeddings)
        logits -= logits.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        log_probabilities = logits - log_sums
        rows = np.arange(len(labels))
        penalty = 0.5 * self.reg * float(np.sum(self.weights**2))
        loss = float(-log_probabilities[rows, labels].mean()) + penalty
        errors = np.exp(log_probabilities)
        errors[rows, labels] -= 1
        errors /= len(labels)
        gradient_weights = embeddings.T @ errors + np.float32(self.reg) * self.weights
        return loss, gradient_weights, errors.sum(axis=0)

    def _measure(self, loss: float, data: Mapping[str, np.ndarray]) -> str:
        text = f"loss {loss:.4f}"
        for name, split in (("training", "train"), ("validation", "val")):
            if len(data.get(f"data_{split}", ())):
                accuracy = self.get_accuracy(data[f"data_{split}"], data[f"labels_{split}"])
                text += f", {name} accuracy {accuracy:.3f}"
        return text


def _indexable(embeddings: Any) -> Any:
    """Returns what gives float32 for slices and rows: `embeddings`, or an array of them."""
    if isinstance(embeddings, Sequence) or hasattr(embeddings, "__array__"):
        return np.asarray(embeddings, np.float32)
    return embeddings
