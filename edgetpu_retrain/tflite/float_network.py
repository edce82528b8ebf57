"""From a float network to a float extractor that can be quantized for the Edge TPU."""

import struct
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.checks import check_width
from edgetpu_retrain.tflite.edgetpu_operators import replace_operators
from edgetpu_retrain.tflite.model import Model, some
from edgetpu_retrain.tflite.truncate import cut_at, find_cut, truncate

# What its one input and its one output are called in the signature of a float extractor.
SIGNATURE, IMAGE, EMBEDDING = "serving_default", "image", "embedding"
_FLOAT = ("float32",)
_REDUCED = ("float16", "int8", "uint8", "int16", "int4")
# What makes a vector of a picture at the end of a network without a last layer.
_POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "REDUCE_MAX"}
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_RESHAPES = {"RESHAPE", "SQUEEZE"}
_VECTOR = ((1,), (1, 1, 1))


def is_float(path: str | Path) -> bool:
    """Whether a .tflite file is a float network: takes float values that it does not quantize.

    False where it is not a TFLite model.
    """
    try:
        # Without the weights, which takes no time.
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
    """Cuts the last layer off a float network, and prepares the rest for quantization.

    A network that ends in a global pool has no last layer and is taken whole. Operators that the
    Edge TPU has not are replaced where that is possible.

    Args:
        network: takes one RGB image of float values; it stays as it is.
        tensor: name of the tensor to cut at, where it is not found by itself.
        width: how wide its embedding should be, if that is known.

    Returns:
        The extractor; its signature is `SIGNATURE`, from `IMAGE` to `EMBEDDING`.

    Raises:
        UserError: it takes or gives something else, or has dynamic shapes.
    """
    _check_image(network)
    _check_weights(network)
    if tensor is None:
        _check_scores(network)
    fixed = replace_operators(_without_batch(network))
    if tensor is not None:
        extractor = truncate(fixed, tensor, _FLOAT)
    elif _ends_in_pool(fixed):
        extractor = cut_at(fixed, int(fixed.subgraph.outputs[0]))
    else:
        extractor = cut_at(fixed, _before_reshapes(fixed, find_cut(fixed, _FLOAT)))
    check_width(extractor, width)
    _sign(extractor)
    return extractor


def first_layer(extractor: Model) -> Model:
    """Cuts off what is behind the first operator with weights, and its activation.

    Args:
        extractor: as `float_extractor` makes it; it stays as it is. Without weights it is copied.
    """
    for operator in extractor.operators:
        if operator.name in _WEIGHTED:
            layer = cut_at(extractor, operator.outputs[0])
            options = layer.subgraph.operators[-1].builtinOptions
            options.fusedActivationFunction = schema.ActivationFunctionType.NONE
            return layer
    return extractor.copy()


def _check_image(network: Model) -> None:
    if len(network.unpacked.subgraphs) != 1:
        raise network.error(
            f"has {len(network.unpacked.subgraphs)} subgraphs, as recurrent networks have for "
            "their loops; the Edge TPU runs networks without loops."
        )
    if len(network.inputs) != 1:
        names = ", ".join(spec.name for spec in network.inputs)
        raise network.error(
            f"takes {len(network.inputs)} inputs ({names}); an image classifier takes one."
        )
    (image,) = network.inputs
    if image.dtype != "float32":
        raise network.error(f"takes {image.dtype} values; a float network takes float32.")
    if len(image.shape) != 4 or image.shape[3] != 3:
        raise network.error(
            f"takes the shape {list(image.shape)}; expected one RGB image, [1, height, width, 3]."
        )
    signature = some(network.subgraph.tensors[network.subgraph.inputs[0]].shapeSignature)
    if any(n < 1 for n in list(signature)[1:3]) or image.shape[0] != 1:
        raise network.error(
            "takes images of any size or number, and the Edge TPU needs fixed shapes. Build it for "
            "one size, as in keras.Input((224, 224, 3)), and convert it again."
        )


def _check_scores(network: Model) -> None:
    if len(network.outputs) != 1:
        raise network.error(
            f"has {len(network.outputs)} outputs, so it is not a classifier. To take a part of it "
            f"as an extractor, name the tensor to cut at.\n{network.tail()}"
        )
    shape = network.outputs[0].shape
    if shape[:-1] not in _VECTOR:
        raise network.error(
            f"gives the shape {list(shape)}; a classifier or an extractor gives one vector, "
            "[1, D]. Let it end in a global pool (GlobalAveragePooling2D), or name the tensor to "
            "cut at.\n"
            f"{network.tail()}"
        )


def _check_weights(network: Model) -> None:
    for index in range(len(network.subgraph.tensors)):
        spec = network.tensor(index)
        if spec.dtype in _REDUCED and network.constant(index) is not None:
            raise network.error(
                f"holds the weights {spec.name!r} as {spec.dtype} and computes in float (float16 "
                "or dynamic range quantization). Convert it without optimizations."
            )


def _without_batch(network: Model) -> Model:
    """Fixes the batch to the one image that the shapes in the file are of."""
    fixed = network.copy()
    for tensor in fixed.subgraph.tensors:
        tensor.shapeSignature = None
    return fixed


def _ends_in_pool(network: Model) -> bool:
    writer = network.writer(_before_reshapes(network, int(network.subgraph.outputs[0])))
    return writer is not None and writer.name in _POOLS


def _before_reshapes(network: Model, index: int) -> int:
    """Follows a vector back to where it is made, past what only writes its shape anew."""
    while (writer := network.writer(index)) is not None and writer.name in _RESHAPES:
        if network.tensor(writer.inputs[0]).shape[:-1] not in _VECTOR:
            break
        index = writer.inputs[0]
    return index


def _sign(extractor: Model) -> None:
    """Writes the signature by which the quantizer finds input and output."""
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    for what, name in (("inputs", IMAGE), ("outputs", EMBEDDING)):
        entry = schema.TensorMapT()
        entry.name = name
        (entry.tensorIndex,) = map(int, getattr(extractor.subgraph, what))
        setattr(signature, what, [entry])
    extractor.unpacked.signatureDefs = [signature]
