"""Turn a float network into a float extractor that can be quantized for the Edge TPU."""

import struct
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.checks import check_width
from edgetpu_retrain.tflite.edgetpu_operators import replace_operators
from edgetpu_retrain.tflite.image_input import GREY_WEIGHTS, accept_rgb
from edgetpu_retrain.tflite.image_shape import explain_shape
from edgetpu_retrain.tflite.integrity import or_empty
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import POOLS, cut_at, find_cut, truncate

# The signature of a float extractor, and the names of its input and output.
SIGNATURE, IMAGE, EMBEDDING = "serving_default", "image", "embedding"
_FLOAT = ("float32",)
_REDUCED_PRECISION = ("float16", "int8", "uint8", "int16", "int4")
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_RESHAPES = {"RESHAPE", "SQUEEZE"}
_VECTOR = ((1,), (1, 1, 1))


def is_float(path: str | Path) -> bool:
    """Returns whether a .tflite file is a float network: float32 input and no QUANTIZE.

    Returns False if the file is not a TFLite model.
    """
    try:
        # Fast, because the weights are not parsed.
        packed = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
        graph = packed.Subgraphs(0)
        takes_float = graph.Tensors(graph.Inputs(0)).Type() == schema.TensorType.FLOAT32
        codes = [packed.OperatorCodes(i) for i in range(packed.OperatorCodesLength())]
    except (OSError, struct.error, IndexError, AttributeError, TypeError):
        return False
    quantize = schema.BuiltinOperator.QUANTIZE
    return takes_float and all(
        quantize not in (code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes
    )


def float_extractor(network: Model, tensor: str | None = None, width: int | None = None) -> Model:
    """Cuts off the last layer of a float network, and prepares the rest for quantization.

    A network that ends in global pooling has no last layer and is used whole. Operators the Edge
    TPU does not support are replaced where possible.

    Args:
        network: a network whose input is one float32 image, RGB or grey; it is not changed.
        tensor: name of the tensor to cut at; None to detect it.
        width: expected number of values in the embedding, if known.

    Returns:
        The extractor; its signature is `SIGNATURE`, from `IMAGE` to `EMBEDDING`.

    Raises:
        UserError: the input or output is not as expected, or a shape is dynamic.
    """
    _check_image(network)
    _check_weights(network)
    if tensor is None:
        _check_scores(network)
    fixed = replace_operators(accept_rgb(_with_fixed_shapes(network)))
    if tensor is not None:
        extractor = truncate(fixed, tensor, _FLOAT)
    elif _ends_in_pool(fixed):
        extractor = cut_at(fixed, int(fixed.subgraph.outputs[0]))
    else:
        tensor_index, reason = find_cut(fixed, _FLOAT)
        extractor = cut_at(fixed, _before_reshapes(fixed, tensor_index), reason)
    check_width(extractor, width)
    _set_signature(extractor)
    return extractor


def first_layer(extractor: Model) -> Model:
    """Returns the extractor up to its first operator with weights, without the activation.

    The operator that computes grey from RGB (`accept_rgb`) does not count.

    Args:
        extractor: result of `float_extractor`; it is not changed. If it has no weights, the
            result is a copy.
    """
    for operator in extractor.operators:
        is_grey = GREY_WEIGHTS in (extractor.full_name(i) for i in operator.inputs if i >= 0)
        if operator.name in _WEIGHTED and not is_grey:
            layer = cut_at(extractor, operator.outputs[0])
            options = layer.subgraph.operators[-1].builtinOptions
            options.fusedActivationFunction = schema.ActivationFunctionType.NONE
            return layer
    return extractor.copy()


def _check_image(network: Model) -> None:
    if len(network.unpacked.subgraphs) != 1:
        raise network.error(
            f"has {len(network.unpacked.subgraphs)} subgraphs, as recurrent networks do; the Edge "
            "TPU does not support loops."
        )
    if len(network.inputs) != 1:
        names = ", ".join(spec.name for spec in network.inputs)
        raise network.error(
            f"has {len(network.inputs)} inputs ({names}); an image classifier has one."
        )
    (image,) = network.inputs
    if image.dtype != "float32":
        raise network.error(f"has a {image.dtype} input; a float network has a float32 input.")
    if reason := explain_shape(image.shape):
        raise network.error(f"{reason}.")
    signature = or_empty(network.subgraph.tensors[network.subgraph.inputs[0]].shapeSignature)
    if any(n < 1 for n in list(signature)[1:3]) or image.shape[0] != 1:
        raise network.error(
            "has an input of variable size, or for several images at a time. The Edge TPU needs "
            "one image of a fixed size: build the network for one size, as in "
            "keras.Input((224, 224, 3)), and convert it again."
        )


def _check_scores(network: Model) -> None:
    if len(network.outputs) != 1:
        raise network.error(
            f"has {len(network.outputs)} outputs, so it is not a classifier. To use part of it as "
            f"an extractor, set the backbone's tensor to cut at.\n{network.tail()}"
        )
    shape = network.outputs[0].shape
    if shape[:-1] not in _VECTOR:
        raise network.error(
            f"has an output of shape {list(shape)}; a classifier or an extractor outputs one "
            "vector, [1, D]. End it in global pooling (GlobalAveragePooling2D), or set the "
            "backbone's tensor to cut at.\n"
            f"{network.tail()}"
        )


def _check_weights(network: Model) -> None:
    for index in range(len(network.subgraph.tensors)):
        spec = network.tensor(index)
        if spec.dtype in _REDUCED_PRECISION and network.constant(index) is not None:
            raise network.error(
                f"stores the weights {spec.name!r} as {spec.dtype} but computes in float (float16 "
                "or dynamic range quantization). Convert it without optimizations."
            )
        values = network.constant(index) if spec.dtype == "float32" else None
        if values is not None and not np.isfinite(values.view(np.float32)).all():
            raise network.error(
                f"has weights that are not numbers (NaN or infinite), in {spec.name!r}. Its "
                "training diverged: train it again with a lower learning rate, or use an earlier "
                "checkpoint."
            )


def _with_fixed_shapes(network: Model) -> Model:
    """Returns a copy with the shapes stored in the file, which are those of a batch of one."""
    fixed = network.copy()
    for tensor in fixed.subgraph.tensors:
        tensor.shapeSignature = None
    return fixed


def _ends_in_pool(network: Model) -> bool:
    operator = network.producer(_before_reshapes(network, int(network.subgraph.outputs[0])))
    return operator is not None and operator.name in POOLS


def _before_reshapes(network: Model, index: int) -> int:
    """Follows a vector back through reshapes to the tensor where it is computed."""
    while (operator := network.producer(index)) is not None and operator.name in _RESHAPES:
        if network.tensor(operator.inputs[0]).shape[:-1] not in _VECTOR:
            break
        index = operator.inputs[0]
    return index


def _set_signature(extractor: Model) -> None:
    """Sets the signature, by which the quantizer finds the input and the output."""
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    for field, name in (("inputs", IMAGE), ("outputs", EMBEDDING)):
        entry = schema.TensorMapT()
        entry.name = name
        (entry.tensorIndex,) = map(int, getattr(extractor.subgraph, field))
        setattr(signature, field, [entry])
    extractor.unpacked.signatureDefs = [signature]
