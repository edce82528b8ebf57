"""Softmax regression trained with stochastic gradient descent, with PyCoral's interface."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.head import Head

log = logging.getLogger(__name__)

# Embeddings per block.
_BLOCK = 2_048


class SoftmaxRegression:
    """The last layer of a classifier: softmax(embeddings @ weights + biases).

    A drop-in replacement for ``pycoral.learn.backprop.softmax_regression.SoftmaxRegression``.

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
            feature_dim: number D of values in an embedding.
            num_classes: number C of classes.
            weight_scale: standard deviation of the initial weights.
            reg: factor of the L2 penalty, reg / 2 * sum(weights²).
            seed: seed of initialization and batches; None for a different one every time.
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
        """Minimizes the cross-entropy with SGD on batches drawn with replacement.

        Args:
            data: ``data_train`` [N, D] float and ``labels_train`` [N] int in [0, C). Optionally
                ``data_val`` [M, D] and ``labels_val`` [M]; their accuracy is only logged.
                Embeddings may be any object that has a length and returns float32 arrays for
                slices and index arrays, so they need not all be in memory as float32.
            num_iter: number of batches.
            learning_rate: learning rate.
            batch_size: number of embeddings per batch.
            print_every: number of batches between debug messages with loss and accuracy, which are
                also logged at the end; 0 to log nothing.
        """
        embeddings, labels = _indexable(data["data_train"]), np.asarray(data["labels_train"])
        for iteration in range(num_iter):
            batch = self._random.integers(len(embeddings), size=batch_size)
            loss, gradient_weights, gradient_biases = self._loss(embeddings[batch], labels[batch])
            if print_every and iteration % print_every == 0:
                log.debug("Iteration %d: %s", iteration, self._describe(loss, data))
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
            log.info("After %d iterations: %s", num_iter, self._describe(loss, data))
        self.logit_range = (min(low for low, _ in ends), max(high for _, high in ends))

    def get_accuracy(self, mat_x: np.ndarray, labels: np.ndarray) -> float:
        """Returns the share of embeddings [N, D] that are classified as their labels [N] int."""
        return float(np.mean(self.predict(mat_x) == np.asarray(labels)))

    def predict(self, mat_x: np.ndarray) -> np.ndarray:
        """Returns the predicted classes, int [N], of embeddings [N, D]."""
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
            The classifier, as the contents of a .tflite file.

        Raises:
            UserError: the file is not a model, or its output is not a quantized embedding with
                `feature_dim` values.
        """
        # Importing this module should not require the schema.
        from edgetpu_retrain.tflite.append_head import append_head
        from edgetpu_retrain.tflite.model import Model

        return append_head(Model.load(in_model_path), self.head).to_bytes()

    @property
    def head(self) -> Head:
        """The layer as a `Head`."""
        return Head(self.weights, self.biases, self.logit_range)

    def _logits(self, embeddings: np.ndarray) -> np.ndarray:
        return self.head.logits(embeddings)

    def _loss(
        self, embeddings: np.ndarray, labels: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Returns the mean loss, and its gradients by weights and biases.

        Source: Bishop, Pattern Recognition and Machine Learning, equations 4.108 and 4.109.
        """
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

    def _describe(self, loss: float, data: Mapping[str, np.ndarray]) -> str:
        text = f"loss {loss:.4f}"
        for name, split in (("training", "train"), ("validation", "val")):
            if len(data.get(f"data_{split}", ())):
                accuracy = self.get_accuracy(data[f"data_{split}"], data[f"labels_{split}"])
                text += f", {name} accuracy {accuracy:.3f}"
        return text


def _indexable(embeddings: Any) -> Any:
    """Returns embeddings as a float32 array, or unchanged if they are an object as described."""
    if isinstance(embeddings, Sequence) or hasattr(embeddings, "__array__"):
        return np.asarray(embeddings, np.float32)
    return embeddings
