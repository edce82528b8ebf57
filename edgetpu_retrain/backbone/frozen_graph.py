"""Cut the last layer off a frozen TensorFlow graph, with TensorFlow's own converter."""

import difflib
import json
import os
import shutil
import sys
from pathlib import Path

from edgetpu_retrain.backbone import tensorflow_process
from edgetpu_retrain.errors import UserError
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

    Runs ``tflite_convert`` as Coral's guide does, by the TF1 path of today's version.

    Args:
        graph: path of the frozen GraphDef, with FakeQuant nodes.
        output: where the extractor goes.
        input_array: name of the image tensor.
        output_array: name of the embedding tensor.
        mean: the pixel value that stands for 0.
        std: how many pixel values stand for 1; real = (pixel - mean) / std.

    Raises:
        UserError: the graph lacks one of the tensors or is not quantization-aware; the converter
            is missing or fails, in which case the text has its own last words.
    """
    if not Path(graph).is_file():
        raise UserError(f"{graph}: there is no such frozen graph.")
    converter = _converter()
    _check(graph, nodes(graph), input_array, output_array)
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
        done = tensorflow_process.run(command)
        if done.returncode or not temporary.is_file():
            raise UserError(
                f"tflite_convert could not cut {graph} at {output_array!r}:\n"
                f"{tensorflow_process.error_excerpt(done.stderr)}\n"
                "Check the backbone's input and tensor."
            )


def nodes(graph: str | Path) -> dict[str, str]:
    """Returns the name and the operation of every node of a frozen graph.

    TensorFlow reads it, in a process of its own.

    Raises:
        UserError: the file is no GraphDef.
    """
    done = tensorflow_process.run([sys.executable, "-m", __name__, str(graph)])
    if done.returncode:
        raise UserError(
            f"{graph} cannot be read as a frozen TensorFlow graph:\n"
            f"{tensorflow_process.error_excerpt(done.stderr)}"
        )
    return json.loads(done.stdout)


def _check(graph: str | Path, found: dict[str, str], input_array: str, output_array: str) -> None:
    for what, name in (("input", input_array), ("tensor", output_array)):
        if name not in found:
            near = difflib.get_close_matches(name, found, n=_MAX_SUGGESTIONS)
            raise UserError(
                f"{graph} holds no node {name!r}, the backbone's {what}.\n"
                f"The nearest names are: {', '.join(near) or 'none'}.\n"
                f"Its inputs are: {_of_kind(found, 'Placeholder')}.\n"
                f"Its pooling layers are: {_of_kind(found, *_POOLS)}."
            )
    if not any(operation.startswith("FakeQuant") for operation in found.values()):
        raise UserError(
            f"{graph} is not quantization-aware (it holds no FakeQuant node), so it cannot be "
            "converted for the Edge TPU. If there is a quantized .tflite of this network, name "
            "that: backbone: {name: ..., tflite: PATH}."
        )


def _of_kind(found: dict[str, str], *operations: str) -> str:
    return ", ".join(name for name, op in found.items() if op in operations) or "none"


def _converter() -> str:
    """Finds the converter of this environment first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("tflite_convert", path=path)
    if found is None:
        raise UserError(
            "tflite_convert is not installed; it comes with TensorFlow: "
            "pip install -r requirements.txt"
        )
    return found


def _print_nodes(graph: str) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    try:
        parsed = graph_pb2.GraphDef.FromString(Path(graph).read_bytes())
    except DecodeError as error:
        sys.exit(str(error))
    if not parsed.node:
        sys.exit("it holds no nodes")
    print(json.dumps({node.name: node.op for node in parsed.node}))


if __name__ == "__main__":
    _print_nodes(sys.argv[1])
