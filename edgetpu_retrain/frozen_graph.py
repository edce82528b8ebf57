"""Cut the last layer off a frozen TensorFlow graph, with TensorFlow's own converter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from edgetpu_retrain import files
from edgetpu_retrain.errors import UserError

_SHOWN_LINES = 5


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
        UserError: the converter is missing or fails; the text has its own last words.
    """
    if not Path(graph).is_file():
        raise UserError(f"{graph}: there is no such frozen graph.")
    with files.replacing(output) as temporary:
        command = [
            _converter(),
            "--enable_v1_converter",
            f"--graph_def_file={graph}",
            f"--output_file={temporary}",
            "--inference_type=QUANTIZED_UINT8",
            f"--mean_values={mean}",
            f"--std_dev_values={std}",
            f"--input_arrays={input_array}",
            f"--output_arrays={output_array}",
        ]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode or not temporary.is_file():
            raise UserError(
                f"tflite_convert could not cut {graph} at {output_array!r}:\n"
                f"{_last_words(done.stderr)}\n"
                "Check the backbone's input and tensor in workflow/backbones.yaml."
            )


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


def _last_words(output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
