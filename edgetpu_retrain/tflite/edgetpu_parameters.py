"""Lay out the parameters of a CPU model as the Edge TPU compiler does.

The layout is undocumented. It was worked out from published files, before and after compilation;
docs/how-it-works/compiled-files.md lists them. It applies to uint8 networks with one scale and zero
point per tensor, compiled in 2019.
"""

from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.tflite.model import Model, Operator

WITH_PARAMETERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"}
# The device multiplies 4 input channels at a time, and has 16 units of 4 output channels.
_LANES, _UNITS, _MAX_GROUP = 4, 16, 64


@dataclass(frozen=True)
class LayerParameters:
    """The parameters of one layer in a compiled file.

    Attributes:
        name: the operator and its output tensor.
        content: the bytes; None if the layout is unknown.
        paddings: possible numbers of zero bytes after them.
        proven: whether the layout was observed in published files rather than only derived.
    """

    name: str
    content: bytes | None
    paddings: tuple[int, ...] = (0,)
    proven: bool = False


def lay_out(model: Model) -> list[LayerParameters]:
    """Lays out the parameters of every layer that has any, in the order of the model.

    Args:
        model: a model that is not compiled.

    Raises:
        UserError: the size of a tensor does not match its shape.
    """
    return [_lay_out(model, one) for one in model.operators if one.name in WITH_PARAMETERS]


def _lay_out(model: Model, operator: Operator) -> LayerParameters:
    name = f"{operator.name} {model.tensor(operator.outputs[0]).name!r}"
    if operator.name == "SOFTMAX":
        logits = model.tensor(operator.inputs[0])
        if logits.scale is None:
            return LayerParameters(name, None)
        return LayerParameters(name, softmax(logits.shape[-1], logits.scale))
    weights, biases = (_array(model, i) for i in (*operator.inputs, -1, -1)[1:3])
    if weights is None or biases is None:
        return LayerParameters(name, None)
    zero_point = model.tensor(operator.inputs[1]).zero_point
    if weights.dtype != np.uint8 or biases.dtype != np.int32 or zero_point is None:
        return LayerParameters(name, None)
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    if operator.name == "FULLY_CONNECTED" and weights.ndim == 2:
        weights = weights[:, np.newaxis, np.newaxis]
    if weights.ndim != 4 or biases.shape != (weights.shape[3 if depthwise else 0],):
        raise model.error(f"is damaged: the weights and biases of {name} do not match.")
    kernel, channels = weights.shape[1:3], weights.shape[3]
    if depthwise:
        if channels % _LANES or channels != model.tensor(operator.inputs[0]).shape[-1]:
            return LayerParameters(name, None)
        content = depthwise_convolution(weights, biases, zero_point)
        # It is not known when groups without channels follow.
        ends = {channels, _up(channels, _UNITS), _up(channels, _group(channels))}
        paddings = tuple(sorted((end - channels) * len(content) // channels for end in ends))
        return LayerParameters(name, content, paddings, proven=kernel == (3, 3))
    # In the published files, kernels larger than 1 x 1 have at most 4 input channels.
    proven = operator.name == "CONV_2D" and (kernel == (1, 1) or channels <= _LANES)
    return LayerParameters(name, convolution(weights, biases, zero_point), proven=proven)


def convolution(weights: np.ndarray, biases: np.ndarray, zero_point: int) -> bytes:
    """Lays out a convolution, or a fully connected layer.

    For each group of 64 outputs: the biases, then, for every 4 input channels and every position in
    the kernel, 4 weights per output. Channels are padded to a multiple of 4 with the zero point,
    groups with zeros. A layer with at most 64 outputs is one group, padded to a multiple of 16.

    Args:
        weights: [O, H, W, I] uint8.
        biases: [O] int32.
        zero_point: zero point of the weights.
    """
    outputs, height, width, inputs = weights.shape
    group = _group(outputs)
    groups = _up(outputs, group) // group
    lanes = _up(inputs, _LANES) // _LANES
    values = np.zeros((groups * group, height, width, lanes * _LANES), np.uint8)
    values[: _up(outputs, _LANES)] = zero_point
    values[:outputs, :, :, :inputs] = weights
    taken_apart = values.reshape(groups, group, height, width, lanes, _LANES)
    blocks = taken_apart.transpose(0, 4, 2, 3, 1, 5).reshape(groups, -1)
    sums = np.zeros(groups * group, "<i4")
    sums[:outputs] = biases
    return np.concatenate([sums.view(np.uint8).reshape(groups, -1), blocks], axis=1).tobytes()


def depthwise_convolution(weights: np.ndarray, biases: np.ndarray, zero_point: int) -> bytes:
    """Lays out a depthwise convolution.

    For each group of 4 channels: the biases, then, for every position in the kernel, a 4 x 4 matrix
    with the weights on its diagonal and the zero point elsewhere.

    Args:
        weights: [1, H, W, C] uint8, C a multiple of 4.
        biases: [C] int32.
        zero_point: zero point of the weights.
    """
    _, height, width, channels = weights.shape
    groups, taps = channels // _LANES, height * width
    matrices = np.full((groups, taps, _LANES, _LANES), zero_point, np.uint8)
    diagonal = np.arange(_LANES)
    values = weights.reshape(taps, groups, _LANES).transpose(1, 0, 2)
    matrices[:, :, diagonal, diagonal] = values
    sums = biases.astype("<i4").view(np.uint8).reshape(groups, -1)
    return np.concatenate([sums, matrices.reshape(groups, -1)], axis=1).tobytes()


def softmax(channels: int, scale: float) -> bytes:
    """Lays out the parameters of a softmax, which depend only on its input's quantization.

    Groups of 4 channels as float32, each padded to 64 bytes: the offsets twice, then the scales,
    then a 1. For the channels that pad the last group, they give the smallest number.

    Args:
        channels: number of channels.
        scale: scale of the input.
    """
    groups = _up(channels, _LANES) // _LANES
    values = np.zeros((3, groups, _MAX_GROUP // 4), "<f4")
    offsets, scales = np.zeros((2, groups * _LANES), np.float32)
    offsets[channels:] = -0.0
    scales[:] = scale
    scales[channels:] *= np.finfo(np.float32).max
    values[:2, :, :_LANES] = offsets.reshape(groups, _LANES)
    values[2, :, :_LANES] = scales.reshape(groups, _LANES)
    end = np.zeros(_MAX_GROUP // 4, "<f4")
    end[0] = 1
    return values.tobytes() + end.tobytes()


def _array(model: Model, index: int) -> np.ndarray | None:
    """Returns the values of a constant; None if there is none, or if its dtype is not used."""
    data = model.constant(index) if index >= 0 else None
    spec = model.tensor(index)
    if data is None or spec.dtype not in ("uint8", "int32"):
        return None
    dtype = np.dtype(spec.dtype)
    if len(data) != np.prod(spec.shape) * dtype.itemsize:
        raise model.error(f"is damaged: {spec} has {len(data)} bytes.")
    return data.view(dtype).reshape(spec.shape)


def _group(outputs: int) -> int:
    """Returns the number of outputs in a group."""
    return min(_up(outputs, _UNITS), _MAX_GROUP)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
