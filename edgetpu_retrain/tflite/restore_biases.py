"""Repair what a quantizer leaves wrong."""

import numpy as np

from edgetpu_retrain.tflite.model import Model

# Where the weights' scales lie, by channel.
_CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
# Half the range of int32, so that there is room to add products to a bias.
_MAX_BIAS = 2**30


def restore_biases(model: Model, network: Model) -> int:
    """Repairs the biases that did not fit into int32, in place.

    A channel that died in training has weights near 0, so a bias in units of its tiny scale
    overflows. As TensorFlow's converter does, the scale of such a channel is raised until its bias
    fits; what its weights add is far below one unit of the output.

    Args:
        model: quantized per channel.
        network: the float network that it was made of, whose tensors have the same names.

    Returns:
        How many channels were repaired.
    """
    floats = {network.full_name(i): i for i in range(len(network.subgraph.tensors))}
    repaired = 0
    for operator in model.operators:
        axis = _CHANNEL_AXES.get(operator.name)
        if axis is None or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        image, weights, biases = operator.inputs
        names = [model.full_name(i) for i in (weights, biases)]
        if not all(name in floats for name in names):
            continue
        real_weights, real_biases = (_float_values(network, floats[name]) for name in names)
        quantization = model.subgraph.tensors[weights].quantization
        scales = np.asarray(quantization.scale, np.float64)
        needed = np.abs(real_biases) / (_MAX_BIAS * (model.tensor(image).scale or 1.0))
        bad = needed > scales
        if not bad.any():
            continue
        repaired += int(bad.sum())
        scales = np.where(bad, needed, scales).astype(np.float32)
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
    content = network.constant(index)
    assert content is not None
    return content.view(np.float32).reshape(network.tensor(index).shape)
