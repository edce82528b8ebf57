"""Make a network take RGB if it takes grey images, and make its ends quantized."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import drop_unused

# Brightness as in ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, in multiples of 1/217. At this scale,
# the weights are exact in int8 and uint8, and their sum is 1, so grey pixels keep their value.
_WEIGHTS = np.array([65, 127, 25]).reshape(1, 1, 1, 3)
_SCALE = 1 / 217
GREY_WEIGHTS = "rgb_to_grey/weights"


def accept_rgb(model: Model) -> Model:
    """Prepends a 1x1 CONV_2D that computes brightness from RGB to a model that takes grey images.

    Args:
        model: any model, float or quantized; it is not changed.

    Returns:
        A model whose input is an RGB image, with the dtype and quantization of the original input;
        `model` itself if it does not take one grey image.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or model.inputs[0].shape[3] != 1:
        return model
    (spec,) = model.inputs
    rgb = model.copy()
    image = rgb.add_tensor(
        "rgb_to_grey/image", (*spec.shape[:3], 3), spec.dtype, spec.scale, spec.zero_point
    )
    if spec.dtype == "float32":
        version = 1
        weights = rgb.add_constant(GREY_WEIGHTS, (_WEIGHTS * _SCALE).astype(np.float32))
        bias = rgb.add_constant("rgb_to_grey/bias", np.zeros(1, np.float32))
    elif spec.scale is not None:
        version = 1 if spec.dtype == "uint8" else 3
        weights = rgb.add_constant(GREY_WEIGHTS, _WEIGHTS.astype(spec.dtype), _SCALE, 0)
        bias = rgb.add_constant("rgb_to_grey/bias", np.zeros(1, np.int32), _SCALE * spec.scale, 0)
    else:
        return model
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    options.padding = schema.Padding.VALID
    grey = int(rgb.subgraph.inputs[0])
    rgb.add_operator("CONV_2D", [image, weights, bias], grey, options, version, first=True)
    rgb.set_input(image)
    return rgb


def drop_float_ends(model: Model) -> Model:
    """Removes the QUANTIZE at the input and the DEQUANTIZE at the output of a quantized model.

    TensorFlow's converter adds them unless inference_input_type and inference_output_type are set.

    Args:
        model: any model; it is not changed.

    Returns:
        The model without them; `model` itself if it has neither.
    """
    inner = model.copy()
    if len(model.inputs) == 1 and model.inputs[0].dtype == "float32":
        image = int(model.subgraph.inputs[0])
        consumers = [i for i, op in enumerate(model.operators) if image in op.inputs]
        if len(consumers) == 1 and model.operators[consumers[0]].name == "QUANTIZE":
            (quantized,) = model.operators[consumers[0]].outputs
            del inner.subgraph.operators[consumers[0]]
            inner.set_input(quantized)
    if len(model.outputs) == 1 and model.outputs[0].dtype == "float32":
        output = int(model.subgraph.outputs[0])
        producer = model.producer(output)
        if producer is not None and producer.name == "DEQUANTIZE":
            position = next(i for i, op in enumerate(inner.operators) if output in op.outputs)
            del inner.subgraph.operators[position]
            inner.subgraph.outputs = [producer.inputs[0]]
            for entry in inner.signature_entries("outputs"):
                entry.tensorIndex = producer.inputs[0]
    if len(inner.operators) == len(model.operators):
        return model
    drop_unused(inner)
    return inner
