"""Compile an extractor with Coral's edgetpu_compiler, and report the result."""

import json
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgetpu_retrain.config.settings import Compiler
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import archive, download, files

log = logging.getLogger(__name__)

PROGRAM = "edgetpu_compiler"
_GRACE_SECONDS = 30

_ELSEWHERE = (
    "It runs on x86-64 Linux only. Compile the extractor on such a machine or in a container, and "
    "set the path in the config, backbone: {name: ..., compiled: PATH}. To make only the CPU "
    "model, run your command again with device=cpu and the target retrained_model.tflite; to make "
    "the bundle with only the CPU model, add compiler='{sources: []}' to --config."
)
WHY_NOT_COMPILED = (
    "this backbone is not published in compiled form, and edgetpu_compiler is not available. It "
    "runs on x86-64 Linux only; docs/how-to/compile.md explains how to compile elsewhere."
)
_KNOWN_FAILURES = {
    r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'": (
        "a newer converter wrote the operator {0} in version {1}, which the compiler does not "
        "support: convert the model with TensorFlow 2.8 or older"
    ),
    r"Model not quantized": (
        "the model is not fully quantized: use a quantized one, or quantize it first"
    ),
    r"Model could not be parsed|Invalid model": (
        "the compiler cannot read the model: convert it with TensorFlow 2.8 or older"
    ),
    r"Internal compiler error": (
        "the compiler failed on this model: use another backbone, or try "
        "compiler.min_runtime_version: 13"
    ),
    r"Compilation timeout": (
        "the compiler took longer than compiler.timeout: raise it in the config, or use a "
        "backbone with a smaller input"
    ),
    r"large activation tensors": (
        "a layer's output does not fit the Edge TPU's memory: use a backbone with a smaller input"
    ),
    r"unresolved custom op: (\w+)": (
        "the model has the operator {0}, which is not built into TFLite: use another backbone"
    ),
    r"dynamic-sized tensors": (
        "the model has tensors of variable shape: convert it with a fixed input shape"
    ),
}
# A row of the operator table: name, count, status. Names of custom operators may be lower case.
_OPERATOR_ROW = re.compile(r"^([A-Za-z]\w+) +(\d+) +(\S.*?)\s*$", re.MULTILINE)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Compilation:
    """The compiler's report; sizes are None if it does not give them.

    Attributes:
        operators_mapped: number of operators that run on the Edge TPU.
        operators_on_cpu: number of operators that stay on the CPU, by name.
        cache_used_bytes: on-chip memory used for parameters.
        cache_free_bytes: on-chip memory left for parameters.
        off_chip_bytes: parameters streamed from the host for every image, which is slow.
    """

    operators_mapped: int
    operators_on_cpu: dict[str, int]
    cache_used_bytes: int | None
    cache_free_bytes: int | None
    off_chip_bytes: int | None

    def save(self, path: str | Path) -> None:
        """Writes the report as JSON."""
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def parse(output: str) -> Compilation:
    """Parses the output of ``edgetpu_compiler --show_operations``."""
    mapped = 0
    on_cpu: dict[str, int] = {}
    for name, count, status in _OPERATOR_ROW.findall(output):
        if status == "Mapped to Edge TPU":
            mapped += int(count)
        else:
            on_cpu[name] = on_cpu.get(name, 0) + int(count)
    return Compilation(
        mapped,
        on_cpu,
        _size(output, "On-chip memory used for caching model parameters"),
        _size(output, "On-chip memory remaining for caching model parameters"),
        _size(output, "Off-chip memory used for streaming uncached model parameters"),
    )


def _size(output: str, label: str) -> int | None:
    match = re.search(rf"^{label}: ([\d.]+)(B|KiB|MiB|GiB)", output, re.MULTILINE)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


def can_run_here() -> bool:
    """Returns whether the compiler runs on this machine (x86-64 Linux)."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")


def find(settings: Compiler, folder: str) -> str | None:
    """Returns the path of the compiler, installed or to be fetched; None if there is none.

    Args:
        settings: the key `compiler` of the configuration.
        folder: the folder that `fetch` unpacks it into.
    """
    if settings.path is not None:
        return os.path.expanduser(settings.path)
    if installed := shutil.which(PROGRAM):
        return installed
    return f"{folder}/usr/bin/{PROGRAM}" if settings.sources and can_run_here() else None


def is_installed(settings: Compiler) -> bool:
    """Returns whether there is a compiler that need not be downloaded."""
    return settings.path is not None or shutil.which(PROGRAM) is not None


def fetch(sources: Sequence[dict[str, str]], folder: str | Path) -> None:
    """Downloads and unpacks the compiler to ``usr/bin/edgetpu_compiler`` in a folder.

    Args:
        sources: URLs of .deb or .tar.gz files with their checksums, tried in order.
        folder: a new folder.

    Raises:
        UserError: none of the sources worked.
    """
    reasons = []
    for source in sources:
        with tempfile.TemporaryDirectory() as temporary:
            package = Path(temporary, "package")
            try:
                download.fetch(
                    [source["url"]], package, sha256=source.get("sha256"), md5=source.get("md5")
                )
                archive.extract_program(package, folder, f"usr/bin/{PROGRAM}")
                return
            except download.DownloadError as error:
                reasons += error.reasons
            except UserError as error:
                reasons.append(f"{source['url']}: {error}")
    raise UserError(
        f"{PROGRAM} could not be downloaded from any source.\n  " + "\n  ".join(reasons) + "\n"
        "Install it by hand and set its path in the config, compiler: {path: ...}. " + _ELSEWHERE
    )


def compile_model(
    model: str | Path,
    output: str | Path,
    log_path: str | Path,
    program: str | Path | None,
    timeout: int = 180,
    min_runtime_version: int | None = None,
    allow_cpu_operators: bool = False,
) -> Compilation:
    """Compiles a quantized .tflite model for the Edge TPU.

    Args:
        model: path of the model.
        output: path of the compiled model.
        log_path: path of a file for the compiler's output.
        program: path of the compiler; None if there is none.
        timeout: time limit in seconds.
        min_runtime_version: the oldest Edge TPU runtime that must run the model, 10 to 14.
        allow_cpu_operators: accept a model that runs partly or entirely on the CPU.

    Returns:
        The compiler's report.

    Raises:
        UserError: the compiler is missing or fails, leaves operators on the CPU, or its result has
            a different input or output.
    """
    # Finding out whether there is a compiler should not require the schema.
    from edgetpu_retrain.tflite.checks import (
        check_compiled,
        check_same_interface,
        check_versions,
        check_weights,
    )
    from edgetpu_retrain.tflite.model import Model

    extractor = Model.load(model)
    check_versions(extractor)
    if program is None:
        reason = (
            "is not on PATH, and the config (compiler.path, compiler.sources) has none"
            if can_run_here()
            else "is not available for this machine"
        )
        raise UserError(f"{PROGRAM} {reason}, so {model} cannot be compiled. {_ELSEWHERE}")
    with tempfile.TemporaryDirectory() as folder:
        printed, succeeded = _run(program, model, folder, timeout, min_runtime_version)
        with files.replacing(log_path) as temporary:
            temporary.write_text(printed, encoding="utf-8")
        compiled = Path(folder, f"{Path(model).stem}_edgetpu.tflite")
        if not succeeded or not compiled.is_file():
            raise UserError(f"{PROGRAM} could not compile {model}{_explain(printed)}")
        report = parse(printed)
        _check_mapping(model, report, allow_cpu_operators)
        if report.operators_mapped:
            compiled_model = Model.parse(compiled.read_bytes(), compiled.name)
            check_compiled(compiled_model, allow_cpu_operators)
            check_same_interface(extractor, compiled_model)
            log.info("%s %s", output, check_weights(extractor, compiled_model))
        with files.replacing(output) as temporary:
            shutil.copyfile(compiled, temporary)
    log.info(
        "Operators: %d on the Edge TPU, %d on the CPU",
        report.operators_mapped,
        sum(report.operators_on_cpu.values()),
    )
    return report


def _run(
    program: str | Path,
    model: str | Path,
    folder: str,
    timeout: int,
    min_runtime_version: int | None,
) -> tuple[str, bool]:
    """Returns the compiler's output, and whether it succeeded."""
    command = [
        str(program),
        "--show_operations",
        "--timeout_sec",
        str(timeout),
        "--out_dir",
        folder,
    ]
    if min_runtime_version is not None:
        command += ["--min_runtime_version", str(min_runtime_version)]
    try:
        process = subprocess.Popen(
            [*command, str(model)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UserError(
            f"{program} cannot be run: {error.strerror}. Check compiler.path in the config."
        ) from error
    with process:
        try:
            # The compiler has its own time limit; this one applies if that does not work.
            printed, _ = process.communicate(timeout=timeout + _GRACE_SECONDS)
        except BaseException as error:
            # The program may be a script with a child process. In their own session, neither gets
            # SIGINT from Ctrl-C, so the whole process group is killed.
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return "Compilation timeout", False
            raise
    if process.returncode < 0:
        printed += f"\n(terminated by {signal.Signals(-process.returncode).name})"
    return printed, process.returncode == 0


def _explain(printed: str) -> str:
    """Returns the end of an error message: the known reason and advice, if any, and the output."""
    indented = "\n".join(f"  {line}" for line in printed.strip().splitlines())
    for pattern, explanation in _KNOWN_FAILURES.items():
        if match := re.search(pattern, printed):
            return f": {explanation.format(*match.groups())}.\nIts output:\n{indented}"
    return f".\nIts output:\n{indented or '  (nothing)'}"


def _check_mapping(model: str | Path, report: Compilation, allow_cpu_operators: bool) -> None:
    if report.operators_mapped and not report.operators_on_cpu:
        return
    mapped = "only part" if report.operators_mapped else "nothing"
    on_cpu = ", ".join(f"{count} {name}" for name, count in report.operators_on_cpu.items())
    text = (
        f"{PROGRAM} mapped {mapped} of {model} to the Edge TPU; the CPU runs "
        f"{on_cpu or 'all operators'}."
    )
    if not allow_cpu_operators:
        raise UserError(
            f"{text} Use another backbone, or set compiler.allow_cpu_operators in the config."
        )
    log.warning(text)
