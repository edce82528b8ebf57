"""Make an extractor take raw RGB bytes, whatever the scaling its network was trained with."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model

_BYTES = np.arange(256)
_TOLERANCE = 0.5 + 1e-3


def take_raw_rgb(model: Model, mean: float | None, std: float | None) -> Model:
    """Prepends a QUANTIZE unless a model's input values are pixel values already.

    A network's input is q = (pixel - mean) / (std * scale) + zero_point. The input of the QUANTIZE
    is uint8 with scale 1 / std and zero point mean, rounded to an integer. It runs on the host; all
    other operators, including compiled ones, are unchanged.

    Args:
        model: a model with one quantized image as input; it is not changed.
        mean: pixel value that the network takes as 0. If `mean` and `std` are None, uint8 inputs
            are pixel and int8 inputs pixel - 128.
        std: number of pixel values per unit of the network's input.

    Returns:
        A model that takes uint8 pixels; `model` itself if it already does.

    Raises:
        UserError: the input has no scale and zero point.
    """
    (index,) = model.subgraph.inputs
    spec = model.tensor(index)
    if spec.scale is None or spec.zero_point is None:
        raise model.error(f"has the input {spec}, which has no scale and zero point.")
    if mean is None or std is None:
        scale = spec.scale
        zero_point: float = spec.zero_point + (128 if spec.dtype == "int8" else 0)
    else:
        scale, zero_point = 1 / std, mean
    values = (_BYTES - zero_point) * (scale / spec.scale) + spec.zero_point
    # Rounding a fractional zero point costs up to half a unit.
    if spec.dtype == "uint8" and np.abs(values - _BYTES).max() <= _TOLERANCE:
        return model
    raw = model.copy()
    name = f"{spec.name}/raw_rgb"
    # The zero point of a uint8 tensor is an integer from 0 to 255.
    zero_point = min(max(round(zero_point), 0), 255)
    pixels = raw.add_tensor(name, spec.shape, "uint8", scale, zero_point)
    raw.add_operator("QUANTIZE", [pixels], int(index), schema.QuantizeOptionsT(), first=True)
    raw.set_input(pixels)
    return raw
