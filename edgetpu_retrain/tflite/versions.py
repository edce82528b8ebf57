"""Set the versions of operators to what their features need.

Newer converters write higher versions even if a network does not use the features that need them.
The Edge TPU compiler then rejects an operator that it supports in a lower version. The versions are
those of tensorflow/lite/tools/versioning/op_version.cc.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model, TensorSpec

# The inputs of an operator. Omitted optional inputs are None, so an element is
# `TensorSpec | None`; a rule that uses a required input raises if it is None.
_Inputs = Sequence[Any]
# Returns the version needed, from an operator's options, inputs and output, and whether one of its
# tensors is quantized per channel.
_Rule = Callable[[Any, _Inputs, TensorSpec, bool], int | None]

_MAX_DIMENSIONS = 4


def lower_versions(model: Model) -> Model:
    """Lowers the version of every operator that needs only a lower one; never raises a version.

    Operators with dtypes other than uint8 and int8, and operators without a rule, are unchanged.

    Args:
        model: the model; it is not changed.

    Returns:
        An equivalent copy.
    """
    lowered = model.copy()
    _set_versions(lowered, min)
    return lowered


def raise_versions(model: Model) -> Model:
    """Raises the version of every operator that needs a higher one; never lowers a version.

    This is needed after quantization, because the quantizer keeps the float network's versions.

    Args:
        model: the model; it is not changed.

    Returns:
        An equivalent copy.
    """
    raised = model.copy()
    _set_versions(raised, max)
    return raised


def _set_versions(model: Model, choose: Callable[[int, int], int]) -> None:
    for operator, described in zip(model.subgraph.operators, model.operators, strict=True):
        needed = _needed_version(model, operator)
        if needed is not None and choose(needed, described.version) != described.version:
            code = getattr(schema.BuiltinOperator, described.name)
            operator.opcodeIndex = model.code_index(code, needed)


def _needed_version(model: Model, operator: schema.OperatorT) -> int | None:
    """Returns the version that an operator's features need; None if that is unknown."""
    described = model.describe(operator)
    rule = _RULES.get(described.name)
    tensors = [model.tensor(i) if i >= 0 else None for i in described.inputs]
    if rule is None or not tensors or len(described.outputs) != 1:
        return None
    output = model.tensor(described.outputs[0])
    dtypes = {spec.dtype for spec in (*tensors, output) if spec is not None}
    if not dtypes <= {"uint8", "int8", "int32"} or dtypes == {"int32"}:
        return None
    per_channel = any(
        model.num_scales(i) > 1 for i in (*described.inputs, *described.outputs) if i >= 0
    )
    try:
        return rule(operator.builtinOptions, tensors, output, per_channel)
    except (AttributeError, IndexError, TypeError, ValueError):
        # Options, a shape or an input are missing; leave the error to the runtime.
        return None


def _by_dtype(uint8: int, int8: int) -> _Rule:
    def rule(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
        return int8 if any(spec and spec.dtype == "int8" for spec in inputs) else uint8

    return rule


def _up_to_four_dimensions(
    options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool
) -> int | None:
    if any(spec and len(spec.shape) > _MAX_DIMENSIONS for spec in inputs):
        return None
    return 2 if any(spec and spec.dtype == "int8" for spec in inputs) else 1


def _convolution(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    image, weights = inputs[:2]
    if image.shape[-1] != weights.shape[-1]:
        return 6  # grouped convolution
    return 3 if weights.dtype == "int8" else 1


def _depthwise(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    if inputs[1].dtype == "int8":
        return 3
    return 1 if options.dilationWFactor == options.dilationHFactor == 1 else 2


def _fully_connected(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    if len(inputs) == 2 or inputs[2] is None:
        return 6
    if options.keepNumDims:
        return 5
    return 4 if inputs[1].dtype == "int8" else 1


def _multiply(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    scales = [spec.scale for spec in (*inputs[:2], output)]
    if None in scales or scales[0] * scales[1] >= scales[2]:
        return 3
    return 2 if inputs[0].dtype == "int8" else 1


def _quantize(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    return 3 if per_channel else 1


def _dequantize(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    if per_channel:
        return 5
    return 2 if inputs[0].dtype == "int8" else 1


def _transposed_convolution(
    options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool
) -> int:
    if options.fusedActivationFunction:
        return 4
    if len(inputs) > 3 and inputs[3] is not None:
        return 3
    return 2 if inputs[1].dtype == "int8" else 1


def _resize(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    is_nearest = isinstance(options, schema.ResizeNearestNeighborOptionsT)
    if options.halfPixelCenters or (is_nearest and options.alignCorners):
        return 3
    return 2 if inputs[0].dtype == "int8" else 1


def _padding(options: Any, inputs: _Inputs, output: TensorSpec, per_channel: bool) -> int:
    if len(inputs[0].shape) > _MAX_DIMENSIONS:
        return 4
    return 2 if inputs[0].dtype == "int8" else 1


_RULES: dict[str, _Rule] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "MUL": _multiply,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
    "TRANSPOSE_CONV": _transposed_convolution,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "PAD": _padding,
    "PADV2": _padding,
    "RESHAPE": _by_dtype(1, 1),
    "SQUEEZE": _by_dtype(1, 1),
    "HARD_SWISH": _by_dtype(1, 1),
    "RELU": _by_dtype(2, 2),
    **dict.fromkeys(
        (
            "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "DEPTH_TO_SPACE", "EXP", "LOGISTIC",
            "MAX_POOL_2D", "MEAN", "MIRROR_PAD", "RELU6", "SOFTMAX", "SPACE_TO_DEPTH", "SUM",
            "TANH",
        ),
        _by_dtype(1, 2),
    ),
    **dict.fromkeys(
        (
            "L2_NORMALIZATION", "MAXIMUM", "MINIMUM", "PACK", "REDUCE_MAX", "REDUCE_MIN", "SLICE",
            "SPLIT", "STRIDED_SLICE", "SUB", "TRANSPOSE",
        ),
        _up_to_four_dimensions,
    ),
}  # fmt: skip
