"""Measure what quantizing an extractor costs, on photos that it was not calibrated on."""

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
# Every layer is compared on these alone: one of them takes as long as a dozen without its layers.
_LAYER_PHOTOS = 8
# Inverse strength of the L2 penalty, for embeddings whose mean squared length is 1.
_C = 100.0


@dataclass(frozen=True)
class Layer:
    """How far a layer's values are from those of the float network.

    Attributes:
        name: the tensor that it writes.
        operator: its operator.
        error: root mean square of the difference, as a share of that of the float values.
        error_before: the largest error among what it reads.
    """

    name: str
    operator: str
    error: float
    error_before: float


@dataclass(frozen=True)
class Check:
    """What a quantized extractor gives where the float one gave something else.

    Attributes:
        photos: how many both were compared on.
        cosine: mean cosine of the two embeddings of a photo.
        lowest_cosine: that of the photo where they differ most.
        accuracy: out-of-fold accuracy of a linear layer on the quantized embeddings; None where
            there are too few photos.
        float_accuracy: that on the float embeddings, with the same folds.
        layers: those with the largest error, in descending order.
    """

    photos: int
    cosine: float
    lowest_cosine: float
    accuracy: float | None
    float_accuracy: float | None
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        text = f"On {self.photos} others its embeddings have a cosine of {self.cosine:.4f} to float"
        if self.accuracy is None or self.float_accuracy is None:
            return f"{text}."
        return (
            f"{text} ones; a linear layer is correct on {self.accuracy:.1%} of them, on "
            f"{self.float_accuracy:.1%} with float ones."
        )

    @property
    def warning(self) -> str | None:
        """What to do where quantizing costs too much accuracy; None where it does not."""
        if self.accuracy is None or self.float_accuracy is None:
            return None
        cost = self.float_accuracy - self.accuracy
        if cost <= _MAX_COST:
            return None
        worst = ", ".join(f"{layer.name} ({layer.operator})" for layer in self.layers[:3])
        return (
            f"Quantizing costs {100 * cost:.1f} points of accuracy ({self.float_accuracy:.1%} to "
            f"{self.accuracy:.1%} on {self.photos} photos). What to try: more photos "
            "(calibration.photos); ReLU6 in place of activations without a limit; training the "
            "network with weight decay, or quantization-aware; another network. The layers "
            f"with the largest error: {worst}."
        )


def check(
    extractor: str | Path,
    quantized: str | Path,
    pixels: np.ndarray,
    labels: Sequence[str],
    normalization: Normalization,
    num_threads: int = 1,
) -> Check | None:
    """Compares a quantized extractor with the float one that it was made of.

    Args:
        extractor: path of the float one.
        quantized: path of the other one, which takes raw bytes.
        pixels: [N, height, width, 3] uint8, photos that it was not calibrated on.
        labels: [N], their classes.
        normalization: of the float one.
        num_threads: how many threads the CPU may use.

    Returns:
        None where there is no photo.
    """
    if not len(pixels):
        return None
    found, expected = embed_both(extractor, quantized, pixels, normalization, num_threads)
    near = cosines(found, expected)
    layers = compare_layers(extractor, quantized, pixels[:_LAYER_PHOTOS], normalization)
    return Check(
        photos=len(pixels),
        cosine=float(near.mean()),
        lowest_cosine=float(near.min()),
        accuracy=linear_accuracy(found, labels),
        float_accuracy=linear_accuracy(expected, labels),
        layers=tuple(layers[:_SHOWN_LAYERS]),
    )


def linear_accuracy(embeddings: np.ndarray, labels: Sequence[str]) -> float | None:
    """Returns the out-of-fold accuracy of softmax regression on embeddings.

    Args:
        embeddings: [N, D] float.
        labels: [N].

    Returns:
        The share of photos that a layer got right which was trained on the other folds; None where
        fewer than two classes have two photos each.
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
    """Compares what every layer gives, in descending order of error.

    Args:
        extractor: path of the float extractor.
        quantized: path of the quantized one.
        pixels: [N, height, width, 3] uint8.
        normalization: of the float one.
    """
    from ai_edge_quantizer import model_validator
    from ai_edge_quantizer.utils import validation_utils

    network = Model.load(extractor)
    metric = validation_utils.ValidationErrorMetric.MSE
    with silenced():
        errors = model_validator.compare_model(
            Path(extractor).read_bytes(),
            Path(quantized).read_bytes(),
            {SIGNATURE: [{IMAGE: normalization(photo)[np.newaxis]} for photo in pixels]},
            error_metrics=[metric],
            compare_fns=[relative_error],
            num_threads=1,
        ).get_all_tensor_results()
    found = {name: float(values[metric.value]) for name, values in errors.items()}
    layers = []
    for operator in network.operators:
        name = network.full_name(operator.outputs[0])
        if name in found:
            before = [found.get(network.full_name(i), 0.0) for i in operator.inputs if i >= 0]
            spec = network.tensor(operator.outputs[0])
            layers.append(Layer(spec.name, operator.name, found[name], max(before, default=0.0)))
    return sorted(layers, key=lambda layer: -layer.error)


def relative_error(found: Any, expected: Any) -> float:
    """Returns the root mean square of a difference as a share of that of what was expected.

    >>> round(relative_error([1.0, 1.1], [1.0, 1.0]), 3)
    0.071
    """
    expected = np.asarray(expected, np.float64)
    size = np.linalg.norm(expected)
    return float(np.linalg.norm(np.asarray(found, np.float64) - expected) / size) if size else 0.0
