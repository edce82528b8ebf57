"""Measure the loss from quantization, on photos that were not used for calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.backbone.quantize.quantization import (
    Normalization,
    cosines,
    embed_both,
    silenced,
)
from edgetpu_retrain.tflite.float_network import IMAGE, SIGNATURE
from edgetpu_retrain.tflite.model import Model

_MAX_COST = 0.02
_FOLDS = 5
_SHOWN_LAYERS = 5
# Comparing all layers on one photo takes as long as comparing a dozen embeddings.
_LAYER_PHOTOS = 8
# Inverse strength of the L2 penalty, for embeddings with a mean squared norm of 1.
_C = 100.0


@dataclass(frozen=True)
class Layer:
    """The quantization error of a layer's output.

    Attributes:
        name: name of its output tensor.
        operator: name of its operator.
        error: root mean square of the difference to the float values, relative to the root mean
            square of the float values.
        error_before: the largest error among its inputs.
    """

    name: str
    operator: str
    error: float
    error_before: float


@dataclass(frozen=True)
class Check:
    """Comparison of a quantized extractor with its float extractor.

    Attributes:
        photos: number of photos compared.
        cosine: mean cosine similarity of a photo's quantized and float embeddings.
        lowest_cosine: lowest cosine similarity of any photo.
        accuracy: out-of-fold accuracy of a linear layer on the quantized embeddings; None if
            there are too few photos.
        float_accuracy: the same on the float embeddings, with the same folds.
        layers: layers with the largest errors, in descending order.
    """

    photos: int
    cosine: float
    lowest_cosine: float
    accuracy: float | None
    float_accuracy: float | None
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        photos = "1 other photo" if self.photos == 1 else f"{self.photos} other photos"
        text = (
            f"On {photos}, the cosine similarity of quantized and float embeddings is "
            f"{self.cosine:.4f}"
        )
        if self.accuracy is None or self.float_accuracy is None:
            return f"{text}."
        return (
            f"{text}; the accuracy of a linear layer is {self.accuracy:.1%} on quantized and "
            f"{self.float_accuracy:.1%} on float embeddings."
        )

    @property
    def warning(self) -> str | None:
        """A warning if quantization costs more than two points of accuracy; otherwise None."""
        if self.accuracy is None or self.float_accuracy is None:
            return None
        cost = self.float_accuracy - self.accuracy
        if cost <= _MAX_COST:
            return None
        worst = ", ".join(f"{layer.name} ({layer.operator})" for layer in self.layers[:3])
        return (
            f"Quantization costs {100 * cost:.1f} points of accuracy ({self.float_accuracy:.1%} to "
            f"{self.accuracy:.1%} on {self.photos} photos). Try more photos (calibration.photos), "
            "ReLU6 instead of unbounded activations, weight decay or quantization-aware training "
            f"for the network, or another network. Layers with the largest errors: {worst}."
        )


def check(
    extractor: str | Path,
    quantized: str | Path,
    pixels: np.ndarray,
    labels: Sequence[str],
    normalization: Normalization,
    num_threads: int = 1,
) -> Check | None:
    """Compares a quantized extractor with the float extractor it was made from.

    Args:
        extractor: path of the float extractor.
        quantized: path of the quantized extractor, which takes raw RGB bytes.
        pixels: [N, height, width, 3] uint8, photos that were not used for calibration.
        labels: [N], their classes.
        normalization: pixel scaling of the float extractor.
        num_threads: number of CPU threads.

    Returns:
        The comparison, or None if there are no photos.
    """
    if not len(pixels):
        return None
    actual, expected = embed_both(extractor, quantized, pixels, normalization, num_threads)
    similarities = cosines(actual, expected)
    layers = compare_layers(extractor, quantized, pixels[:_LAYER_PHOTOS], normalization)
    return Check(
        photos=len(pixels),
        cosine=float(similarities.mean()),
        lowest_cosine=float(similarities.min()),
        accuracy=linear_accuracy(actual, labels),
        float_accuracy=linear_accuracy(expected, labels),
        layers=tuple(layers[:_SHOWN_LAYERS]),
    )


def linear_accuracy(embeddings: np.ndarray, labels: Sequence[str]) -> float | None:
    """Returns the out-of-fold accuracy of softmax regression on embeddings.

    Args:
        embeddings: [N, D] float.
        labels: [N], classes.

    Returns:
        The share of photos classified correctly by a layer trained on the other folds. Classes with
        one photo are left out; the result is None if fewer than two classes remain.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = counts[classes] >= 2
    if np.sum(counts >= 2) < 2:
        return None
    scale = np.sqrt(np.mean(np.sum(np.square(embeddings), axis=1))) or 1.0
    folds = min(_FOLDS, int(counts[counts >= 2].min()))
    predicted = cross_val_predict(
        LogisticRegression(C=_C, max_iter=1000),
        embeddings[kept] / scale,
        classes[kept],
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
    )
    return float(np.mean(predicted == classes[kept]))


def compare_layers(
    extractor: str | Path,
    quantized: str | Path,
    pixels: np.ndarray,
    normalization: Normalization,
) -> list[Layer]:
    """Returns the quantization error of every layer, in descending order.

    Args:
        extractor: path of the float extractor.
        quantized: path of the quantized extractor.
        pixels: [N, height, width, 3] uint8.
        normalization: pixel scaling of the float extractor.
    """
    from ai_edge_quantizer import model_validator
    from ai_edge_quantizer.utils import validation_utils

    network = Model.load(extractor)
    metric = validation_utils.ValidationErrorMetric.MSE
    with silenced():
        results = model_validator.compare_model(
            Path(extractor).read_bytes(),
            Path(quantized).read_bytes(),
            {SIGNATURE: [{IMAGE: normalization(photo)[np.newaxis]} for photo in pixels]},
            error_metrics=[metric],
            compare_fns=[relative_error],
            num_threads=1,
        ).get_all_tensor_results()
    errors = {name: float(values[metric.value]) for name, values in results.items()}
    layers = []
    for operator in network.operators:
        name = network.full_name(operator.outputs[0])
        if name in errors:
            before = [errors.get(network.full_name(i), 0.0) for i in operator.inputs if i >= 0]
            spec = network.tensor(operator.outputs[0])
            layers.append(Layer(spec.name, operator.name, errors[name], max(before, default=0.0)))
    return sorted(layers, key=lambda layer: -layer.error)


def relative_error(actual: Any, expected: Any) -> float:
    """Returns the root mean square error, relative to the root mean square of `expected`.

    >>> round(relative_error([1.0, 1.1], [1.0, 1.0]), 3)
    0.071
    """
    expected = np.asarray(expected, np.float64)
    norm = np.linalg.norm(expected)
    return float(np.linalg.norm(np.asarray(actual, np.float64) - expected) / norm) if norm else 0.0
