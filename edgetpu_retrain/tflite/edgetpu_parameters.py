"""The parameters of a model for the CPU, laid out as the Edge TPU compiler lays them out.

The compiler documents no layout. This one was found by comparing published files, before and after
compiling; docs/how-it-works/compiled-files.md says which. It holds for uint8 with one scale and
zero point per tensor, in compilers of 2019.
"""

from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.tflite.model import Model, Operator

WITH_PARAMETERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"}
# The device multiplies 4 input channels at a time, and has 16 units of 4 output channels.
_LANES, _UNITS, _MAX_GROUP = 4, 16, 64


@dataclass(frozen=True)
class LayerParameters:
    """What a compiled file holds for one layer.

    Attributes:
        name: the operator and the tensor that it writes.
        content: its bytes; None where the layout is not known.
        paddings: how many zero bytes may follow it.
        proven: whether the layout was found in published files, and not only derived.
    """

    name: str
    content: bytes | None
    paddings: tuple[int, ...] = (0,)
    proven: bool = False


def lay_out(model: Model) -> list[LayerParameters]:
    """Lays out the parameters of every layer that has some, in the model's order.

    Args:
        model: for the CPU.

    Raises:
        UserError: a tensor holds less or more than its shape says.
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
        raise model.error(f"is damaged: the weights and biases of {name} do not fit each other.")
    kernel, channels = weights.shape[1:3], weights.shape[3]
    if depthwise:
        if channels % _LANES or channels != model.tensor(operator.inputs[0]).shape[-1]:
            return LayerParameters(name, None)
        content = depthwise_convolution(weights, biases, zero_point)
        # Whether groups without channels follow depends on more than is known.
        ends = {channels, _up(channels, _UNITS), _up(channels, _group(channels))}
        paddings = tuple(sorted((end - channels) * len(content) // channels for end in ends))
        return LayerParameters(name, content, paddings, proven=kernel == (3, 3))
    # In the published files, kernels above 1 x 1 have no more than 4 input channels.
    proven = operator.name == "CONV_2D" and (kernel == (1, 1) or channels <= _LANES)
    return LayerParameters(name, convolution(weights, biases, zero_point), proven=proven)


def convolution(weights: np.ndarray, biases: np.ndarray, zero_point: int) -> bytes:
    """Lays out a convolution, or a fully connected layer.

    In groups of 64 outputs: the biases, then for every 4 input channels and every tap of the kernel
    the 4 weights of each output. Channels are filled up to 4 with the zero point, groups with 0. A
    layer of at most 64 outputs is one group, filled up to 16.

    Args:
        weights: [O, H, W, I] uint8.
        biases: [O] int32.
        zero_point: of the weights.
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

    In groups of 4 channels: the biases, then for every tap of the kernel a 4 x 4 matrix of the zero
    point with the weights on its diagonal.

    Args:
        weights: [1, H, W, C] uint8, C a multiple of 4.
        biases: [C] int32.
        zero_point: of the weights.
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
    """Lays out what a softmax needs, which depends on its input's quantization alone.

    In groups of 4 channels, float32 filled up to 64 bytes: twice the offsets, then the scales; and
    a 1 behind them. Channels that fill up the last group get the smallest number by these.

    Args:
        channels: how many there are.
        scale: of its input.
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
    """Returns the values of a constant; None where there is none, or of a dtype without use."""
    data = model.constant(index) if index >= 0 else None
    spec = model.tensor(index)
    if data is None or spec.dtype not in ("uint8", "int32"):
        return None
    dtype = np.dtype(spec.dtype)
    if len(data) != np.prod(spec.shape) * dtype.itemsize:
        raise model.error(f"is damaged: {spec} holds {len(data)} bytes.")
    return data.view(dtype).reshape(spec.shape)


def _group(outputs: int) -> int:
    """Returns how many outputs are laid out together."""
    return min(_up(outputs, _UNITS), _MAX_GROUP)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
