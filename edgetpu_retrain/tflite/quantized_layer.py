"""Add a quantized fully connected layer to a model."""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model

# With a smaller scale, biases overflow int32. A layer with such small weights scores all photos
# alike anyway.
_MIN_WEIGHT_SCALE = 1e-6


@dataclass(frozen=True)
class _Quantized:
    """Quantized values: real = scale * (values - zero_point)."""

    values: np.ndarray
    scale: float
    zero_point: int


def add_layer(
    model: Model,
    source: int,
    weights: np.ndarray,
    biases: np.ndarray,
    output: str,
    quantization: tuple[float, int],
) -> int:
    """Adds FULLY_CONNECTED after all other operators, in the dtype of its input.

    Args:
        model: the model to change.
        source: index of the input, a quantized tensor of shape [1, D] or [1, 1, 1, D].
        weights: [D, C] float32.
        biases: [C] float32.
        output: name of the output; weights and biases get names with the same prefix.
        quantization: scale and zero point of the output.

    Returns:
        The index of the output, of shape [1, C].
    """
    spec = model.tensor(source)
    assert spec.scale is not None
    is_uint8 = spec.dtype == "uint8"
    quantized = _quantize_weights(weights.T, np.dtype(spec.dtype))
    bias_scale = spec.scale * quantized.scale
    steps = np.round(biases / bias_scale).clip(-(2**31), 2**31 - 1).astype(np.int32)
    result = model.add_tensor(output, [1, weights.shape[1]], spec.dtype, *quantization)
    prefix = output.rpartition("/")[0]
    layer = [
        source,
        model.add_constant(
            f"{prefix}/weights", quantized.values, quantized.scale, quantized.zero_point
        ),
        model.add_constant(f"{prefix}/biases", steps, bias_scale, 0),
    ]
    options = schema.FullyConnectedOptionsT()
    model.add_operator("FULLY_CONNECTED", layer, result, options, version=1 if is_uint8 else 4)
    return result


def _quantize_weights(weights: np.ndarray, dtype: np.dtype) -> _Quantized:
    """Quantizes weights [C, D]: int8 symmetrically, uint8 over a range that includes 0.

    The lowest value is unused, as in quantization-aware training (``narrow_range`` of TensorFlow's
    FakeQuant), so layers of such networks keep their exact weights.
    """
    if dtype == np.int8:
        scale = max(float(np.abs(weights).max()) / 127, _MIN_WEIGHT_SCALE)
        return _Quantized(np.round(weights / scale).astype(np.int8), scale, 0)
    low, high = float(weights.min()), float(weights.max())
    scale, zero_point = range_quantization(low, high, 1, 255, _MIN_WEIGHT_SCALE)
    values = (np.round(weights / scale) + zero_point).clip(1, 255)
    return _Quantized(values.astype(np.uint8), scale, zero_point)


def range_quantization(
    low: float, high: float, first: int, last: int, min_scale: float
) -> tuple[float, int]:
    """Returns the scale and zero point that map [low, high], extended to 0, to first..last."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (last - first), min_scale)
    return scale, round(first - low / scale)
