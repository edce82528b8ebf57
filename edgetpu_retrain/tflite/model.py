"""A parsed .tflite file, which can be inspected, changed and written."""

import copy
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.integrity import (
    TYPE_NAMES,
    check_offsets,
    check_references,
    check_values,
    make_names_text,
    or_empty,
)

CUSTOM_OP = "edgetpu-custom-op"
_FILE_IDENTIFIER = b"TFL3"
DARWINN_IDENTIFIER = b"DWN1"
# Operator codes below this are also in the old one-byte field deprecated_builtin_code.
_PLACEHOLDER_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_TYPES = {name: code for code, name in TYPE_NAMES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape, dtype and quantization of a tensor.

    Attributes:
        name: its name; the first one if the converter joined the names of fused operators.
        shape: its dimensions; empty if the file has none.
        dtype: TFLite's name of its type, in lower case.
        scale: real value = scale * (value - zero_point); None if there is none, or one per channel.
        zero_point: integer that represents 0; None if `scale` is.
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
        name: its name in the schema, or the custom code of a custom operator.
        version: its version.
        inputs: indices of its input tensors; -1 for an omitted optional input.
        outputs: indices of its output tensors.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Model:
    """A .tflite file.

    Attributes:
        source: what error messages call the model, usually its path.
        unpacked: the model as an object of the schema; it can be modified.
    """

    def __init__(self, unpacked: schema.ModelT, source: str):
        self.unpacked = unpacked
        self.source = source

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Reads a file.

        Raises:
            UserError: the file cannot be read, is not a TFLite model, or is damaged.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, source: str) -> "Model":
        """Parses the contents of a file, including buffers stored after the FlatBuffer.

        Raises:
            UserError: the contents are not a TFLite model, or are damaged.
        """
        if content[4:8] != _FILE_IDENTIFIER:
            raise UserError(f"{source} is not a TFLite model (the file lacks the identifier TFL3).")
        try:
            check_offsets(content)
            unpacked = flatbuffer_utils.read_model_from_bytearray(content)
            check_references(unpacked)
            check_values(unpacked)
            make_names_text(unpacked)
        except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source} is a damaged or incomplete TFLite model ({error}). If it is a result of "
                "this workflow, delete it and run again."
            ) from error
        for buffer in unpacked.buffers:
            if buffer.data is not None and not len(buffer.data):
                # An empty array, as in buffer 0 of compiled files, would be taken for a constant.
                buffer.data = None
            elif isinstance(buffer.data, bytes):
                # The schema packs bytes one by one, but an array in one step.
                buffer.data = np.frombuffer(buffer.data, np.uint8)
        return cls(unpacked, source)

    def to_bytes(self) -> bytes:
        """Returns the contents of the .tflite file."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.unpacked))

    def save(self, path: str | Path) -> None:
        """Writes the model to a .tflite file."""
        with files.replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    def copy(self) -> "Model":
        """Returns a deep copy."""
        return Model(copy.deepcopy(self.unpacked), self.source)

    def error(self, text: str) -> UserError:
        """Returns an error; `text` follows the name of the file, as in "has no outputs."."""
        return UserError(f"{self.source} {text}")

    @property
    def subgraph(self) -> schema.SubGraphT:
        """The first subgraph; image classifiers have only one."""
        return self.unpacked.subgraphs[0]

    @property
    def inputs(self) -> list[TensorSpec]:
        """The input tensors."""
        return [self.tensor(i) for i in self.subgraph.inputs]

    @property
    def outputs(self) -> list[TensorSpec]:
        """The output tensors."""
        return [self.tensor(i) for i in self.subgraph.outputs]

    @property
    def operators(self) -> list[Operator]:
        """The operators, in execution order."""
        return [self.describe(operator) for operator in self.subgraph.operators]

    @property
    def is_compiled(self) -> bool:
        """Whether the model has an operator for the Edge TPU."""
        return any(operator.name == CUSTOM_OP for operator in self.operators)

    @property
    def darwinn_packages(self) -> int:
        """Number of operators with a DarwiNN package, as the Edge TPU compiler generates them."""
        return sum(
            self.describe(operator).name == CUSTOM_OP
            and DARWINN_IDENTIFIER in bytes(or_empty(operator.customOptions))
            for operator in self.subgraph.operators
        )

    def describe(self, operator: schema.OperatorT) -> Operator:
        """Returns the name, version, inputs and outputs of an operator of the schema."""
        code = self.unpacked.operatorCodes[operator.opcodeIndex]
        builtin = flatbuffer_utils.get_builtin_code_from_operator_code(code)
        name = _OPERATOR_NAMES.get(builtin, f"BUILTIN_{builtin}")
        if code.customCode:
            name = code.customCode.decode(errors="replace")
        inputs, outputs = tuple(map(int, operator.inputs)), tuple(map(int, operator.outputs))
        return Operator(name, code.version, inputs, outputs)

    def tensor(self, index: int) -> TensorSpec:
        """Returns the name, shape, dtype and quantization of a tensor."""
        tensor = self.subgraph.tensors[index]
        scale, zero_point = None, None
        if self.num_scales(index) == 1:
            scale = float(tensor.quantization.scale[0])
            if len(or_empty(tensor.quantization.zeroPoint)) == 1:
                zero_point = int(tensor.quantization.zeroPoint[0])
        shape = tuple(int(n) for n in or_empty(tensor.shape))
        name = self.full_name(index).split(";")[0]
        return TensorSpec(name, shape, TYPE_NAMES[tensor.type], scale, zero_point)

    def full_name(self, index: int) -> str:
        """Returns a tensor's name, with the names of fused operators after semicolons."""
        name = self.subgraph.tensors[index].name or b""
        return name if isinstance(name, str) else name.decode(errors="replace")

    def scales(self, index: int) -> np.ndarray:
        """Returns a tensor's scales: several for channels, none if it is not quantized."""
        quantization = self.subgraph.tensors[index].quantization
        return np.asarray(() if quantization is None else or_empty(quantization.scale), np.float32)

    def num_scales(self, index: int) -> int:
        """Returns the number of scales of a tensor; 0 if it is not quantized."""
        return len(self.scales(index))

    def constant(self, index: int) -> np.ndarray | None:
        """Returns the data of a constant tensor, uint8 [num_bytes]; None if it is not constant."""
        data = self.unpacked.buffers[self.subgraph.tensors[index].buffer].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)

    def set_constant(self, index: int, values: np.ndarray) -> None:
        """Replaces the data of a constant tensor; tensors that share its buffer keep theirs."""
        tensor = self.subgraph.tensors[index]
        if sum(other.buffer == tensor.buffer for other in self.subgraph.tensors) > 1:
            self.unpacked.buffers.append(schema.BufferT())
            tensor.buffer = len(self.unpacked.buffers) - 1
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.unpacked.buffers[tensor.buffer].data = data

    def producer(self, index: int) -> Operator | None:
        """Returns the operator that outputs a tensor; None for inputs and constants."""
        return next((op for op in self.operators if index in op.outputs), None)

    def tail(self, count: int = 5) -> str:
        """Returns a list of the last operators and their outputs, for error messages."""
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
        """Adds a tensor and returns its index."""
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = list(shape)
        tensor.type = _TYPES[dtype]
        # By convention, buffer 0 is empty.
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
        """Adds a constant tensor with the shape and dtype of `values`, and returns its index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.unpacked.buffers.append(buffer)
        buffer_index = len(self.unpacked.buffers) - 1
        return self.add_tensor(
            name, values.shape, values.dtype.name, scale, zero_point, buffer_index
        )

    def add_operator(
        self,
        name: str,
        inputs: Sequence[int],
        output: int,
        options: object | None,
        version: int = 1,
        first: bool = False,
    ) -> None:
        """Adds an operator with one output, after or before all others.

        Args:
            name: its name in the schema.
            inputs: indices of its input tensors.
            output: index of its output tensor.
            options: its options as an object of the schema, such as ``SoftmaxOptionsT``; None for
                an operator without.
            version: its version.
            first: add it before all others.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self.code_index(getattr(schema.BuiltinOperator, name), version)
        operator.inputs = list(inputs)
        operator.outputs = [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.subgraph.operators.insert(0 if first else len(self.subgraph.operators), operator)

    def set_input(self, index: int) -> None:
        """Makes a tensor the model's only input, in its signatures as well."""
        self.subgraph.inputs = [index]
        for entry in self.signature_entries("inputs"):
            entry.tensorIndex = index

    def code_index(self, code: int, version: int) -> int:
        """Returns the index of an operator code, and adds the code if it is missing."""
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

    def signature_entries(self, field: str) -> list[schema.TensorMapT]:
        """Returns the ``inputs`` or the ``outputs`` (`field`) of all signatures."""
        return [
            entry
            for signature in or_empty(self.unpacked.signatureDefs)
            for entry in or_empty(getattr(signature, field))
        ]
