"""Let an extractor take raw RGB bytes, whatever its network was trained with."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model

_BYTES = np.arange(256)
_TOLERANCE = 0.5 + 1e-3


def take_raw_rgb(model: Model, mean: float | None, std: float | None) -> Model:
    """Puts a QUANTIZE in front where the input of a model is not the pixel itself.

    A network's input is q = (pixel - mean) / (std * scale) + zero_point. The QUANTIZE takes uint8
    of scale 1 / std and zero point mean, the nearest whole number to it; it runs on the host, and
    what is behind it stays as it is, compiled operators too.

    Args:
        model: takes one quantized image; it stays as it is.
        mean: the pixel value that stands for 0; with `std`, None where uint8 inputs are pixels
            and int8 inputs pixel - 128.
        std: how many pixel values stand for 1.

    Returns:
        A model that takes uint8 pixels; the same one where it does so already.

    Raises:
        UserError: its input has no scale and zero point.
    """
    (index,) = model.subgraph.inputs
    wanted = model.tensor(index)
    if wanted.scale is None or wanted.zero_point is None:
        raise model.error(f"takes {wanted}, which has no scale and zero point.")
    if mean is None or std is None:
        scale = wanted.scale
        zero_point: float = wanted.zero_point + (128 if wanted.dtype == "int8" else 0)
    else:
        scale, zero_point = 1 / std, mean
    values = (_BYTES - zero_point) * (scale / wanted.scale) + wanted.zero_point
    # Half a unit is what a zero point between two whole numbers costs.
    if wanted.dtype == "uint8" and np.abs(values - _BYTES).max() <= _TOLERANCE:
        return model
    raw = model.copy()
    name = f"{wanted.name}/raw_rgb"
    # The zero point of uint8 is a whole number from 0 to 255.
    zero_point = min(max(round(zero_point), 0), 255)
    pixels = raw.add_tensor(name, wanted.shape, "uint8", scale, zero_point)
    raw.add_operator("QUANTIZE", [pixels], int(index), schema.QuantizeOptionsT(), first=True)
    raw.subgraph.inputs = [pixels]
    for entry in raw.signature_entries("inputs"):
        entry.tensorIndex = pixels
    return raw
