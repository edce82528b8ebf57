"""The real edgetpu_compiler cannot be had here; a stand-in prints and writes what it would."""

import os
import stat
from pathlib import Path

import pytest

from edgetpu_retrain import UserError
from edgetpu_retrain.compiler import compile_model

STAND_IN = """#!/bin/sh
# A stand-in for edgetpu_compiler: "compiles" by copying a published compiled model.
while [ $# -gt 1 ]; do [ "$1" = --out_dir ] && out=$2; shift; done
echo "Edge TPU Compiler version 16.0.384591198"
{action}
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch):
    def install(action: str) -> None:
        program = tmp_path / "bin" / "edgetpu_compiler"
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN.format(action=action))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def compile_in(folder: Path) -> tuple[Path, Path]:
    output, report = folder / "out" / "x_edgetpu.tflite", folder / "out" / "x_edgetpu.txt"
    (folder / "x.tflite").write_bytes(b"model")
    compile_model(folder / "x.tflite", output, report)
    return output, report


def test_the_compiled_model_and_the_report_are_kept(stand_in, models: Path, tmp_path: Path):
    published = models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    stand_in(f'cp "{published}" "$out/x_edgetpu.tflite"; echo "Compilation succeeded!"')
    output, report = compile_in(tmp_path)
    assert output.read_bytes() == published.read_bytes()
    assert "Compilation succeeded!" in report.read_text()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ('echo "Internal compiler error. Aborting!" >&2; exit 1', "Internal compiler error"),
        ("true", "could not compile"),
        ('echo plain > "$out/x_edgetpu.tflite"', "mapped no operator"),
    ],
)
def test_failures_show_what_the_compiler_said(stand_in, tmp_path: Path, action, message):
    stand_in(action)
    with pytest.raises(UserError, match=message):
        compile_in(tmp_path)
    assert not (tmp_path / "out" / "x_edgetpu.tflite").exists()


def test_without_a_compiler_the_way_out_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"not installed(.|\n)*retrained_model\.tflite"):
        compile_in(tmp_path)
