"""Lower the versions of operators to what their features need.

A newer converter writes a higher version for features that a network does not use; the Edge TPU
compiler then refuses an operator that it knows. Which feature needs which version is stated by
tensorflow/lite/tools/versioning/op_version.cc.
"""

from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model, TensorSpec

# What a rule is given: the options of the operator, what it reads (None for what is missing), what
# it writes, and whether a tensor of it has several scales.
_Rule = Callable[[Any, "list[TensorSpec | None]", TensorSpec, bool], int | None]

_MAX_DIMENSIONS = 4


def lower_versions(model: Model) -> Model:
    """Lowers the version of every operator whose features a lower one has; none is raised.

    Operators of other dtypes than uint8 and int8, and those that no rule is known for, stay as
    they are.

    Args:
        model: it stays as it is.

    Returns:
        A copy; it computes the same.
    """
    lowered = model.copy()
    _set_versions(lowered, min)
    return lowered


def raise_versions(model: Model) -> Model:
    """Raises the version of every operator that has features of a higher one; none is lowered.

    A quantizer leaves the versions of the float network.

    Args:
        model: it stays as it is.

    Returns:
        A copy; it computes the same.
    """
    raised = model.copy()
    _set_versions(raised, max)
    return raised


def _set_versions(model: Model, choose: Callable[[int, int], int]) -> None:
    for operator, described in zip(model.subgraph.operators, model.operators, strict=True):
        needed = _needed(model, operator)
        if needed is not None and choose(needed, described.version) != described.version:
            code = getattr(schema.BuiltinOperator, described.name)
            operator.opcodeIndex = model.code_index(code, needed)


def _needed(model: Model, operator: schema.OperatorT) -> int | None:
    """Returns the version that an operator's features need; None where that is not known."""
    described = model.describe(operator)
    rule = _RULES.get(described.name)
    tensors = [model.tensor(i) if i >= 0 else None for i in described.inputs]
    if rule is None or not tensors or len(described.outputs) != 1:
        return None
    output = model.tensor(described.outputs[0])
    kinds = {spec.dtype for spec in (*tensors, output) if spec is not None}
    if not kinds <= {"uint8", "int8", "int32"} or kinds == {"int32"}:
        return None
    several = any(model.scales(i) > 1 for i in (*described.inputs, *described.outputs) if i >= 0)
    try:
        return rule(operator.builtinOptions, tensors, output, several)
    except (AttributeError, IndexError, TypeError, ValueError):
        # Without its options, a shape or an input, it is the runtime's to refuse.
        return None


def _by_dtype(uint8: int, int8: int) -> _Rule:
    def rule(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
        return int8 if any(spec and spec.dtype == "int8" for spec in inputs) else uint8

    return rule


def _up_to_four_dimensions(
    options: Any, inputs: list, output: TensorSpec, several: bool
) -> int | None:
    if any(spec and len(spec.shape) > _MAX_DIMENSIONS for spec in inputs):
        return None
    return 2 if any(spec and spec.dtype == "int8" for spec in inputs) else 1


def _convolution(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    image, weights = inputs[:2]
    if image.shape[-1] != weights.shape[-1]:
        return 6  # in groups
    return 3 if weights.dtype == "int8" else 1


def _depthwise(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    if inputs[1].dtype == "int8":
        return 3
    return 1 if options.dilationWFactor == options.dilationHFactor == 1 else 2


def _fully_connected(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    if len(inputs) == 2 or inputs[2] is None:
        return 6
    if options.keepNumDims:
        return 5
    return 4 if inputs[1].dtype == "int8" else 1


def _product(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    scales = [spec.scale for spec in (*inputs[:2], output)]
    if None in scales or scales[0] * scales[1] >= scales[2]:
        return 3
    return 2 if inputs[0].dtype == "int8" else 1


def _quantize(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    return 3 if several else 1


def _dequantize(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    if several:
        return 5
    return 2 if inputs[0].dtype == "int8" else 1


def _transposed_convolution(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    if options.fusedActivationFunction:
        return 4
    if len(inputs) > 3 and inputs[3] is not None:
        return 3
    return 2 if inputs[1].dtype == "int8" else 1


def _resize(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    is_nearest = isinstance(options, schema.ResizeNearestNeighborOptionsT)
    if options.halfPixelCenters or (is_nearest and options.alignCorners):
        return 3
    return 2 if inputs[0].dtype == "int8" else 1


def _padding(options: Any, inputs: list, output: TensorSpec, several: bool) -> int:
    if len(inputs[0].shape) > _MAX_DIMENSIONS:
        return 4
    return 2 if inputs[0].dtype == "int8" else 1


_RULES: dict[str, _Rule] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "MUL": _product,
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
