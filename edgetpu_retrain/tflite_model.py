"""Append a classification layer to a .tflite file; the one module that knows FlatBuffers.

Parts of a model are named as TFLite's schema names them
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

import struct
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head

_FILE_IDENTIFIER = b"TFL3"
_DTYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.UINT8: np.dtype(np.uint8),
}
_TENSOR_TYPES = {dtype: tensor_type for tensor_type, dtype in _DTYPES.items()}
# The probability 1 is not quite reached, so that 0 is exact; TFLite's SOFTMAX asks for it.
_SOFTMAX_SCALE = 1 / 256
# Operator codes below this stand in the old one-byte field too (the schema's comment there).
_PLACEHOLDER_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES


@dataclass(frozen=True)
class _Quantized:
    """Integer values and what they stand for: real = scale * (values - zero_point)."""

    values: np.ndarray
    scale: float
    zero_point: int


def read(content: bytes) -> schema.ModelT:
    """Unpacks a .tflite file.

    Raises:
        UserError: the bytes are no TFLite model, or a damaged one.
    """
    if content[4:8] != _FILE_IDENTIFIER:
        raise UserError("not a TFLite model (the file lacks the identifier TFL3).")
    try:
        return schema.ModelT.InitFromPackedBuf(content, 0)
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise UserError(f"a damaged TFLite model: {error}.") from error


def write(model: schema.ModelT) -> bytes:
    """Packs a model into the bytes of a .tflite file."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def append_head(extractor: bytes, head: Head) -> bytes:
    """Appends FULLY_CONNECTED, RESHAPE (to an embedding of 4 dimensions) and SOFTMAX.

    Everything in front stays as it is, compiled operators included. A uint8 embedding gets a
    uint8 layer with asymmetric weights, as in PyCoral's files; an int8 embedding gets a layer by
    TFLite's int8 specification (https://ai.google.dev/edge/litert/models/quantization_spec) and a
    final QUANTIZE, so that both give uint8 scores of scale 1/256.

    Args:
        extractor: bytes of a .tflite file with one subgraph, whose one output is a quantized
            embedding of shape [1, 1, 1, D] or [1, D].
        head: the layer, for D-wide embeddings. Its logit range becomes the range of the layer's
            output; where there is none, every logit that the embedding's dtype allows for fits.

    Returns:
        The bytes of the classifier.

    Raises:
        UserError: the extractor is not of this kind, or its width is not the head's.
    """
    model = read(extractor)
    subgraph, embedding_index = _single_output(model)
    embedding = subgraph.tensors[embedding_index]
    dtype = _DTYPES.get(embedding.type)
    if dtype is None or dtype.name not in ("uint8", "int8"):
        raise UserError(
            f"its output {_name(embedding)} is {dtype or embedding.type}; an embedding must be "
            "quantized to uint8 or int8."
        )
    quantization = embedding.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        raise UserError(f"its output {_name(embedding)} has no scale and zero point.")
    width, num_classes = head.weights.shape
    shape = [int(n) for n in embedding.shape]
    if shape not in ([1, width], [1, 1, 1, width]):
        raise UserError(
            f"its output {_name(embedding)} has the shape {shape}; the head was trained on "
            f"embeddings that are {width} wide."
        )
    scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])

    is_uint8 = dtype == np.uint8
    weights = _quantize_weights(head.weights.T, dtype)
    bias_scale = scale * weights.scale
    biases = np.round(head.biases / bias_scale).clip(-(2**31), 2**31 - 1).astype(np.int32)
    logit_scale, logit_zero_point = _logit_quantization(head, dtype, scale, zero_point)

    graph = _Graph(model, subgraph)
    logits = graph.add_tensor("head/logits", [1, num_classes], dtype, logit_scale, logit_zero_point)
    graph.add_operator(
        schema.BuiltinOperator.FULLY_CONNECTED,
        [
            embedding_index,
            graph.add_constant("head/weights", weights.values, weights.scale, weights.zero_point),
            graph.add_constant("head/biases", biases, bias_scale, 0),
        ],
        logits,
        schema.BuiltinOptions.FullyConnectedOptions,
        schema.FullyConnectedOptionsT(),
        version=1 if is_uint8 else 4,
    )
    if len(shape) == 4:
        options = schema.ReshapeOptionsT()
        options.newShape = [1, num_classes]
        reshaped = graph.add_tensor(
            "head/logits_2d", [1, num_classes], dtype, logit_scale, logit_zero_point
        )
        new_shape = np.array([1, num_classes], np.int32)
        graph.add_operator(
            schema.BuiltinOperator.RESHAPE,
            [logits, graph.add_constant("head/shape", new_shape)],
            reshaped,
            schema.BuiltinOptions.ReshapeOptions,
            options,
        )
        logits = reshaped
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    scores = graph.add_tensor(
        "head/scores", [1, num_classes], dtype, _SOFTMAX_SCALE, 0 if is_uint8 else -128
    )
    graph.add_operator(
        schema.BuiltinOperator.SOFTMAX,
        [logits],
        scores,
        schema.BuiltinOptions.SoftmaxOptions,
        options,
        version=1 if is_uint8 else 2,
    )
    if not is_uint8:
        int8_scores = scores
        scores = graph.add_tensor(
            "head/scores_uint8", [1, num_classes], np.dtype(np.uint8), _SOFTMAX_SCALE, 0
        )
        graph.add_operator(
            schema.BuiltinOperator.QUANTIZE,
            [int8_scores],
            scores,
            schema.BuiltinOptions.QuantizeOptions,
            schema.QuantizeOptionsT(),
        )
    subgraph.outputs = [scores]
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.tensorIndex = scores
    return write(model)


def _single_output(model: schema.ModelT) -> tuple[schema.SubGraphT, int]:
    if len(model.subgraphs) != 1:
        raise UserError(f"it has {len(model.subgraphs)} subgraphs; an extractor has one.")
    subgraph = model.subgraphs[0]
    if len(subgraph.outputs) != 1:
        raise UserError(f"it has {len(subgraph.outputs)} outputs; an extractor has one.")
    return subgraph, int(subgraph.outputs[0])


def _name(tensor: schema.TensorT) -> str:
    return repr((tensor.name or b"").decode())


def _quantize_weights(weights: np.ndarray, dtype: np.dtype) -> _Quantized:
    """Quantizes weights [C, D]: int8 symmetric, uint8 over a range that contains 0."""
    if dtype == np.int8:
        scale = float(np.abs(weights).max()) / 127 or 1.0
        return _Quantized(np.round(weights / scale).astype(np.int8), scale, 0)
    scale, zero_point = _range_quantization(float(weights.min()), float(weights.max()), dtype)
    values = (np.round(weights / scale) + zero_point).clip(0, 255)
    return _Quantized(values.astype(np.uint8), scale, zero_point)


def _range_quantization(low: float, high: float, dtype: np.dtype) -> tuple[float, int]:
    """Returns scale and zero point such that [low, high], widened to contain 0, fits."""
    low, high = min(low, 0.0), max(high, 0.0)
    limits = np.iinfo(dtype)
    scale = (high - low) / (limits.max - limits.min) or 1.0
    return scale, round(limits.min - low / scale)


def _logit_quantization(
    head: Head, dtype: np.dtype, scale: float, zero_point: int
) -> tuple[float, int]:
    if head.logit_range is not None:
        low, high = head.logit_range
    else:
        limits = np.iinfo(dtype)
        extremes = [scale * (limit - zero_point) for limit in (limits.min, limits.max)]
        reach = np.stack([extreme * head.weights for extreme in extremes])
        low = float((reach.min(axis=0).sum(axis=0) + head.biases).min())
        high = float((reach.max(axis=0).sum(axis=0) + head.biases).max())
    return _range_quantization(low, high, dtype)


class _Graph:
    """Adds tensors and operators to the end of a subgraph."""

    def __init__(self, model: schema.ModelT, subgraph: schema.SubGraphT):
        self._model = model
        self._subgraph = subgraph

    def add_tensor(
        self, name: str, shape: list[int], dtype: np.dtype, scale: float, zero_point: int
    ) -> int:
        """Adds a tensor that an operator writes, and returns its index."""
        # Buffer 0 is by convention the empty one.
        return self._add(name, shape, dtype, scale, zero_point, buffer=0)

    def add_constant(
        self,
        name: str,
        values: np.ndarray,
        scale: float | None = None,
        zero_point: int | None = None,
    ) -> int:
        """Adds a tensor with its values, and returns its index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        index = len(self._model.buffers) - 1
        return self._add(name, list(values.shape), values.dtype, scale, zero_point, index)

    def _add(
        self,
        name: str,
        shape: list[int],
        dtype: np.dtype,
        scale: float | None,
        zero_point: int | None,
        buffer: int,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = shape
        tensor.type = _TENSOR_TYPES[np.dtype(dtype)]
        tensor.buffer = buffer
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [scale]
            tensor.quantization.zeroPoint = [zero_point]
        self._subgraph.tensors.append(tensor)
        return len(self._subgraph.tensors) - 1

    def add_operator(
        self,
        code: int,
        inputs: list[int],
        output: int,
        options_type: int,
        options: object,
        version: int = 1,
    ) -> None:
        """Adds an operator with one output."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code_index(code, version)
        operator.inputs = inputs
        operator.outputs = [output]
        operator.builtinOptionsType = options_type
        operator.builtinOptions = options
        self._subgraph.operators.append(operator)

    def _code_index(self, code: int, version: int) -> int:
        for i, known in enumerate(self._model.operatorCodes):
            if (builtin_code(known), known.version) == (code, version):
                return i
        added = schema.OperatorCodeT()
        added.builtinCode = code
        added.deprecatedBuiltinCode = min(code, _PLACEHOLDER_CODE)
        added.version = version
        self._model.operatorCodes.append(added)
        return len(self._model.operatorCodes) - 1


def builtin_code(code: schema.OperatorCodeT) -> int:
    """Returns the operator of a code, which older files hold in the deprecated field alone."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)
