import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import stderr
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.runtime import interpreter
from edgetpu_retrain.runtime.interpreter import Interpreter


@pytest.fixture
def extractor(made: Path) -> Path:
    return made / "extractor.tflite"


@pytest.fixture
def compiled(made: Path) -> Path:
    return made / "extractor_edgetpu.tflite"


def check_against_runtime(model: Path, pixels: np.ndarray) -> Interpreter:
    """The values of the TFLite runtime called as its documentation says."""
    runtime = interpreter._runtime()[0](model_path=str(model))
    runtime.allocate_tensors()
    runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels[np.newaxis])
    runtime.invoke()
    expected = runtime.get_tensor(runtime.get_output_details()[0]["index"])
    found = Interpreter(model, "cpu")
    assert np.array_equal(found.run(pixels), expected.ravel())
    assert (found.output_size, found.output_dtype) == (expected.size, expected.dtype)
    return found


def test_the_runtime_s_own_result(extractor: Path, sample_photos: Path):
    path = next(sample_photos.glob("*/*.jpg"))
    with Image.open(path) as image:
        model = check_against_runtime(extractor, np.asarray(image.resize((96, 96))))
    assert model.input_size == (96, 96)
    assert model.quantization.scale == pytest.approx(6 / 255)


def test_the_runtime_s_own_result_of_a_published_model(models: Path, shared: Path):
    with Image.open(shared / "data" / "sunflower.bmp") as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.NEAREST))
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
    model = check_against_runtime(models / name, pixels)
    assert (model.input_size, model.output_size) == ((224, 224), 1024)
    # Scale and zero point as the facts about the published file have them.
    assert model.quantization.scale == pytest.approx(0.02352848)
    assert model.quantization.zero_point == 0
    assert model.output_dtype == np.uint8


def test_a_float_classifier_gets_its_pixels_from_minus_one_to_one(made: Path, sample_photos: Path):
    model = Interpreter(made / "float.tflite", "cpu")
    with Image.open(next(sample_photos.glob("*/*.jpg"))) as image:
        pixels = preprocessing.to_pixels(image, model.input_size)
    scores = model.scores(pixels)
    assert scores.dtype == np.float32
    assert scores.sum() == pytest.approx(1, abs=1e-4)
    # Its quantized twin is sure of the same.
    assert scores.argmax() == Interpreter(made / "int8.tflite", "cpu").scores(pixels).argmax()


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_compiled_model_without_an_edge_tpu_names_its_twin(
    no_library, compiled: Path, extractor: Path, tmp_path: Path, device
):
    with pytest.raises(UserError, match="compiled for the Edge TPU") as error:
        Interpreter(shutil.copy(compiled, tmp_path / "model_edgetpu.tflite"), device)
    assert "the model that is not compiled" in str(error.value)
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
def test_what_is_not_a_model_is_refused(tmp_path: Path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.tflite is not a TFLite model"):
        Interpreter(path, "cpu")


@pytest.mark.skipif(
    interpreter._runtime()[0].__module__.startswith("tflite_runtime"),
    reason="tflite-runtime does not verify a file: a damaged model can crash it",
)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_model_that_was_cut_short_is_refused(tmp_path: Path, made: Path, kept):
    content = (made / "classifier.tflite").read_bytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"model\.tflite (cannot be loaded|is a damaged)"):
        Interpreter(path, "cpu")


def test_a_model_that_is_not_compiled_runs_on_no_edge_tpu(stand_in_library, extractor: Path):
    with pytest.raises(UserError, match="not compiled for the Edge TPU, so it cannot run on 'usb'"):
        Interpreter(extractor, "usb")
    with pytest.raises(UserError, match=r"'gpu' is not a device. Use auto, cpu"):
        Interpreter(extractor, "gpu")
    assert Interpreter(extractor, "auto").output_size == 256


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"missing\.tflite does not exist"):
        Interpreter(tmp_path / "missing.tflite")


def test_the_runtime_s_notice_is_dropped_and_its_errors_are_not(made: Path, capfd):
    Interpreter(made / "classifier.tflite", "cpu")
    assert capfd.readouterr().err == ""
    with stderr.without(lambda line: line == interpreter._NOTICE):
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: damaged\n")
    assert capfd.readouterr().err == "ERROR: damaged\n"
