"""Compile an extractor with Coral's edgetpu_compiler."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from edgetpu_retrain import files
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.interpreter import is_compiled

_PROGRAM = "edgetpu_compiler"


def compile_model(model: str | Path, output: str | Path, report: str | Path) -> None:
    """Compiles a quantized .tflite model for the Edge TPU.

    Args:
        model: path of the model.
        output: where the compiled model goes.
        report: where what the compiler printed goes, its table of operators included.

    Raises:
        UserError: the compiler is missing or fails, or nothing was mapped to the Edge TPU.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise UserError(
            f"{_PROGRAM} is not installed. It runs on x86-64 Linux: "
            "https://coral.ai/docs/edgetpu/compiler\n"
            "Without it, make the CPU model (snakemake --cores 4 retrained_model.tflite), or "
            "choose a backbone that is published compiled, such as mobilenet_v1_1.0_224."
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--show_operations", "--out_dir", folder, str(model)]
        done = subprocess.run(command, capture_output=True, text=True)
        printed = done.stdout + done.stderr
        with files.replacing(report) as temporary:
            temporary.write_text(printed, encoding="utf-8")
        compiled = Path(folder, f"{Path(model).stem}_edgetpu.tflite")
        if done.returncode or not compiled.is_file():
            raise UserError(f"{_PROGRAM} could not compile {model}:\n{printed.strip()}")
        if not is_compiled(compiled.read_bytes()):
            raise UserError(
                f"{_PROGRAM} mapped no operator of {model} to the Edge TPU:\n{printed.strip()}"
            )
        with files.replacing(output) as temporary:
            shutil.move(compiled, temporary)
