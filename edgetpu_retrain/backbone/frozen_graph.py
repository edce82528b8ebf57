"""Cut off the last layer of a frozen TensorFlow graph, with TensorFlow's converter."""

import difflib
import json
import os
import shutil
import sys
from pathlib import Path

from edgetpu_retrain.backbone import tensorflow_process, unsafe_operators
from edgetpu_retrain.errors import UserError, how_to_install
from edgetpu_retrain.io import files

_MAX_SUGGESTIONS = 5
_POOLS = ("AvgPool", "Mean")


def truncate(
    graph: str | Path,
    output: str | Path,
    input_array: str,
    output_array: str,
    mean: float,
    std: float,
) -> None:
    """Converts the part of a quantization-aware frozen graph between two tensors to .tflite.

    Runs ``tflite_convert --enable_v1_converter``, as in Coral's guide.

    Args:
        graph: path of the frozen GraphDef, with FakeQuant nodes.
        output: path of the extractor.
        input_array: name of the image tensor.
        output_array: name of the embedding tensor.
        mean: pixel value that the network takes as 0.
        std: number of pixel values per unit of its input; real = (pixel - mean) / std.

    Raises:
        UserError: the graph lacks one of the tensors, is not quantization-aware, or accesses files;
            or the converter is missing or fails; the message then includes the converter's error.
    """
    if not Path(graph).is_file():
        raise UserError(f"{graph}: there is no such frozen graph.")
    converter = _find_converter()
    operations, unsafe = _read(graph, output_array)
    if unsafe:
        raise UserError(
            f"{graph} has the operators {', '.join(unsafe)}, which can read or write files or run "
            "code. No image classifier needs them, so it is not converted."
        )
    _check(graph, operations, input_array, output_array)
    with files.replacing(output) as temporary:
        command = [
            converter,
            "--enable_v1_converter",
            f"--graph_def_file={graph}",
            f"--output_file={temporary}",
            "--inference_type=QUANTIZED_UINT8",
            f"--mean_values={mean}",
            f"--std_dev_values={std}",
            f"--input_arrays={input_array}",
            f"--output_arrays={output_array}",
        ]
        process = tensorflow_process.run(command)
        if process.returncode or not temporary.is_file():
            raise UserError(
                f"tflite_convert could not cut {graph} at {output_array!r}:\n"
                f"{tensorflow_process.error_excerpt(process.stderr)}\n"
                "Check the backbone's input and tensor."
            )


def _read(graph: str | Path, output_array: str) -> tuple[dict[str, str], list[str]]:
    """Returns the operation of every node by name, and which operators are unsafe.

    TensorFlow reads the graph in a separate process.

    Raises:
        UserError: the file is not a GraphDef.
    """
    command = [sys.executable, "-m", __name__, str(graph), output_array]
    process = tensorflow_process.run(command)
    if process.returncode:
        raise UserError(
            f"{graph} cannot be read as a frozen TensorFlow graph:\n"
            f"{tensorflow_process.error_excerpt(process.stderr)}"
        )
    operations, unsafe = json.loads(process.stdout)
    return operations, unsafe


def _check(
    graph: str | Path, operations: dict[str, str], input_array: str, output_array: str
) -> None:
    for key, name in (("input", input_array), ("tensor", output_array)):
        if name not in operations:
            similar = difflib.get_close_matches(name, operations, n=_MAX_SUGGESTIONS)
            raise UserError(
                f"{graph} has no node {name!r}, which is the backbone's {key}.\n"
                f"Similar names are: {', '.join(similar) or 'none'}.\n"
                f"Its inputs are: {_nodes_of(operations, 'Placeholder')}.\n"
                f"Its pooling layers are: {_nodes_of(operations, *_POOLS)}."
            )
    if not any(operation.startswith("FakeQuant") for operation in operations.values()):
        raise UserError(
            f"{graph} is not quantization-aware (it has no FakeQuant node), so it cannot be "
            "converted for the Edge TPU. If there is a quantized .tflite of this network, use it: "
            "backbone: {name: ..., tflite: PATH}."
        )


def _nodes_of(operations: dict[str, str], *wanted: str) -> str:
    return ", ".join(name for name, op in operations.items() if op in wanted) or "none"


def _find_converter() -> str:
    """Returns the path of tflite_convert, preferably from this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    converter = shutil.which("tflite_convert", path=path)
    if converter is None:
        raise UserError(
            "tflite_convert is not installed; it comes with TensorFlow. "
            f"{how_to_install('tensorflow')}"
        )
    return converter


def _print_nodes(graph: str, output_array: str) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    try:
        parsed = graph_pb2.GraphDef.FromString(Path(graph).read_bytes())
    except DecodeError as error:
        sys.exit(str(error))
    if not parsed.node:
        sys.exit("the graph has no nodes")
    operations = {node.name: node.op for node in parsed.node}
    print(json.dumps([operations, unsafe_operators.in_graph(parsed, output_array)]))


if __name__ == "__main__":
    _print_nodes(*sys.argv[1:3])
