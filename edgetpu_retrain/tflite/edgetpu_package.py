"""What a compiled operator holds: programs for the Edge TPU, their parameters, what they need.

The custom options of an operator ``edgetpu-custom-op`` hold a FlatBuffer with the identifier DWN1,
a Package, in it a MultiExecutable, in it Executables. Their schema is public
(https://github.com/google-coral/libedgetpu/blob/master/executable/executable.fbs); the fields that
are read here stand below by their numbers.
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
    """What an executable takes or gives.

    Attributes:
        name: of the tensor.
        shape: height, width and channels; 1 for those that it has not.
        dtype: of its values on the device.
        scale: real value = scale * (value - zero_point).
        zero_point: likewise.
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
        parameters: what it sends to the device beside instructions.
        parameters_at: where they start in the operator's custom options.
        instruction_bytes: the size of its instructions.
        scratch_bytes: memory that it needs on the host.
        inputs: what it takes.
        outputs: what it gives.
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
    """What one compiled operator holds.

    Attributes:
        operator: the operator's number among the model's.
        min_runtime_version: the oldest runtime of the Edge TPU that runs it.
        compiler_version: as the compiler wrote it, which may be nothing.
        executables: its programs.
    """

    operator: int
    min_runtime_version: int
    compiler_version: str
    executables: tuple[Executable, ...]

    @property
    def cached_bytes(self) -> int:
        """Parameters that stay on the chip."""
        return sum(len(one.parameters) for one in self.executables if one.kind == PARAMETER_CACHING)

    @property
    def streamed_bytes(self) -> int:
        """Parameters that are sent anew for every image, which is slow."""
        return sum(len(one.parameters) for one in self.executables if one.kind != PARAMETER_CACHING)


def read_packages(model: Model) -> list[Package]:
    """Reads what the operators of a model for the Edge TPU hold.

    Args:
        model: of any kind.

    Returns:
        A package for every operator that holds one, in the model's order; none where the model is
        not compiled.

    Raises:
        UserError: a package is damaged.
    """
    packages = []
    for number, operator in enumerate(model.subgraph.operators):
        if model.describe(operator).name != CUSTOM_OP:
            continue
        content = bytes(or_empty(operator.customOptions))
        # In front of the identifier stands where the root table is.
        start = content.find(DARWINN_IDENTIFIER) - 4
        if start < 0:
            continue
        try:
            packages.append(_read_package(number, content, start))
        except ValueError as error:
            raise model.error(
                f"holds a damaged package for the Edge TPU (operator {number}: {error}). Download "
                "or compile it again."
            ) from error
    return packages


def streamed_bytes(model: Model) -> int | None:
    """Returns how many bytes of parameters a model sends for every image; None on the CPU."""
    packages = read_packages(model)
    return sum(one.streamed_bytes for one in packages) if packages else None


def min_runtime_version(model: Model) -> int | None:
    """Returns the oldest Edge TPU runtime that runs a model; None where it is not compiled."""
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
