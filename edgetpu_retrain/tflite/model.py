"""A .tflite file, parsed once: read it, look into it, add to it, write it."""

import copy
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files

CUSTOM_OP = "edgetpu-custom-op"
_FILE_IDENTIFIER = b"TFL3"
DARWINN_IDENTIFIER = b"DWN1"
# Operator codes below this stand in the old one-byte field too (the schema's comment there).
_PLACEHOLDER_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_TYPE_NAMES = {
    code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")
}
_TYPES = {name: code for code, name in _TYPE_NAMES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor holds.

    Attributes:
        name: its first name, where the converter joined those of operators that it fused.
        shape: its dimensions; empty where the file gives none.
        dtype: its dtype, as TFLite names it, in lower case.
        scale: real value = scale * (value - zero_point); None where it has none, or several.
        zero_point: likewise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Operator:
    """An operator of a model.

    Attributes:
        name: as the schema names it; that of a custom operator in its own spelling.
        version: of the operator.
        inputs: indices of the tensors that it reads; -1 for an optional one that is missing.
        outputs: indices of the tensors that it writes.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Model:
    """A .tflite file.

    Attributes:
        source: what messages call it, its path as a rule.
        unpacked: the schema's own object, which changes are made in.
    """

    def __init__(self, unpacked: schema.ModelT, source: str):
        self.unpacked = unpacked
        self.source = source

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Reads a file.

        Raises:
            UserError: it cannot be read, or is not a whole TFLite model.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, source: str) -> "Model":
        """Parses the bytes of a file, also where its buffers are stored behind the model.

        Raises:
            UserError: they are not a whole TFLite model.
        """
        if content[4:8] != _FILE_IDENTIFIER:
            raise UserError(f"{source} is not a TFLite model (the file lacks the identifier TFL3).")
        try:
            _check_offsets(content)
            unpacked = flatbuffer_utils.read_model_from_bytearray(content)
            _check_references(unpacked)
        except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source} is a damaged or incomplete TFLite model ({error}). If it is a result of "
                "this workflow, delete it and run again."
            ) from error
        for buffer in unpacked.buffers:
            if buffer.data is not None and not len(buffer.data):
                # A compiled file's buffer 0; under another number it would be a constant's.
                buffer.data = None
            elif isinstance(buffer.data, bytes):
                # The schema packs bytes one by one, an array at once.
                buffer.data = np.frombuffer(buffer.data, np.uint8)
        return cls(unpacked, source)

    def to_bytes(self) -> bytes:
        """Returns the bytes of the file."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.unpacked))

    def save(self, path: str | Path) -> None:
        """Writes the file."""
        with files.replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    def copy(self) -> "Model":
        """Returns a model that can be changed while this one stays."""
        return Model(copy.deepcopy(self.unpacked), self.source)

    def error(self, text: str) -> UserError:
        """Returns an error that names the file; `text` goes on from there, as in "has no ..."."""
        return UserError(f"{self.source} {text}")

    @property
    def subgraph(self) -> schema.SubGraphT:
        """The first subgraph, which is the only one of an image classifier."""
        return self.unpacked.subgraphs[0]

    @property
    def inputs(self) -> list[TensorSpec]:
        """What the model takes."""
        return [self.tensor(i) for i in self.subgraph.inputs]

    @property
    def outputs(self) -> list[TensorSpec]:
        """What the model gives."""
        return [self.tensor(i) for i in self.subgraph.outputs]

    @property
    def operators(self) -> list[Operator]:
        """The operators, in the order in which they run."""
        return [self.describe(operator) for operator in self.subgraph.operators]

    @property
    def is_compiled(self) -> bool:
        """Whether it holds an operator for the Edge TPU."""
        return any(operator.name == CUSTOM_OP for operator in self.operators)

    @property
    def packages(self) -> int:
        """How many operators hold a DarwiNN package, which only the Edge TPU compiler makes."""
        return sum(
            self.describe(operator).name == CUSTOM_OP
            and DARWINN_IDENTIFIER in bytes(some(operator.customOptions))
            for operator in self.subgraph.operators
        )

    def describe(self, operator: schema.OperatorT) -> Operator:
        """Returns what an operator of the schema's is."""
        code = self.unpacked.operatorCodes[operator.opcodeIndex]
        builtin = flatbuffer_utils.get_builtin_code_from_operator_code(code)
        name = _OPERATOR_NAMES.get(builtin, f"BUILTIN_{builtin}")
        if code.customCode:
            name = code.customCode.decode(errors="replace")
        inputs, outputs = (tuple(map(int, found)) for found in (operator.inputs, operator.outputs))
        return Operator(name, code.version, inputs, outputs)

    def tensor(self, index: int) -> TensorSpec:
        """Returns what the tensor of this index holds."""
        tensor = self.subgraph.tensors[index]
        scale, zero_point = None, None
        if self.scales(index) == 1:
            scale = float(tensor.quantization.scale[0])
            if len(some(tensor.quantization.zeroPoint)) == 1:
                zero_point = int(tensor.quantization.zeroPoint[0])
        shape = tuple(int(n) for n in some(tensor.shape))
        name = self.full_name(index).split(";")[0]
        return TensorSpec(name, shape, _TYPE_NAMES[tensor.type], scale, zero_point)

    def full_name(self, index: int) -> str:
        """Returns a tensor's name, with those of fused operators behind semicolons."""
        name = self.subgraph.tensors[index].name or b""
        return name if isinstance(name, str) else name.decode(errors="replace")

    def scales(self, index: int) -> int:
        """Returns how many scales a tensor has: 0 where it is not quantized."""
        quantization = self.subgraph.tensors[index].quantization
        return 0 if quantization is None else len(some(quantization.scale))

    def constant(self, index: int) -> np.ndarray | None:
        """Returns the bytes that the file holds for a tensor, as uint8 [M]; None without any."""
        data = self.unpacked.buffers[self.subgraph.tensors[index].buffer].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)

    def set_constant(self, index: int, values: np.ndarray) -> None:
        """Replaces the values that the file holds for a tensor, and for no other tensor."""
        tensor = self.subgraph.tensors[index]
        if sum(other.buffer == tensor.buffer for other in self.subgraph.tensors) > 1:
            self.unpacked.buffers.append(schema.BufferT())
            tensor.buffer = len(self.unpacked.buffers) - 1
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.unpacked.buffers[tensor.buffer].data = data

    def writer(self, index: int) -> Operator | None:
        """Returns the operator that writes a tensor; None for inputs and constants."""
        return next((op for op in self.operators if index in op.outputs), None)

    def tail(self, count: int = 5) -> str:
        """Lists the last operators with what they write, for messages."""
        lines = [
            f"  {operator.name} -> " + ", ".join(str(self.tensor(i)) for i in operator.outputs)
            for operator in self.operators[-count:]
        ]
        return "Its last operators are:\n" + "\n".join(lines)

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scale: float | None = None,
        zero_point: int | None = None,
        buffer: int = 0,
    ) -> int:
        """Adds a tensor that an operator writes, and returns its index."""
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = list(shape)
        tensor.type = _TYPES[dtype]
        # Buffer 0 is by convention the empty one.
        tensor.buffer = buffer
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [scale]
            tensor.quantization.zeroPoint = [zero_point]
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

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
        self.unpacked.buffers.append(buffer)
        number = len(self.unpacked.buffers) - 1
        return self.add_tensor(name, values.shape, values.dtype.name, scale, zero_point, number)

    def add_operator(
        self,
        name: str,
        inputs: Sequence[int],
        output: int,
        options: object,
        version: int = 1,
        first: bool = False,
    ) -> None:
        """Adds an operator with one output, at the end or in front of all others.

        Args:
            name: as the schema names it.
            inputs: indices of what it reads.
            output: index of what it writes.
            options: the schema's object of its options, as in ``SoftmaxOptionsT``.
            version: of the operator.
            first: put it in front.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self.code_index(getattr(schema.BuiltinOperator, name), version)
        operator.inputs = list(inputs)
        operator.outputs = [output]
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        self.subgraph.operators.insert(0 if first else len(self.subgraph.operators), operator)

    def code_index(self, code: int, version: int) -> int:
        """Returns the index of an operator code, which is added where the model has none such."""
        for i, known in enumerate(self.unpacked.operatorCodes):
            builtin = flatbuffer_utils.get_builtin_code_from_operator_code(known)
            if (builtin, known.version) == (code, version):
                return i
        added = schema.OperatorCodeT()
        added.builtinCode = code
        added.deprecatedBuiltinCode = min(code, _PLACEHOLDER_CODE)
        added.version = version
        self.unpacked.operatorCodes.append(added)
        return len(self.unpacked.operatorCodes) - 1

    def signature_entries(self, what: str) -> list[schema.TensorMapT]:
        """Returns what the signatures say of the model's ``inputs`` or ``outputs``."""
        return [
            entry for s in some(self.unpacked.signatureDefs) for entry in some(getattr(s, what))
        ]


def some(found: Sequence | None) -> Sequence:
    """Returns a vector of the schema's, which is None where the file has none."""
    return () if found is None else found


def _check_offsets(content: bytes) -> None:
    """Raises an IndexError where a buffer behind the model is cut short."""
    packed = schema.Model.GetRootAs(content, 0)
    for i in range(packed.BuffersLength()):
        buffer = packed.Buffers(i)
        if buffer.Offset() + buffer.Size() > len(content):
            raise IndexError(f"buffer {i} ends behind the file")


def _check_references(model: schema.ModelT) -> None:
    """Raises an IndexError or TypeError where a part of a model refers to one that is not there."""
    _check_indices([0], len(model.subgraphs))
    _check_indices([entry.buffer for entry in some(model.metadata)], len(model.buffers))
    for subgraph in model.subgraphs:
        count = len(subgraph.tensors)
        _check_indices([tensor.buffer for tensor in subgraph.tensors], len(model.buffers))
        _check_indices([tensor.type for tensor in subgraph.tensors], len(_TYPE_NAMES))
        _check_indices([*subgraph.inputs, *subgraph.outputs], count)
        for operator in subgraph.operators:
            _check_indices([operator.opcodeIndex], len(model.operatorCodes))
            operator.inputs, operator.outputs = some(operator.inputs), some(operator.outputs)
            # Missing optional inputs are numbered -1.
            _check_indices([i for i in operator.inputs if i != -1], count)
            _check_indices(operator.outputs, count)
    for signature in some(model.signatureDefs):
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for entry in [*some(signature.inputs), *some(signature.outputs)]:
            _check_indices([entry.tensorIndex], count)


def _check_indices(indices: Iterable[int], count: int) -> None:
    for i in indices:
        if not 0 <= i < count:
            raise IndexError(f"it refers to part {i} of {count}")
