"""The real edgetpu_compiler cannot be had here; a stand-in prints and writes what it would."""

import io
import os
import re
import tarfile
import time
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.backbone import compiler
from edgetpu_retrain.config.settings import Compiler
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.model import Model
from tests import models as look
from tests import stand_ins


@pytest.fixture
def extractor(made: Path, tmp_path: Path) -> Path:
    path = tmp_path / "extractor.tflite"
    path.write_bytes((made / "extractor.tflite").read_bytes())
    return path


def compile_with(extractor: Path, program: Path | None, **options) -> compiler.Compilation:
    folder = extractor.parent / "out"
    return compiler.compile_model(
        extractor, folder / "x_edgetpu.tflite", folder / "x.txt", program, **options
    )


def test_what_the_compiler_reports(
    extractor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    program = stand_ins.edgetpu_compiler(tmp_path / "bin")
    report = compile_with(extractor, program, timeout=99, min_runtime_version=13)
    assert report == compiler.Compilation(
        operators_mapped=28,
        operators_on_cpu={},
        cache_used_bytes=round(3.25 * 2**20),
        cache_free_bytes=round(4.37 * 2**20),
        off_chip_bytes=0,
    )
    arguments = (tmp_path / "bin" / "arguments").read_text()
    for part in ("--show_operations", "--timeout_sec 99", "--min_runtime_version 13"):
        assert part in arguments
    assert (tmp_path / "out" / "x.txt").read_text().strip() == stand_ins.SUCCESS.strip()
    assert Model.load(tmp_path / "out" / "x_edgetpu.tflite").darwinn_packages == 1
    assert re.search(r"x_edgetpu\.tflite has the same weights: ([\d,]+) of \1 bytes", caplog.text)


def test_a_model_that_is_mapped_in_part_is_refused_unless_allowed(extractor: Path, tmp_path: Path):
    program = stand_ins.edgetpu_compiler(tmp_path / "bin", stand_ins.PARTLY)
    with pytest.raises(UserError, match=r"only part(.|\n)*5 CONV_2D(.|\n)*allow_cpu_operators"):
        compile_with(extractor, program)
    assert not (tmp_path / "out" / "x_edgetpu.tflite").exists()
    report = compile_with(extractor, program, allow_cpu_operators=True)
    assert report.operators_mapped == 23
    assert report.operators_on_cpu == {"CONV_2D": 5, "TFLite_Detection_PostProcess": 1}


def test_a_model_of_which_nothing_is_mapped_is_refused(extractor: Path, tmp_path: Path):
    program = stand_ins.edgetpu_compiler(tmp_path / "bin", stand_ins.NOTHING, compiles=False)
    with pytest.raises(UserError, match="mapped nothing of"):
        compile_with(extractor, program)


STARTED = "Started a compilation timeout timer of 180 seconds.\n"
ENDED = "Compilation child process completed within timeout period.\nCompilation failed!"


# As users of the real compiler report it in google-coral/edgetpu's issues.
@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version of "
            "this builtin might be supported.\nInvalid model: x.tflite\nModel could not be parsed",
            "the operator CONV_2D in version 6",
        ),
        ("Invalid model: x.tflite\nModel not quantized", "not fully quantized"),
        ("Internal compiler error. Aborting!", "use another backbone"),
        (
            f"{STARTED}Compilation timeout. This is usually caused by large activations.\n"
            "Compilation failed!",
            "longer than compiler.timeout",
        ),
        (
            f"{STARTED}Compilation failed: Compilation failed due to large activation tensors in "
            f"model.\n{ENDED}",
            "does not fit the Edge TPU's memory",
        ),
        (f"{STARTED}ERROR: Encountered unresolved custom op: Atan.\n{ENDED}", "the operator Atan"),
        (
            f"{STARTED}ERROR: Attempting to use a delegate that only supports static-sized tensors "
            f"with a graph that has dynamic-sized tensors.\n{ENDED}",
            "tensors of variable shape",
        ),
        (f"{STARTED}{ENDED}", r"could not compile .*\.\nIts output:\n"),
        ("Segmentation fault", "Its output:\n  Segmentation fault"),
    ],
)
def test_failures_say_what_to_do(extractor: Path, tmp_path: Path, printed, message):
    program = stand_ins.edgetpu_compiler(tmp_path / "bin", printed, exit_code=1)
    with pytest.raises(UserError, match=message) as error:
        compile_with(extractor, program)
    assert printed.splitlines()[-1] in str(error.value)
    assert not (tmp_path / "out" / "x_edgetpu.tflite").exists()


def test_a_file_that_is_written_damaged_is_refused(extractor: Path, tmp_path: Path):
    program = stand_ins.edgetpu_compiler(tmp_path / "bin", compiles=False)
    broken = program.read_text().replace("(content)", "(content[:999])")
    program.write_text(broken)
    with pytest.raises(UserError, match=r"^extractor_edgetpu\.tflite is a damaged"):
        compile_with(extractor, program)
    assert not (tmp_path / "out" / "x_edgetpu.tflite").exists()


def test_what_claims_to_be_compiled_is_looked_into(extractor: Path, tmp_path: Path):
    program = stand_ins.edgetpu_compiler(tmp_path / "1", compiles=False)
    with pytest.raises(UserError, match="no operator with a DarwiNN package"):
        compile_with(extractor, program)
    program = stand_ins.edgetpu_compiler(tmp_path / "2", other_output=True)
    with pytest.raises(UserError, match="differs in input, output or quantization"):
        compile_with(extractor, program)
    program = stand_ins.edgetpu_compiler(tmp_path / "3", on_cpu=True)
    with pytest.raises(
        UserError, match=r"only partly compiled: its operators are edgetpu-custom-op, RESHAPE"
    ):
        compile_with(extractor, program)
    compile_with(extractor, program, allow_cpu_operators=True)


def test_a_version_that_is_too_new_is_seen_before_the_compiler_starts(
    extractor: Path, tmp_path: Path
):
    def change(model: schema.ModelT) -> None:
        for code in model.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.CONV_2D:
                code.version = 6

    extractor.write_bytes(look.changed(extractor.read_bytes(), change))
    program = stand_ins.edgetpu_compiler(tmp_path / "bin")
    with pytest.raises(UserError, match=r"CONV_2D in version 6.*up to version 5"):
        compile_with(extractor, program)
    assert not (tmp_path / "bin" / "arguments").exists()


@pytest.mark.parametrize(
    ("here", "reason"), [(False, "not available for this machine"), (True, "config .* has none")]
)
def test_without_a_compiler_the_ways_out_are_named(
    extractor: Path, tmp_path: Path, monkeypatch, here, reason
):
    monkeypatch.setattr(compiler, "can_run_here", lambda: here)
    with pytest.raises(UserError, match=reason) as error:
        compile_with(extractor, None)
    assert "compiled: PATH" in str(error.value)
    assert "retrained_model.tflite" in str(error.value)
    with pytest.raises(UserError, match=r"none cannot be run: No such file.*compiler\.path"):
        compile_with(extractor, tmp_path / "none")


def test_where_the_compiler_is(tmp_path: Path, monkeypatch):
    """That of the configuration goes before one on PATH, that before one to be downloaded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    source = {"sources": [{"url": "http://a", "md5": "0" * 32}]}

    def find(settings: dict) -> str | None:
        return compiler.find(Compiler(**settings), "there")

    monkeypatch.setattr(compiler, "can_run_here", lambda: True)
    assert find({"path": "~/x", **source}) == f"{tmp_path}/x"
    assert find(source) == "there/usr/bin/edgetpu_compiler"
    assert find({"sources": []}) is None
    monkeypatch.setattr(compiler, "can_run_here", lambda: False)
    assert find(source) is None
    program = stand_ins.edgetpu_compiler(tmp_path)
    assert find(source) == str(program)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_compiler_that_does_not_end_is_ended_with_what_it_started(
    extractor: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(compiler, "_GRACE_SECONDS", 0)
    program = tmp_path / "edgetpu_compiler"
    program.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match=r"longer than compiler\.timeout"):
        compile_with(extractor, program, timeout=3)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_a_compiler_that_crashes(extractor: Path, tmp_path: Path):
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match=r"\(terminated by SIGSEGV\)"):
        compile_with(extractor, program)


# Laid out as the real package: a script that finds its program beside itself.
PROGRAM_FILES = {
    "./usr/bin/edgetpu_compiler": b'#!/bin/sh\n"$(dirname "$0")"/edgetpu_compiler_bin/program\n',
    "./usr/bin/edgetpu_compiler_bin/program": b"#!/bin/sh\necho a stand-in\n",
}


def tar(compression: str, contents: dict[str, bytes] = PROGRAM_FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def debian_package(data: bytes) -> bytes:
    members = (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), ("data.tar.xz", data))
    package = b"!<arch>\n"
    for name, content in members:
        header = f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        package += header.encode() + content + b"\n" * (len(content) % 2)
    return package


@pytest.mark.parametrize("kind", ["deb", "tar.gz"])
def test_the_compiler_is_fetched_and_runs_where_it_is_unpacked(tmp_path: Path, serve, kind):
    package = debian_package(tar("xz")) if kind == "deb" else tar("gz")
    address, checksums = serve({"/package": package})
    sources = [
        {"url": f"{address}/gone", "md5": "0" * 32},
        {"url": f"{address}/package", "md5": checksums["/package"]},
    ]
    compiler.fetch(sources, tmp_path / "compiler")
    program = tmp_path / "compiler" / "usr" / "bin" / "edgetpu_compiler"
    assert os.popen(str(program)).read() == "a stand-in\n"


def test_a_package_of_something_else(tmp_path: Path, serve):
    address, sums = serve({"/odd": tar("gz", {"./usr/bin/other": b""}), "/text": b"not found"})
    sources = [{"url": f"{address}/{name}", "md5": sums[f"/{name}"]} for name in ("odd", "text")]
    with pytest.raises(UserError) as error:
        compiler.fetch(sources, tmp_path / "compiler")
    assert "/odd: the package does not contain usr/bin/edgetpu_compiler\n" in str(error.value)
    assert "/text: the package is damaged: file could not be opened success" in str(error.value)
    assert not (tmp_path / "compiler").exists()


def test_when_no_source_answers_each_is_named(tmp_path: Path, serve):
    address, _ = serve({"/package": b"something else"})
    sources = [
        {"url": f"{address}/gone", "sha256": "0" * 64},
        {"url": f"{address}/package", "sha256": "0" * 64},
    ]
    with pytest.raises(UserError, match="edgetpu_compiler could not be downloaded") as error:
        compiler.fetch(sources, tmp_path / "compiler")
    assert f"{address}/gone: the server responded with 404" in str(error.value)
    assert f"{address}/package: its SHA-256 is" in str(error.value)
    assert "compiled: PATH" in str(error.value)
    assert not (tmp_path / "compiler").exists()
