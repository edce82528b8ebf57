"""The last layers of a quantized network: what they compute, and how to replace their weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.integrity import or_empty
from edgetpu_retrain.tflite.model import Model

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
_OTHERS = ("ADD", "CONCATENATION", "MEAN", "PAD", "RESHAPE", "QUANTIZE")
SUPPORTED = (*_WEIGHTED, *_POOLS, *_OTHERS)
_ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: (-np.inf, np.inf),
    schema.ActivationFunctionType.RELU: (0.0, np.inf),
    schema.ActivationFunctionType.RELU6: (0.0, 6.0),
}
_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}


@dataclass(frozen=True)
class Grid:
    """The values that a quantized tensor can take: scale * (n - zero_point) for low <= n <= high.

    Attributes:
        scale: [1] or, with one scale per channel, [channels] float32.
        zero_point: the integer that represents 0.
        low: the smallest integer.
        high: the largest integer.
    """

    scale: np.ndarray
    zero_point: int
    low: int
    high: int

    @property
    def smallest(self) -> np.ndarray:
        """The smallest real value, in the shape of `scale`."""
        return self.scale * np.float32(self.low - self.zero_point)

    @property
    def largest(self) -> np.ndarray:
        """The largest real value, in the shape of `scale`."""
        return self.scale * np.float32(self.high - self.zero_point)

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Returns the real values, float32, of integers [..., channels]."""
        return np.asarray(self.scale * (values.astype(np.float32) - np.float32(self.zero_point)))

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Returns the nearest integers, int64, of real values [..., channels]."""
        rounded = np.rint(values.astype(np.float64) / self.scale) + self.zero_point
        return np.asarray(np.clip(rounded, self.low, self.high).astype(np.int64))


@dataclass(frozen=True)
class Layer:
    """An operator of a quantized network.

    Attributes:
        operator: its name in the schema, one of `SUPPORTED`.
        inputs: indices of the tensors that it reads, without constants.
        output: index of the tensor that it writes.
        output_grid: the values its output can take.
        bounds: smallest and largest real value that the activation function lets through.
        weights: index of the tensor of weights; None if it has none.
        biases: index of the tensor of biases; None if it has none.
        strides: (vertical, horizontal).
        padding: "SAME" or "VALID".
        window: (height, width) of a pool.
        shape: shape of the output.
        axes: axis of a concatenation, axes of a mean.
        paddings: [dimensions, 2] numbers of zeros around the input.
    """

    operator: str
    inputs: tuple[int, ...]
    output: int
    output_grid: Grid
    bounds: tuple[float, float] = (-np.inf, np.inf)
    weights: int | None = None
    biases: int | None = None
    strides: tuple[int, int] = (1, 1)
    padding: str = "VALID"
    window: tuple[int, int] = (1, 1)
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    paddings: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class LastLayers:
    """The last layers of a network, which need the values of one tensor only.

    Attributes:
        boundary: index of that tensor.
        layers: the layers, in the order of execution.
        trained: indices in `layers` of the layers whose weights may change.
    """

    boundary: int
    layers: tuple[Layer, ...]
    trained: tuple[int, ...]


def last_layers(model: Model, count: int) -> LastLayers:
    """Describes the last layers of a network.

    Args:
        model: a quantized network for the CPU.
        count: number of layers with weights whose weights may change. Layers before them are
            included, unchanged, until all can be computed from one tensor.

    Raises:
        UserError: one of the layers is of a kind that is not supported, or is not quantized.
    """
    operators, weighted = model.operators, _weighted(model)
    if not weighted:
        raise model.error("has no layers with weights, so it cannot be fine-tuned.")
    start = first = weighted[-count] if count < len(weighted) else weighted[0]
    while len(read := _read_from_outside(model, start)) > 1:
        start -= 1
    layers = tuple(_describe(model, i) for i in range(start, len(operators)))
    trained = tuple(i - start for i in weighted if i >= first)
    return LastLayers(read.pop(), layers, trained)


def num_layers(model: Model) -> int:
    """Returns the number of layers with weights."""
    return len(_weighted(model))


def _weighted(model: Model) -> list[int]:
    return [i for i, operator in enumerate(model.operators) if operator.name in _WEIGHTED]


def _read_from_outside(model: Model, start: int) -> set[int]:
    """Returns the tensors that operators from `start` on read, and do not compute themselves."""
    operators = model.operators[start:]
    written = {index for operator in operators for index in operator.outputs}
    return {
        index
        for operator in operators
        for index in operator.inputs
        if index >= 0 and index not in written and model.constant(index) is None
    }


def _describe(model: Model, number: int) -> Layer:
    operator = model.operators[number]
    name, output = operator.name, operator.outputs[0]
    options: Any = model.subgraph.operators[number].builtinOptions
    if name not in SUPPORTED:
        raise model.error(
            f"cannot be fine-tuned from its layer {name} ({model.tensor(output).name}) on: only "
            f"{', '.join(SUPPORTED)} can be trained or trained through. Set fine_tune: layers to "
            "fewer layers, or to 0."
        )
    activation = getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    if activation not in _ACTIVATIONS:
        raise model.error(f"cannot be fine-tuned: {name} has an unknown activation function.")
    if getattr(options, "depthMultiplier", 1) != 1:
        raise model.error(f"cannot be fine-tuned: {name} has several outputs per channel.")
    details: dict[str, Any] = {}
    if name in _WEIGHTED:
        indices = (*operator.inputs, -1)
        details |= {"weights": indices[1], "biases": indices[2] if indices[2] >= 0 else None}
    if name in (*_POOLS, "CONV_2D", "DEPTHWISE_CONV_2D"):
        details["strides"] = (int(options.strideH), int(options.strideW))
        details["padding"] = "SAME" if options.padding == schema.Padding.SAME else "VALID"
    if name in _POOLS:
        details["window"] = (int(options.filterHeight), int(options.filterWidth))
    if getattr(options, "dilationHFactor", 1) != 1 or getattr(options, "dilationWFactor", 1) != 1:
        raise model.error(f"cannot be fine-tuned: {name} is dilated.")
    if name == "CONCATENATION":
        details["axes"] = (int(options.axis),)
    if name in ("MEAN", "PAD"):
        constant = model.constant(operator.inputs[1])
        values = () if constant is None else constant.view(np.int32)
        if name == "MEAN":
            details["axes"] = tuple(int(axis) for axis in values)
        else:
            details["paddings"] = tuple((int(a), int(b)) for a, b in np.reshape(values, (-1, 2)))
    return Layer(
        name,
        tuple(i for i in operator.inputs if i >= 0 and model.constant(i) is None),
        output,
        grid(model, output),
        _ACTIVATIONS[activation],
        shape=model.tensor(output).shape,
        **details,
    )


def grid(model: Model, tensor: int, is_weights: bool = False) -> Grid:
    """Returns the values that a tensor can take.

    Args:
        model: the network.
        tensor: index of the tensor.
        is_weights: leave out the smallest integer, which kernels for CPUs expect not to occur in
            weights.

    Raises:
        UserError: the tensor is not quantized to 8 bits, or its zero points differ.
    """
    spec, scales = model.tensor(tensor), model.scales(tensor)
    quantization = model.subgraph.tensors[tensor].quantization
    zero_points = set(map(int, or_empty(quantization and quantization.zeroPoint)))
    if spec.dtype not in _RANGES or not len(scales) or len(zero_points) != 1:
        raise model.error(f"cannot be fine-tuned: {spec} is not quantized to uint8 or int8.")
    low, high = _RANGES[spec.dtype]
    return Grid(scales, zero_points.pop(), low + is_weights, high)


def read_weights(model: Model, layer: Layer) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Returns the real weights and biases of a layer, and the grid of its weights.

    Args:
        model: the network.
        layer: a layer with weights.

    Returns:
        The weights as float32: [height, width, inputs, outputs] for a convolution,
        [height, width, channels, 1] for a depthwise one, [inputs, outputs] for a fully connected
        layer; the biases, float32 [outputs]; and the grid, whose scales are in the order of the
        outputs.

    Raises:
        UserError: the weights are not quantized to 8 bits.
    """
    assert layer.weights is not None
    weights_grid = grid(model, layer.weights, is_weights=True)
    shape = model.tensor(layer.weights).shape
    stored = _constant(model, layer.weights).reshape(shape)
    # As float32 without the grid's scales, which belong to the outputs.
    values = stored.astype(np.float32) - np.float32(weights_grid.zero_point)
    values = _for_training(layer.operator, values)
    scales = weights_grid.scale
    if layer.operator == "DEPTHWISE_CONV_2D":
        values *= scales[:, np.newaxis] if len(scales) > 1 else scales
    else:
        values *= scales
    outputs = shape[-1] if layer.operator == "DEPTHWISE_CONV_2D" else shape[0]
    if layer.biases is None:
        return values, np.zeros(outputs, np.float32), weights_grid
    unit = _bias_unit(model, layer, weights_grid)
    biases = _constant(model, layer.biases).astype(np.float64) * unit
    return values, biases.astype(np.float32), weights_grid


def write_weights(model: Model, layer: Layer, weights: np.ndarray, biases: np.ndarray) -> None:
    """Puts real weights and biases, in the shapes of `read_weights`, into a network.

    They are rounded to the grids that the network has, which stay as they are.
    """
    assert layer.weights is not None
    weights_grid = grid(model, layer.weights, is_weights=True)
    dtype = model.tensor(layer.weights).dtype
    if layer.operator == "DEPTHWISE_CONV_2D":
        rounded = weights_grid.quantize(np.moveaxis(weights, 3, 0))
    else:
        rounded = np.moveaxis(weights_grid.quantize(weights), -1, 0)
        if layer.operator == "CONV_2D":
            rounded = rounded.reshape(model.tensor(layer.weights).shape)
    model.set_constant(layer.weights, rounded.astype(dtype))
    if layer.biases is not None:
        unit = _bias_unit(model, layer, weights_grid)
        limits = np.iinfo(np.int32)
        stored = np.clip(np.rint(biases.astype(np.float64) / unit), limits.min, limits.max)
        model.set_constant(layer.biases, stored.astype(np.int32))


def _for_training(operator: str, stored: np.ndarray) -> np.ndarray:
    """Returns weights in the order that `read_weights` gives them in."""
    if operator == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(np.moveaxis(stored, 0, 3))
    return np.ascontiguousarray(np.moveaxis(stored, 0, -1))


def _bias_unit(model: Model, layer: Layer, weights_grid: Grid) -> np.ndarray:
    """Returns the real value of 1 in a layer's biases: input scale times weight scale."""
    (source,) = layer.inputs
    return np.asarray(model.scales(source).astype(np.float64) * weights_grid.scale)


def _constant(model: Model, tensor: int) -> np.ndarray:
    spec, data = model.tensor(tensor), model.constant(tensor)
    dtype = np.dtype(spec.dtype)
    if data is None or len(data) != np.prod(spec.shape, dtype=int) * dtype.itemsize:
        raise model.error(f"is damaged: {spec} does not hold as many values as its shape says.")
    return data.view(dtype)
