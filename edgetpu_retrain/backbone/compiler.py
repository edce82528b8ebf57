"""Compile an extractor with Coral's edgetpu_compiler, and say what came of it."""

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
    "It runs on x86-64 Linux only: compile the extractor on such a machine (or in a container), "
    "then name the file in the config, backbone: {name: ..., compiled: PATH}. To make only "
    "the model for the CPU, set device to cpu and ask for the target retrained_model.tflite."
)
WHY_NOT = (
    "this backbone is not published compiled, and there is no edgetpu_compiler here. It runs on "
    "x86-64 Linux only; docs/how-to/compile.md says how to bring a compiled extractor."
)
_KNOWN_FAILURES = {
    r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'": (
        "a newer converter wrote the operator {0} in version {1}, which the compiler does not "
        "know: convert the model with an older TensorFlow (2.8 or before)"
    ),
    r"Model not quantized": (
        "the model is not quantized throughout: take a quantized one, or quantize it first"
    ),
    r"Model could not be parsed|Invalid model": (
        "the compiler cannot read the model: convert it with an older TensorFlow (2.8 or before)"
    ),
    r"Internal compiler error": (
        "the compiler itself failed on this model: take another backbone, or try "
        "compiler.min_runtime_version: 13"
    ),
    r"Compilation timeout": (
        "the compiler took longer than compiler.timeout: raise it in the config, or take a "
        "backbone with a smaller input"
    ),
    r"large activation tensors": (
        "a layer's output does not fit the Edge TPU's memory: take a backbone with a smaller input"
    ),
    r"unresolved custom op: (\w+)": (
        "the model holds the operator {0}, which is not one of TFLite's own: take another backbone"
    ),
    r"dynamic-sized tensors": (
        "the shapes of the model's tensors are not fixed: convert it with a fixed input shape"
    ),
}
# A row of the table of operators; custom ones are in lower case too.
_MAPPED = re.compile(r"^([A-Za-z]\w+) +(\d+) +(\S.*?)\s*$", re.MULTILINE)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Compilation:
    """What the compiler reported.

    Attributes:
        operators_mapped: how many operators run on the Edge TPU.
        operators_on_cpu: how many stay on the CPU, by name.
        cache_used_bytes: on-chip memory that holds parameters.
        cache_free_bytes: on-chip memory that is left.
        off_chip_bytes: parameters that are fetched anew for every image, which is slow.
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


def parse(printed: str) -> Compilation:
    """Reads what ``edgetpu_compiler --show_operations`` prints."""
    mapped = 0
    on_cpu: dict[str, int] = {}
    for name, count, status in _MAPPED.findall(printed):
        if status == "Mapped to Edge TPU":
            mapped += int(count)
        else:
            on_cpu[name] = on_cpu.get(name, 0) + int(count)
    return Compilation(
        mapped,
        on_cpu,
        _size(printed, "On-chip memory used for caching model parameters"),
        _size(printed, "On-chip memory remaining for caching model parameters"),
        _size(printed, "Off-chip memory used for streaming uncached model parameters"),
    )


def _size(printed: str, label: str) -> int | None:
    found = re.search(rf"^{label}: ([\d.]+)(B|KiB|MiB|GiB)", printed, re.MULTILINE)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def can_run_here() -> bool:
    """Whether this machine is one that the compiler runs on."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")


def find(settings: Compiler, folder: str) -> str | None:
    """Returns the path of the compiler, where it is or where `fetch` will put it; None without.

    Args:
        settings: the key `compiler` of the configuration.
        folder: where `fetch` puts it.
    """
    if settings.path is not None:
        return os.path.expanduser(settings.path)
    if installed := shutil.which(PROGRAM):
        return installed
    return f"{folder}/usr/bin/{PROGRAM}" if settings.sources and can_run_here() else None


def fetch(sources: Sequence[dict[str, str]], folder: str | Path) -> None:
    """Downloads and unpacks the compiler; its program is ``usr/bin/edgetpu_compiler`` below.

    Args:
        sources: addresses of a .deb or .tar.gz with checksums, tried in this order.
        folder: a new folder.

    Raises:
        UserError: no source gave it.
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
        f"No source of {PROGRAM} gave it.\n  " + "\n  ".join(reasons) + "\n"
        "Install it by hand and name it in the config (compiler: {path: ...}). " + _ELSEWHERE
    )


def compile_model(
    model: str | Path,
    output: str | Path,
    printed_to: str | Path,
    program: str | Path | None,
    timeout: int = 180,
    min_runtime_version: int | None = None,
    allow_cpu_operators: bool = False,
) -> Compilation:
    """Compiles a quantized .tflite model for the Edge TPU.

    Args:
        model: path of the model.
        output: where the compiled model goes.
        printed_to: where what the compiler printed goes.
        program: path of the compiler; None where there is none for this machine.
        timeout: seconds that it may take.
        min_runtime_version: the oldest Edge TPU runtime that is to run the model, 10 to 14.
        allow_cpu_operators: accept a model of which the Edge TPU runs a part or nothing.

    Raises:
        UserError: the compiler is missing or fails, maps too little, or writes something
            other than the model's compiled twin.
    """
    # Deciding whether there is a compiler should not need the schema.
    from edgetpu_retrain.tflite.checks import check_compiled, check_twin, check_versions
    from edgetpu_retrain.tflite.model import Model

    extractor = Model.load(model)
    check_versions(extractor)
    if program is None:
        reason = (
            "is not on PATH, and the config (compiler.path, compiler.sources) names none"
            if can_run_here()
            else "cannot be had for this machine"
        )
        raise UserError(f"{PROGRAM} {reason}, so {model} is not compiled. {_ELSEWHERE}")
    with tempfile.TemporaryDirectory() as folder:
        printed, done = _run(program, model, folder, timeout, min_runtime_version)
        with files.replacing(printed_to) as temporary:
            temporary.write_text(printed, encoding="utf-8")
        compiled = Path(folder, f"{Path(model).stem}_edgetpu.tflite")
        if not done or not compiled.is_file():
            raise UserError(f"{PROGRAM} could not compile {model}: {_explain(printed)}")
        report = parse(printed)
        _check_mapping(model, report, allow_cpu_operators)
        if report.operators_mapped:
            twin = Model.parse(compiled.read_bytes(), compiled.name)
            check_compiled(twin, allow_cpu_operators)
            check_twin(extractor, twin)
        with files.replacing(output) as temporary:
            shutil.copyfile(compiled, temporary)
    log.info(
        "%d operators on the Edge TPU, %d on the CPU",
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
    """Returns what the compiler printed, and whether it ended well."""
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
            # The compiler has a timer of its own; this one is for where that fails.
            printed, _ = process.communicate(timeout=timeout + _GRACE_SECONDS)
        except BaseException as error:
            # The program is the child of a script; Ctrl-C reaches neither in their own session.
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return "Compilation timeout", False
            raise
    if process.returncode < 0:
        printed += f"\n(ended by {signal.Signals(-process.returncode).name})"
    return printed, process.returncode == 0


def _explain(printed: str) -> str:
    """Puts a failure into a sentence that says what to do; shows what was printed all the same."""
    indented = "\n".join(f"  {line}" for line in printed.strip().splitlines())
    for pattern, sentence in _KNOWN_FAILURES.items():
        if found := re.search(pattern, printed):
            return f"{sentence.format(*found.groups())}.\nIt printed:\n{indented}"
    return f"it printed:\n{indented or '  nothing'}"


def _check_mapping(model: str | Path, report: Compilation, allow_cpu_operators: bool) -> None:
    if report.operators_mapped and not report.operators_on_cpu:
        return
    share = "nothing" if not report.operators_mapped else "only a part"
    on_cpu = ", ".join(f"{count} {name}" for name, count in report.operators_on_cpu.items())
    text = (
        f"{PROGRAM} mapped {share} of {model} to the Edge TPU; on the CPU stay {on_cpu or 'all'}."
    )
    if not allow_cpu_operators:
        raise UserError(
            f"{text} Take another backbone, or set compiler.allow_cpu_operators in the config."
        )
    log.warning(text)
