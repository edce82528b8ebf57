"""Programs that stand in for what cannot be had where the tests run."""

import shutil
import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgetpu_retrain.tflite.edgetpu_parameters import lay_out
from edgetpu_retrain.tflite.model import Model

# What the real edgetpu_compiler prints, as its users' reports have it.
SUCCESS = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1641 ms.

Input model: extractor.tflite
Input size: 3.10MiB
Output model: extractor_edgetpu.tflite
Output size: 3.32MiB
On-chip memory used for caching model parameters: 3.25MiB
On-chip memory remaining for caching model parameters: 4.37MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 28
Operation log: extractor_edgetpu.log

Operator                       Count      Status

AVERAGE_POOL_2D                1          Mapped to Edge TPU
CONV_2D                        14         Mapped to Edge TPU
DEPTHWISE_CONV_2D              13         Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
PARTLY = SUCCESS.replace(
    "CONV_2D                        14         Mapped to Edge TPU",
    "CONV_2D                        9          Mapped to Edge TPU\n"
    "CONV_2D                        5          More than one subgraph is not supported\n"
    "TFLite_Detection_PostProcess   1          Operation is a custom op",
    1,
)
NOTHING = SUCCESS.replace("Mapped to Edge TPU", "Operation is otherwise supported, but not mapped")

_SCRIPT = """\
#!{python}
\"\"\"A stand-in for edgetpu_compiler: prints a text and wraps its model as a compiled one is.\"\"\"
import sys
from pathlib import Path

sys.path.insert(0, {root!r})
from tests import stand_ins

folder = Path(sys.argv[sys.argv.index("--out_dir") + 1])
path = Path(sys.argv[-1])
Path(__file__).with_name("arguments").write_text(" ".join(sys.argv[1:]))
print({printed!r})
if {exit_code}:
    sys.exit({exit_code})
content = path.read_bytes()
if {compiles}:
    content = stand_ins.compiled(content, other_output={other_output}, on_cpu={on_cpu})
(folder / (path.stem + "_edgetpu.tflite")).write_bytes(content)
"""


def package(cached: bytes, streamed: bytes = b"", runtime: int = 14) -> bytes:
    """A package as the compiler writes it, without instructions.

    Args:
        cached: parameters that stay on the chip.
        streamed: parameters that are sent for every image.
        runtime: the oldest runtime that it says it needs.
    """

    def table(values: dict[int, tuple[str, object]], identifier: bytes | None = None) -> bytes:
        builder = flatbuffers.Builder()
        made = {
            field: builder.CreateByteVector(value) if kind == "bytes" else value
            for field, (kind, value) in values.items()
            if kind != "strings"
        }
        for field, (kind, value) in values.items():
            if kind == "strings":
                strings = [builder.CreateString(one) for one in value]
                builder.StartVector(4, len(strings), 4)
                for one in reversed(strings):
                    builder.PrependUOffsetTRelative(one)
                made[field] = builder.EndVector()
        builder.StartObject(17)
        for field, (kind, _) in values.items():
            if kind == "int32":
                builder.PrependInt32Slot(field, made[field], 0)
            elif kind == "int16":
                builder.PrependInt16Slot(field, made[field], 0)
            else:
                builder.PrependUOffsetTRelativeSlot(field, made[field], 0)
        builder.Finish(builder.EndObject(), identifier)
        return bytes(builder.Output())

    executables = [
        table({6: ("bytes", parameters), 13: ("int16", kind)})
        for parameters, kind in ((streamed, 2), (cached, 1))
    ]
    multiple = table({0: ("strings", executables)})
    return table({0: ("int32", runtime), 1: ("bytes", multiple)}, b"DWN1")


def compiled(
    model: bytes, other_output: bool = False, on_cpu: bool = False, streamed: bytes = b""
) -> bytes:
    """Wraps a model as the compiler does: one custom operator from its inputs to its outputs.

    It holds the parameters as this project believes the compiler lays them out, and no
    instructions.

    Args:
        model: bytes of a .tflite file.
        other_output: give its output another scale.
        on_cpu: leave an operator for the CPU behind the custom one.
        streamed: parameters that are sent for every image.
    """
    unpacked = flatbuffer_utils.read_model_from_bytearray(model)
    graph = unpacked.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "edgetpu-custom-op"
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0], [1]
    layers = lay_out(Model.parse(model, "x.tflite"))
    parameters = b"".join(layer.content or b"" for layer in layers)
    operator.customOptions = np.frombuffer(package(parameters, streamed), np.uint8)
    unpacked.operatorCodes, graph.operators = [code], [operator]
    graph.tensors = [graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]]
    for tensor in graph.tensors:
        tensor.buffer = 0
    graph.inputs, graph.outputs = [0], [1]
    unpacked.buffers, unpacked.metadata = unpacked.buffers[:1], None
    unpacked.metadataBuffer = unpacked.signatureDefs = None
    if on_cpu:
        reshape = schema.OperatorCodeT()
        reshape.builtinCode = reshape.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
        unpacked.operatorCodes.append(reshape)
        tail = schema.OperatorT()
        tail.opcodeIndex, tail.inputs, tail.outputs = 1, graph.outputs, graph.outputs
        graph.operators.append(tail)
    if other_output:
        graph.tensors[1].quantization.scale = [0.5]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(unpacked))


def edgetpu_compiler(
    folder: Path,
    printed: str = SUCCESS,
    exit_code: int = 0,
    compiles: bool = True,
    other_output: bool = False,
    on_cpu: bool = False,
) -> Path:
    """Writes a stand-in for the compiler into a folder and returns its path.

    It leaves the arguments that it was called with in the file `arguments` beside it.
    """
    program = folder / "edgetpu_compiler"
    folder.mkdir(parents=True, exist_ok=True)
    program.write_text(
        _SCRIPT.format(
            python=sys.executable,
            root=str(Path(__file__).parents[1]),
            printed=printed,
            exit_code=exit_code,
            compiles=compiles,
            other_output=other_output,
            on_cpu=on_cpu,
        )
    )
    program.chmod(0o755)
    return program


def edgetpu_library(folder: Path, mode: str) -> Path:
    """Builds a stand-in for libedgetpu.so.1 in a new folder, and returns the folder.

    Args:
        folder: where to.
        mode: ``answers`` (with the bytes of the file that $EDGETPU_ANSWER names), ``absent`` (it
            finds no device), ``refuses`` (it makes no delegate), ``crashes``, ``hangs``, or
            ``old`` (a runtime older than the model's).
    """
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler to make the stand-in for libedgetpu")
    folder.mkdir(parents=True)
    source = Path(__file__).with_name("edgetpu_library.c")
    library = folder / "libedgetpu.so.1"
    command = ["cc", "-shared", "-fPIC", f'-DMODE="{mode}"', "-o", library, source]
    subprocess.run(command, check=True)
    return folder
