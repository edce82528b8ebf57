"""Look into .tflite files, cut their last layer off and append one; knows FlatBuffers.

    python -m edgetpu_retrain.tflite_model show MODEL
    python -m edgetpu_retrain.tflite_model truncate MODEL OUT [--tensor T]

Parts of a model are named as TFLite's schema names them
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

import argparse
import difflib
import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain import files, job
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head

log = logging.getLogger(__name__)

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
_CUSTOM_OP = b"edgetpu-custom-op"
_DARWINN_IDENTIFIER = b"DWN1"
_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_TYPE_NAMES = {
    code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")
}
# What may stand between the last layer with weights and the output of a classifier.
_TAIL = {"RESHAPE", "SQUEEZE", "SOFTMAX", "QUANTIZE", "DEQUANTIZE"}
_SHOWN_OPERATORS = 5
_MAX_SUGGESTIONS = 5


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
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        _check_references(model)
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise UserError(f"a damaged or incomplete TFLite model ({error}).") from error
    return model


def _check_references(model: schema.ModelT) -> None:
    """Raises an IndexError or TypeError where a part of a model refers to one that is not there."""
    _check_indices([0], len(model.subgraphs))
    _check_indices([entry.buffer for entry in _some(model.metadata)], len(model.buffers))
    for subgraph in model.subgraphs:
        count = len(subgraph.tensors)
        _check_indices([tensor.buffer for tensor in subgraph.tensors], len(model.buffers))
        _check_indices([tensor.type for tensor in subgraph.tensors], len(_TYPE_NAMES))
        _check_indices([*subgraph.inputs, *subgraph.outputs], count)
        for operator in subgraph.operators:
            _check_indices([operator.opcodeIndex], len(model.operatorCodes))
            operator.inputs, operator.outputs = _some(operator.inputs), _some(operator.outputs)
            # Missing optional inputs are numbered -1.
            _check_indices([i for i in operator.inputs if i != -1], count)
            _check_indices(operator.outputs, count)


def _check_indices(indices: Iterable[int], count: int) -> None:
    for i in indices:
        if not 0 <= i < count:
            raise IndexError(f"it refers to part {i} of {count}")


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
            output. Where there is none, every logit that the embedding's dtype allows for fits;
            that is several times what photos reach, so close classes get the same score.

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
            f"its output {_name(embedding)} is {_TYPE_NAMES[embedding.type]}; an embedding must be "
            "quantized to uint8 or int8."
        )
    scale, zero_point = _scale_and_zero_point(embedding)
    if scale is None or zero_point is None:
        raise UserError(f"its output {_name(embedding)} has no scale and zero point.")
    width, num_classes = head.weights.shape
    shape = [int(n) for n in embedding.shape]
    if shape not in ([1, width], [1, 1, 1, width]):
        raise UserError(
            f"its output {_name(embedding)} has the shape {shape}; the head was trained on "
            f"embeddings that are {width} wide."
        )

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
    # The converter joins the names of operators that it fused by semicolons.
    first, *fused = _full_name(tensor).split(";")
    return repr(first) + ("..." if fused else "")


def _full_name(tensor: schema.TensorT) -> str:
    return (tensor.name or b"").decode(errors="replace")


def _quantize_weights(weights: np.ndarray, dtype: np.dtype) -> _Quantized:
    """Quantizes weights [C, D]: int8 symmetric, uint8 over a range that contains 0.

    The lowest value stays unused, as in quantization-aware training (``narrow_range`` of
    TensorFlow's FakeQuant), so the layers of such networks keep their weights' exact values.
    """
    if dtype == np.int8:
        scale = float(np.abs(weights).max()) / 127 or 1.0
        return _Quantized(np.round(weights / scale).astype(np.int8), scale, 0)
    scale, zero_point = _range_quantization(float(weights.min()), float(weights.max()), 1, 255)
    values = (np.round(weights / scale) + zero_point).clip(1, 255)
    return _Quantized(values.astype(np.uint8), scale, zero_point)


def _range_quantization(low: float, high: float, first: int, last: int) -> tuple[float, int]:
    """Returns scale and zero point that map [low, high], widened to contain 0, to first..last."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (last - first) or 1.0
    return scale, round(first - low / scale)


def _logit_quantization(
    head: Head, dtype: np.dtype, scale: float, zero_point: int
) -> tuple[float, int]:
    limits = np.iinfo(dtype)
    if head.logit_range is not None:
        low, high = head.logit_range
    else:
        log.warning("The layer's logits are not known; its scores may be coarse.")
        extremes = [scale * (limit - zero_point) for limit in (limits.min, limits.max)]
        reach = np.stack([extreme * head.weights for extreme in extremes])
        low = float((reach.min(axis=0).sum(axis=0) + head.biases).min())
        high = float((reach.max(axis=0).sum(axis=0) + head.biases).max())
    return _range_quantization(low, high, limits.min, limits.max)


def truncate(content: bytes, tensor: str | None = None) -> bytes:
    """Cuts the last layer off a quantized classifier.

    What only the operators behind the cut used is dropped: operators, tensors, buffers, operator
    codes, and metadata on the outputs. The rest stays as it is, in its order.

    Args:
        content: bytes of a .tflite file with one subgraph.
        tensor: name of the tensor to cut at, which becomes the output; by default the one that
            `find_cut` finds.

    Returns:
        The bytes of the embedding extractor.

    Raises:
        UserError: there is no such tensor or no such place, or the values there are no quantized
            vector; the text lists the last operators.
    """
    model = read(content)
    cut = find_cut(model) if tensor is None else _find_tensor(model, tensor)
    subgraph = model.subgraphs[0]
    subgraph.operators = _needed_operators(subgraph, cut)
    subgraph.outputs = [cut]
    for signature in model.signatureDefs or []:
        signature.outputs = signature.outputs[:1]
        signature.outputs[0].tensorIndex = cut
    _drop_unused(model)
    return write(model)


def find_cut(model: schema.ModelT) -> int:
    """Finds where a classifier's last layer takes its input.

    That is the activation input of the last FULLY_CONNECTED, or of the 1x1 CONV_2D, that only
    RESHAPE, SQUEEZE, SOFTMAX, QUANTIZE and DEQUANTIZE follow.

    Returns:
        The tensor's index.

    Raises:
        UserError: there is no such place, or the values there are no quantized vector; the text
            lists the last operators.
    """
    subgraph = _check_uncompiled(model)
    if len(subgraph.outputs) != 1:
        raise UserError(
            f"it has {len(subgraph.outputs)} outputs, so it is no classifier.\n{_tail(model)}"
        )
    writers = {int(o): operator for operator in subgraph.operators for o in operator.outputs}
    tensor = int(subgraph.outputs[0])
    while tensor in writers:
        operator = writers[tensor]
        name = operator_name(model, operator)
        if name == "FULLY_CONNECTED" or (name == "CONV_2D" and _is_1x1(subgraph, operator)):
            return _check_embedding(model, int(operator.inputs[0]))
        if name not in _TAIL:
            break
        tensor = int(operator.inputs[0])
    raise UserError(
        "it does not end in a fully connected layer or a 1x1 convolution (and at most a softmax), "
        "so no last layer to cut off was found. If it is a classifier, name the tensor to cut at; "
        f"if it is an extractor already, give it as one.\n{_tail(model)}"
    )


def _check_embedding(model: schema.ModelT, index: int) -> int:
    """Returns the index of a tensor that can be an extractor's output; others are refused."""
    tensor = model.subgraphs[0].tensors[index]
    if _DTYPES.get(tensor.type) not in (np.dtype(np.uint8), np.dtype(np.int8)):
        raise UserError(
            f"its tensor {_name(tensor)} is {_TYPE_NAMES[tensor.type]}: a model for the Edge TPU "
            f"must be quantized to uint8 or int8 first.\n{_tail(model)}"
        )
    shape = [int(n) for n in _some(tensor.shape)]
    if shape[:-1] not in ([1], [1, 1, 1]):
        raise UserError(
            f"its tensor {_name(tensor)} has the shape {shape}; an embedding is a vector, [1, D] "
            f"or [1, 1, 1, D].\n{_tail(model)}"
        )
    return index


def _is_1x1(subgraph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    image, weights = (subgraph.tensors[i].shape for i in operator.inputs[:2])
    return list(weights[1:3]) == [1, 1] and list(image[1:3]) == [1, 1]


def _check_uncompiled(model: schema.ModelT) -> schema.SubGraphT:
    if is_compiled(model):
        raise UserError(
            "it is compiled for the Edge TPU already, which locks its layers; take the model that "
            f"it was compiled from.\n{_tail(model)}"
        )
    if len(model.subgraphs) != 1:
        raise UserError(f"it has {len(model.subgraphs)} subgraphs; a classifier has one.")
    return model.subgraphs[0]


def _find_tensor(model: schema.ModelT, name: str) -> int:
    """Finds a tensor by its name, or by the first of the names that the converter joined."""
    subgraph = _check_uncompiled(model)
    written = sorted({int(o) for operator in subgraph.operators for o in operator.outputs})
    whole = {_full_name(subgraph.tensors[i]): i for i in written}
    first: dict[str, list[int]] = {}
    for full, i in whole.items():
        first.setdefault(full.split(";")[0], []).append(i)
    found = [whole[name]] if name in whole else first.get(name, [])
    if not found:
        near = difflib.get_close_matches(name, first, n=_MAX_SUGGESTIONS, cutoff=0.3)
        hint = f" The nearest names are: {', '.join(near)}." if near else ""
        raise UserError(f"no operator in it writes a tensor {name!r}.{hint}\n{_tail(model)}")
    if len(found) > 1:
        names = "\n".join(f"  {_full_name(subgraph.tensors[i])}" for i in found)
        raise UserError(f"several tensors begin with {name!r}; name one of them whole:\n{names}")
    return _check_embedding(model, found[0])


def _tail(model: schema.ModelT) -> str:
    """Lists the last operators with what they write."""
    subgraph = model.subgraphs[0]
    lines = [
        f"  {operator_name(model, operator)} -> "
        + ", ".join(_describe(subgraph.tensors[i]) for i in operator.outputs)
        for operator in subgraph.operators[-_SHOWN_OPERATORS:]
    ]
    return "Its last operators are:\n" + "\n".join(lines)


def _describe(tensor: schema.TensorT) -> str:
    shape = [] if tensor.shape is None else [int(n) for n in tensor.shape]
    return f"{_name(tensor)} {_TYPE_NAMES[tensor.type]} {shape}"


def _needed_operators(subgraph: schema.SubGraphT, output: int) -> list[schema.OperatorT]:
    """Returns the operators that `output` depends on, in their order."""
    wanted, needed = {output}, []
    for operator in reversed(subgraph.operators):
        if wanted.intersection(int(i) for i in operator.outputs):
            needed.append(operator)
            wanted.update(int(i) for i in operator.inputs)
    return needed[::-1]


def _drop_unused(model: schema.ModelT) -> None:
    """Drops what no operator uses any more, and renumbers what refers to the rest."""
    subgraph = model.subgraphs[0]
    operators = subgraph.operators
    # Missing optional inputs are numbered -1.
    lists = [
        getattr(op, name) for op in operators for name in ("inputs", "outputs", "intermediates")
    ]
    used = {int(i) for found in [*lists, subgraph.inputs, subgraph.outputs] for i in _some(found)}
    tensors = _kept(len(subgraph.tensors), used)
    subgraph.tensors = [subgraph.tensors[i] for i in tensors]
    for operator in operators:
        for name in ("inputs", "outputs", "intermediates"):
            _renumber(operator, name, tensors)
    for name in ("inputs", "outputs"):
        _renumber(subgraph, name, tensors)
    for signature in model.signatureDefs or []:
        for entry in [*_some(signature.inputs), *_some(signature.outputs)]:
            entry.tensorIndex = tensors[entry.tensorIndex]

    # TFLite Metadata (https://ai.google.dev/edge/litert/models/metadata) describes the outputs.
    model.metadata = [m for m in _some(model.metadata) if m.name != b"TFLITE_METADATA"]
    model.metadataBuffer = None
    buffers = _kept(
        len(model.buffers),
        # Buffer 0 is by convention the empty one.
        {0} | {t.buffer for t in subgraph.tensors} | {m.buffer for m in model.metadata},
    )
    model.buffers = [model.buffers[i] for i in buffers]
    for owner in [*subgraph.tensors, *model.metadata]:
        owner.buffer = buffers[owner.buffer]

    codes = _kept(len(model.operatorCodes), {operator.opcodeIndex for operator in operators})
    model.operatorCodes = [model.operatorCodes[i] for i in codes]
    for operator in operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]


def _some(found: Sequence | None) -> Sequence:
    return () if found is None else found


def _kept(count: int, used: set[int]) -> dict[int, int]:
    """Maps the old number of what is used to its new one."""
    return {old: new for new, old in enumerate(i for i in range(count) if i in used)}


def _renumber(owner: object, name: str, numbers: dict[int, int]) -> None:
    found = getattr(owner, name)
    if found is not None:
        setattr(owner, name, [numbers.get(int(i), -1) for i in found])


def is_compiled(model: schema.ModelT) -> bool:
    """Whether a model holds an operator for the Edge TPU."""
    return any(code.customCode == _CUSTOM_OP for code in model.operatorCodes)


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Returns an operator's name, that of a custom one in its own spelling."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return code.customCode.decode(errors="replace")
    return _OPERATOR_NAMES.get(builtin_code(code), f"BUILTIN_{builtin_code(code)}")


def operator_versions(content: bytes) -> dict[str, int]:
    """Returns the highest version of each operator of a .tflite file."""
    versions: dict[str, int] = {}
    model = read(content)
    for operator in model.subgraphs[0].operators:
        name = operator_name(model, operator)
        version = model.operatorCodes[operator.opcodeIndex].version
        versions[name] = max(version, versions.get(name, 0))
    return versions


@dataclass(frozen=True)
class Signature:
    """An input or output of a model.

    Attributes:
        shape: its dimensions.
        dtype: its dtype, as TFLite names it, in lower case.
        scale: of its quantization; None where it has none.
        zero_point: likewise.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


def signatures(content: bytes) -> tuple[list[Signature], list[Signature]]:
    """Returns what a .tflite file takes and gives."""
    subgraph = read(content).subgraphs[0]

    def describe(index: int) -> Signature:
        tensor = subgraph.tensors[index]
        scale, zero_point = _scale_and_zero_point(tensor)
        shape = tuple(int(n) for n in tensor.shape)
        return Signature(shape, _TYPE_NAMES[tensor.type], scale, zero_point)

    return [describe(i) for i in subgraph.inputs], [describe(i) for i in subgraph.outputs]


def _scale_and_zero_point(tensor: schema.TensorT) -> tuple[float | None, int | None]:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None, None
    if quantization.zeroPoint is None or len(quantization.zeroPoint) != 1:
        return None, None
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])


def operators(content: bytes) -> list[str]:
    """Returns the names of a .tflite file's operators, in their order."""
    model = read(content)
    return [operator_name(model, operator) for operator in model.subgraphs[0].operators]


def float_operators(content: bytes) -> list[str]:
    """Returns the names of the operators that write float values, in their order."""
    model = read(content)
    subgraph = model.subgraphs[0]
    return [
        operator_name(model, operator)
        for operator in subgraph.operators
        if any(subgraph.tensors[i].type == schema.TensorType.FLOAT32 for i in operator.outputs)
    ]


def compiled_packages(content: bytes) -> int:
    """Counts the operators of a .tflite file that hold a DarwiNN package for the Edge TPU."""
    model = read(content)
    return sum(
        operator_name(model, operator).encode() == _CUSTOM_OP
        and _DARWINN_IDENTIFIER in bytes(_some(operator.customOptions))
        for operator in model.subgraphs[0].operators
    )


def show(content: bytes) -> str:
    """Describes a .tflite file: operators, tensors, quantization, and where it would be cut."""
    model = read(content)
    lines = []
    for number, subgraph in enumerate(model.subgraphs):
        if len(model.subgraphs) > 1:
            lines.append(f"subgraph {number}")
        lines += [f"input   {_describe_quantized(subgraph.tensors[i])}" for i in subgraph.inputs]
        for i, operator in enumerate(subgraph.operators):
            code = model.operatorCodes[operator.opcodeIndex]
            lines.append(f"{i:>4}  {operator_name(model, operator)} (version {code.version})")
            constants = [i for i in operator.inputs if i >= 0 and _is_constant(model, i, subgraph)]
            lines += [f"        with {_describe_quantized(subgraph.tensors[i])}" for i in constants]
            lines += [
                f"        -> {_describe_quantized(subgraph.tensors[i])}" for i in operator.outputs
            ]
        lines += [f"output  {_describe_quantized(subgraph.tensors[i])}" for i in subgraph.outputs]
    lines.append(f"compiled for the Edge TPU: {'yes' if is_compiled(model) else 'no'}")
    try:
        cut = model.subgraphs[0].tensors[find_cut(model)]
        lines.append(f"would be cut at: {_describe_quantized(cut)}")
    except UserError as error:
        lines.append(f"would not be cut: {str(error).splitlines()[0]}")
    return "\n".join(lines)


def _is_constant(model: schema.ModelT, index: int, subgraph: schema.SubGraphT) -> bool:
    data = model.buffers[subgraph.tensors[index].buffer].data
    return data is not None and len(data) > 0


def _describe_quantized(tensor: schema.TensorT) -> str:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return _describe(tensor)
    if len(quantization.scale) > 1:
        return f"{_describe(tensor)}, {len(quantization.scale)} scales"
    scale, zero_point = _scale_and_zero_point(tensor)
    if scale is None:
        return _describe(tensor)
    return f"{_describe(tensor)}, scale {scale:.7g}, zero point {zero_point}"


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m edgetpu_retrain.tflite_model",
        description="Look into a .tflite file, or cut its last layer off.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    showing = commands.add_parser("show", help="print operators, tensors and where it would be cut")
    showing.add_argument("model", type=Path)
    cutting = commands.add_parser("truncate", help="cut the last layer off a classifier")
    cutting.add_argument("model", type=Path)
    cutting.add_argument("out", type=Path)
    cutting.add_argument("--tensor", help="name of the tensor to cut at (default: it is found)")
    options = parser.parse_args(arguments)
    with job.run():
        content = options.model.read_bytes()
        try:
            if options.command == "show":
                print(show(content))
                return
            extractor = truncate(content, options.tensor)
        except UserError as error:
            raise UserError(f"{options.model}: {error}") from error
        with files.replacing(options.out) as temporary:
            temporary.write_bytes(extractor)


if __name__ == "__main__":
    main()
