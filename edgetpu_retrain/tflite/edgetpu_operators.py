"""Check for operators the Edge TPU does not support, and replace them where possible.

The list of supported operators is Coral's (https://coral.ai/docs/edgetpu/models-intro/#supported-operations).
"""

from collections import Counter

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model, Operator

SUPPORTED = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "EXPAND_DIMS",
    "FULLY_CONNECTED",
    "L2_NORMALIZATION",
    "LOGISTIC",
    "LSTM",
    "MAXIMUM",
    "MAX_POOL_2D",
    "MEAN",
    "MINIMUM",
    "MUL",
    "PACK",
    "PAD",
    "PRELU",
    "QUANTIZE",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "RSQRT",
    "SLICE",
    "SOFTMAX",
    "SPACE_TO_DEPTH",
    "SPLIT",
    "SQUARED_DIFFERENCE",
    "SQUEEZE",
    "STRIDED_SLICE",
    "SUB",
    "SUM",
    "TANH",
    "TRANSPOSE",
    "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
}
_RELU6 = schema.ActivationFunctionType.RELU6
_MAX_SHOWN = 5


def check_operators(model: Model, allow_cpu_operators: bool = False) -> None:
    """Checks that the Edge TPU supports every operator of a model.

    Args:
        model: a model that is not compiled.
        allow_cpu_operators: accept other operators, which then run on the CPU.

    Raises:
        UserError: it does not; the message lists the operators and their outputs.
    """
    unsupported = [operator for operator in model.operators if operator.name not in SUPPORTED]
    if unsupported and not allow_cpu_operators:
        counts = Counter(operator.name for operator in unsupported)
        names = ", ".join(f"{name} ({count})" for name, count in counts.items())
        lines = [f"  {op.name} -> {model.tensor(op.outputs[0])}" for op in unsupported[:_MAX_SHOWN]]
        more = len(unsupported) - len(lines)
        lines += [f"  ... and {more} more"] if more else []
        raise model.error(
            f"has operators the Edge TPU does not support: {names}.\n" + "\n".join(lines) + "\n"
            "Build the network without them (for example, with ReLU as activation), or run them on "
            "the CPU, which is slow: set compiler.allow_cpu_operators in the config."
        )


def replace_operators(model: Model) -> Model:
    """Replaces operators of a float network that the Edge TPU or the quantizer does not support.

    HARD_SWISH, LEAKY_RELU and PRELU become ADD and MUL; a separate RELU6 is fused into a MUL by 1;
    SQUEEZE and EXPAND_DIMS become RESHAPE; REDUCE_MAX over height and width becomes MAX_POOL_2D. A
    shape that is computed, which converters do if the batch size is unknown, becomes a constant.

    Args:
        model: a float network whose tensors have fixed shapes; it is not changed.

    Returns:
        An equivalent network. Operators that are no longer needed are still in it.
    """
    changed = model.copy()
    for position in reversed(range(len(model.subgraph.operators))):
        operator = changed.describe(changed.subgraph.operators[position])
        replace = _REPLACEMENTS.get(operator.name)
        if replace is not None:
            builder = _Builder(changed, position)
            if replace(builder, operator):
                builder.finish()
    return changed


class _Builder:
    """Builds the operators that replace the one at `position`."""

    def __init__(self, model: Model, position: int):
        self.model = model
        self.position = position
        self._first = len(model.subgraph.operators)

    def constant(self, value: float | np.ndarray, suffix: str) -> int:
        values = np.asarray(value, np.float32) if isinstance(value, float) else value
        return self.model.add_constant(f"replaced_{self.position}/{suffix}", np.atleast_1d(values))

    def result(self, like: int, suffix: str, shape: tuple[int, ...] | None = None) -> int:
        """Adds a tensor with the dtype of `like`, and its shape unless `shape` is given."""
        spec = self.model.tensor(like)
        name = f"{spec.name}/{suffix}"
        return self.model.add_tensor(name, spec.shape if shape is None else shape, spec.dtype)

    def add(
        self, left: int, right: int, output: int, activation: int = 0, name: str = "ADD"
    ) -> None:
        options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}[name]()
        options.fusedActivationFunction = activation
        self.model.add_operator(name, [left, right], output, options)

    def multiply(self, left: int, right: int, output: int, activation: int = 0) -> None:
        self.add(left, right, output, activation, "MUL")

    def reshape(self, source: int, output: int) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = list(self.model.tensor(output).shape)
        shape = self.constant(np.array(options.newShape, np.int32), "shape")
        self.model.add_operator("RESHAPE", [source, shape], output, options)

    def finish(self) -> None:
        operators = self.model.subgraph.operators
        added = operators[self._first :]
        del operators[self._first :]
        operators[self.position : self.position + 1] = added


def _hard_swish(builder: _Builder, operator: Operator) -> bool:
    """Replaces HARD_SWISH: x * relu6(x + 3) / 6."""
    (x,), (output,) = operator.inputs, operator.outputs
    shifted, gate = (builder.result(x, suffix) for suffix in ("shifted", "gate"))
    builder.add(x, builder.constant(3.0, "three"), shifted, _RELU6)
    builder.multiply(shifted, builder.constant(1 / 6, "sixth"), gate)
    builder.multiply(x, gate, output)
    return True


def _leaky_relu(builder: _Builder, operator: Operator) -> bool:
    """Replaces LEAKY_RELU and PRELU: alpha * x + (1 - alpha) * relu(x)."""
    x, (output,) = operator.inputs[0], operator.outputs
    if operator.name == "PRELU":
        slopes, data = operator.inputs[1], builder.model.constant(operator.inputs[1])
        if data is None:
            return False
        alpha = data.view(np.float32).reshape(builder.model.tensor(slopes).shape)
    else:
        options = builder.model.subgraph.operators[builder.position].builtinOptions
        alpha = np.array(options.alpha, np.float32)
    low, positive, high = (builder.result(x, suffix) for suffix in ("low", "positive", "high"))
    builder.multiply(x, builder.constant(alpha, "alpha"), low)
    # The schema has no options table for RELU, so it is fused into a MUL by 1.
    builder.multiply(x, builder.constant(1.0, "one"), positive, schema.ActivationFunctionType.RELU)
    builder.multiply(positive, builder.constant(1 - alpha, "rest"), high)
    builder.add(low, high, output)
    return True


def _relu6(builder: _Builder, operator: Operator) -> bool:
    (x,), (output,) = operator.inputs, operator.outputs
    builder.multiply(x, builder.constant(1.0, "one"), output, _RELU6)
    return True


def _as_reshape(builder: _Builder, operator: Operator) -> bool:
    """Replaces SQUEEZE, EXPAND_DIMS, and RESHAPE if its new shape is computed."""
    is_computed = len(operator.inputs) > 1 and builder.model.constant(operator.inputs[1]) is None
    if operator.name == "RESHAPE" and not is_computed:
        return False
    builder.reshape(operator.inputs[0], operator.outputs[0])
    return True


def _reduce_max(builder: _Builder, operator: Operator) -> bool:
    """Replaces REDUCE_MAX over the height and width of [1, height, width, channels]."""
    x, axes = operator.inputs
    (output,) = operator.outputs
    data, shape = builder.model.constant(axes), builder.model.tensor(x).shape
    reduced = set() if data is None else {int(axis) % 4 for axis in data.view(np.int32)}
    if len(shape) != 4 or reduced != {1, 2}:
        return False
    pooled = builder.result(x, "pooled", (1, 1, 1, shape[3]))
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.VALID
    options.filterHeight, options.filterWidth = shape[1:3]
    options.strideH = options.strideW = 1
    builder.model.add_operator("MAX_POOL_2D", [x], pooled, options)
    builder.reshape(pooled, output)
    return True


_REPLACEMENTS = {
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _leaky_relu,
    "RELU6": _relu6,
    "SQUEEZE": _as_reshape,
    "EXPAND_DIMS": _as_reshape,
    "RESHAPE": _as_reshape,
    "REDUCE_MAX": _reduce_max,
}
