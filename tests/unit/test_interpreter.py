import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import UserError, interpreter
from edgetpu_retrain.interpreter import Interpreter, list_edge_tpus, resolve_device

# A stand-in for libedgetpu: it lists a PCIe and two USB devices, and makes no delegate.
STAND_IN_LIBRARY = """
#include <stddef.h>
struct device { int type; const char *path; };
static struct device devices[] = {{1, "/sys/a"}, {0, "/dev/apex_0"}, {1, "/sys/b"}};
struct device *edgetpu_list_devices(size_t *count) { *count = 3; return devices; }
void edgetpu_free_devices(struct device *d) {}
void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*report)(const char *)) {
    return NULL;
}
void tflite_plugin_destroy_delegate(void *d) {}
"""


@pytest.fixture
def stand_in_library(tmp_path: Path, monkeypatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler to make the stand-in for libedgetpu")
    (tmp_path / "edgetpu.c").write_text(STAND_IN_LIBRARY)
    library = tmp_path / "libedgetpu.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "edgetpu.c"], check=True)
    monkeypatch.setattr(interpreter, "_library_name", lambda: str(library))


@pytest.fixture
def no_library(monkeypatch) -> None:
    monkeypatch.setattr(interpreter, "_library_name", lambda: "libedgetpu-that-is-not-there.so")


@pytest.fixture
def extractor(models: Path) -> Path:
    return models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"


@pytest.fixture
def compiled(models: Path) -> Path:
    return models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"


def test_the_runtime_s_own_result(extractor: Path, shared: Path):
    """The values of the TFLite runtime called as its documentation says."""
    with Image.open(shared / "data" / "sunflower.bmp") as image:
        photo = image.convert("RGB")
    runtime = interpreter._runtime()[0](model_path=str(extractor))
    runtime.allocate_tensors()
    pixels = np.asarray(photo.resize((224, 224), Image.Resampling.NEAREST))[np.newaxis]
    runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels)
    runtime.invoke()
    expected = runtime.get_tensor(runtime.get_output_details()[0]["index"])

    model = Interpreter(extractor, "cpu")
    assert np.array_equal(model.run(photo), expected.ravel())
    assert (model.input_size, model.output_size) == ((224, 224), 1024)
    # Scale and zero point as the facts about the published file have them.
    assert model.quantization.scale == pytest.approx(0.02352848)
    assert model.quantization.zero_point == 0
    assert model.output_dtype == np.uint8


def test_no_library_is_no_edge_tpu(no_library):
    assert list_edge_tpus() == []
    assert resolve_device("auto") == "cpu"


def test_devices_of_the_edge_tpu_library(stand_in_library):
    assert list_edge_tpus() == ["usb:0", "usb:1", "pci:0"]
    assert resolve_device("auto") == "usb:0"
    assert resolve_device("pci") == "pci"


def test_the_real_pycoral_is_asked(no_library, monkeypatch):
    edgetpu = types.ModuleType("pycoral.utils.edgetpu")
    edgetpu.list_edge_tpus = lambda: [{"type": "pci", "path": "/dev/apex_0"}]
    for name in ("pycoral", "pycoral.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "pycoral.utils.edgetpu", edgetpu)
    assert list_edge_tpus() == ["pci:0"]


def test_the_impostor_pycoral_is_not_asked(stand_in_library, monkeypatch):
    # The package of this name on PyPI is about coral reefs and has no pycoral.utils.
    monkeypatch.setitem(sys.modules, "pycoral", types.ModuleType("pycoral"))
    assert list_edge_tpus() == ["usb:0", "usb:1", "pci:0"]


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_compiled_model_without_an_edge_tpu_names_its_twin(
    no_library, compiled: Path, extractor: Path, tmp_path: Path, device
):
    with pytest.raises(UserError, match="compiled for the Edge TPU") as error:
        Interpreter(shutil.copy(compiled, tmp_path / "model_edgetpu.tflite"), device)
    assert "a model that is not compiled" in str(error.value)
    twin = shutil.copy(extractor, tmp_path / "model.tflite")
    with pytest.raises(UserError) as error:
        Interpreter(tmp_path / "model_edgetpu.tflite", device)
    assert str(twin) in str(error.value)


def test_an_edge_tpu_that_is_not_there_gives_likely_causes(no_library, compiled: Path):
    with pytest.raises(UserError, match="'usb:1' cannot be used") as error:
        Interpreter(compiled, "usb:1")
    for cause in ("not installed", "Frigate", "plugdev", "USB 2"):
        assert cause in str(error.value)


def test_a_device_that_is_listed_but_refuses(stand_in_library, compiled: Path):
    with pytest.raises(UserError, match=r"finds these devices.*usb:0, usb:1, pci:0"):
        Interpreter(compiled, "usb:7")


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\3\4" + b"\xff" * 99])
def test_what_is_no_model_is_refused(tmp_path: Path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.tflite is not a TFLite model"):
        Interpreter(path, "cpu")


@pytest.mark.skipif(
    interpreter._runtime()[0].__module__.startswith("tflite_runtime"),
    reason="tflite-runtime does not verify a file: a damaged model can crash it",
)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_model_that_was_cut_short_is_refused(tmp_path: Path, models: Path, kept):
    content = (models / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"model\.tflite cannot be loaded"):
        Interpreter(path, "cpu")


def test_a_model_that_is_not_compiled_runs_on_no_edge_tpu(stand_in_library, extractor: Path):
    with pytest.raises(UserError, match="not compiled for the Edge TPU, so it cannot run on 'usb'"):
        Interpreter(extractor, "usb")
    with pytest.raises(UserError, match="'gpu' is no device: use auto, cpu"):
        Interpreter(extractor, "gpu")
    assert Interpreter(extractor, "auto").output_size == 1024


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"missing\.tflite: there is no such model"):
        Interpreter(tmp_path / "missing.tflite")
