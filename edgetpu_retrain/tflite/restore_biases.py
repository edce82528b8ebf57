"""Repair biases that overflow int32 in quantization."""

import numpy as np

from edgetpu_retrain.tflite.model import Model

# The axis of the output channels in the weights, each with its own scale.
_CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
# Half the range of int32, which leaves room to accumulate products on top of the bias.
_MAX_BIAS = 2**30


def restore_biases(model: Model, network: Model) -> int:
    """Repairs biases that overflowed int32, in place.

    A channel that died in training has weights near 0, so its scale is tiny and its bias overflows
    in units of that scale. As in TensorFlow's converter, the scale of such a channel is raised
    until its bias fits; the contribution of its weights is far below one unit of the output.

    Args:
        model: a model quantized per channel.
        network: the float network it was made from, with the same tensor names.

    Returns:
        The number of repaired channels.
    """
    float_tensors = {network.full_name(i): i for i in range(len(network.subgraph.tensors))}
    repaired = 0
    for operator in model.operators:
        axis = _CHANNEL_AXES.get(operator.name)
        if axis is None or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        image, weights, biases = operator.inputs
        names = [model.full_name(i) for i in (weights, biases)]
        if not all(name in float_tensors for name in names):
            continue
        real_weights, real_biases = (_float_values(network, float_tensors[name]) for name in names)
        quantization = model.subgraph.tensors[weights].quantization
        scales = np.asarray(quantization.scale, np.float64)
        needed = np.abs(real_biases) / (_MAX_BIAS * (model.tensor(image).scale or 1.0))
        overflowed = needed > scales
        if not overflowed.any():
            continue
        repaired += int(overflowed.sum())
        scales = np.where(overflowed, needed, scales).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(4)]
        values = np.round(real_weights / scales.reshape(shape)).clip(-127, 127)
        bias_scales = scales * np.float32(model.tensor(image).scale or 1.0)
        quantization.scale = scales
        model.subgraph.tensors[biases].quantization.scale = bias_scales
        limits = np.iinfo(np.int32)
        bias_values = np.round(real_biases.astype(np.float64) / bias_scales)
        model.set_constant(weights, values.astype(np.int8))
        model.set_constant(biases, bias_values.clip(limits.min, limits.max).astype(np.int32))
    return repaired


def _float_values(network: Model, index: int) -> np.ndarray:
    data = network.constant(index)
    assert data is not None
    return data.view(np.float32).reshape(network.tensor(index).shape)
