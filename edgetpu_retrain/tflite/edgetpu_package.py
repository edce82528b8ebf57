"""Read the contents of a compiled operator: programs for the Edge TPU and their parameters.

The custom options of an ``edgetpu-custom-op`` contain a FlatBuffer with the identifier DWN1: a
Package that contains a MultiExecutable, which contains Executables. The schema is public
(https://github.com/google-coral/libedgetpu/blob/master/executable/executable.fbs); the numbers of
the fields that are read here are listed below.
"""

from dataclasses import dataclass

from edgetpu_retrain.tflite.flatbuffer_table import Table
from edgetpu_retrain.tflite.integrity import or_empty
from edgetpu_retrain.tflite.model import CUSTOM_OP, DARWINN_IDENTIFIER, Model

# Package, and its MultiExecutable.
_MIN_RUNTIME_VERSION, _MULTI_EXECUTABLE, _COMPILER_VERSION = 0, 1, 4
_EXECUTABLES = 0
# Executable.
_SCRATCH_BYTES, _INSTRUCTIONS, _PARAMETERS, _INPUTS, _OUTPUTS, _KIND = 4, 5, 6, 8, 9, 13
# InstructionBitstream.
_BITSTREAM = 0
# Layer, and its NumericsConstants.
_NAME, _Y, _X, _Z, _NUMERICS, _TYPE = 0, 2, 3, 4, 5, 6
_ZERO_POINT, _SCALE = 0, 1

# By Executable.type.
STAND_ALONE, PARAMETER_CACHING, EXECUTION_ONLY = "stand-alone", "caching", "execution"
_KINDS = (STAND_ALONE, PARAMETER_CACHING, EXECUTION_ONLY)
# By Layer.data_type.
_TYPES = {
    0: "uint8",
    1: "uint16",
    2: "int32",
    3: "bfloat16",
    4: "float16",
    5: "float32",
    8: "int8",
    9: "int16",
}


@dataclass(frozen=True)
class Layer:
    """An input or output of an executable.

    Attributes:
        name: name of the tensor.
        shape: (height, width, channels); dimensions it does not have are 1.
        dtype: dtype of its values on the device.
        scale: scale of the quantization: real = scale * (value - zero_point).
        zero_point: zero point of the quantization.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Executable:
    """A program for the Edge TPU.

    Attributes:
        kind: `STAND_ALONE`, `PARAMETER_CACHING` (run once, to load parameters) or
            `EXECUTION_ONLY` (run for every image).
        parameters: the parameters that are sent to the device with the instructions.
        parameters_at: their offset in the operator's custom options.
        instruction_bytes: size of the instructions.
        scratch_bytes: memory needed on the host.
        inputs: the inputs.
        outputs: the outputs.
    """

    kind: str
    parameters: memoryview
    parameters_at: int
    instruction_bytes: int
    scratch_bytes: int
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]


@dataclass(frozen=True)
class Package:
    """The contents of one compiled operator.

    Attributes:
        operator: index of the operator in the model.
        min_runtime_version: the oldest Edge TPU runtime that can run it.
        compiler_version: version of the compiler; "" if the file does not say.
        executables: the programs.
    """

    operator: int
    min_runtime_version: int
    compiler_version: str
    executables: tuple[Executable, ...]

    @property
    def cached_bytes(self) -> int:
        """Size of the parameters that stay on the chip."""
        return sum(len(one.parameters) for one in self.executables if one.kind == PARAMETER_CACHING)

    @property
    def streamed_bytes(self) -> int:
        """Size of the parameters that are sent again for every image, which is slow."""
        return sum(len(one.parameters) for one in self.executables if one.kind != PARAMETER_CACHING)


def read_packages(model: Model) -> list[Package]:
    """Reads the packages in a model.

    Args:
        model: any model, compiled or not.

    Returns:
        One package per compiled operator, in the order of the operators.

    Raises:
        UserError: a package is damaged.
    """
    packages = []
    for number, operator in enumerate(model.subgraph.operators):
        if model.describe(operator).name != CUSTOM_OP:
            continue
        content = bytes(or_empty(operator.customOptions))
        # The offset of the root table precedes the identifier.
        start = content.find(DARWINN_IDENTIFIER) - 4
        if start < 0:
            continue
        try:
            packages.append(_read_package(number, content, start))
        except ValueError as error:
            raise model.error(
                f"contains a damaged package for the Edge TPU (operator {number}: {error}). "
                "Download or compile it again."
            ) from error
    return packages


def streamed_bytes(model: Model) -> int | None:
    """Returns how many bytes of parameters are sent for every image; None if not compiled."""
    packages = read_packages(model)
    return sum(one.streamed_bytes for one in packages) if packages else None


def min_runtime_version(model: Model) -> int | None:
    """Returns the oldest Edge TPU runtime that can run a model; None if it is not compiled."""
    return max((one.min_runtime_version for one in read_packages(model)), default=None)


def _read_package(number: int, content: bytes, start: int) -> Package:
    package = Table.root(content, start)
    at, size = package.span(_MULTI_EXECUTABLE)
    spans = Table.root(content, at).spans(_EXECUTABLES) if size else []
    return Package(
        number,
        package.integer(_MIN_RUNTIME_VERSION, "i"),
        package.text(_COMPILER_VERSION),
        tuple(_read_executable(content, at) for at, _ in spans),
    )


def _read_executable(content: bytes, start: int) -> Executable:
    table = Table.root(content, start)
    kind = table.integer(_KIND, "h")
    if not 0 <= kind < len(_KINDS):
        raise ValueError(f"an executable of type {kind}")
    at, size = table.span(_PARAMETERS)
    return Executable(
        _KINDS[kind],
        memoryview(content)[at : at + size],
        at,
        sum(one.span(_BITSTREAM)[1] for one in table.tables(_INSTRUCTIONS)),
        table.integer(_SCRATCH_BYTES, "i"),
        tuple(_read_layer(one) for one in table.tables(_INPUTS)),
        tuple(_read_layer(one) for one in table.tables(_OUTPUTS)),
    )


def _read_layer(table: Table) -> Layer:
    numerics = table.table(_NUMERICS)
    kind = table.integer(_TYPE, "h")
    return Layer(
        table.text(_NAME),
        (table.integer(_Y, "i"), table.integer(_X, "i"), table.integer(_Z, "i")),
        _TYPES.get(kind, f"type {kind}"),
        numerics.real(_SCALE) if numerics else 0.0,
        numerics.integer(_ZERO_POINT, "i") if numerics else 0,
    )
