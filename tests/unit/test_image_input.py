"""Networks whose input or output is not what the Edge TPU takes, as people have them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.backbone.kinds import Classifier, Extractor, FloatClassifier, KerasModel
from edgetpu_retrain.backbone.quantize.quantization import Normalization, quantize
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.float_network import first_layer
from edgetpu_retrain.tflite.model import Model
from tests import models as look

ROOT = Path(__file__).parents[2]


def pictures(count: int = 3) -> np.ndarray:
    """RGB pictures [N, 16, 16, 3]: smooth, so that grey of them is not grey throughout."""
    small = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(s).resize((16, 16))) for s in small])


def brightness(picture: np.ndarray) -> np.ndarray:
    """[16, 16, 1] uint8, as Pillow has it."""
    return np.asarray(Image.fromarray(picture).convert("L"))[:, :, np.newaxis]


def pooled(content: bytes, values: np.ndarray) -> np.ndarray:
    """What a network's pool gives, by the runtime."""
    model = look.unpack(content)
    (index,) = (
        op.outputs[0]
        for op, (name, _) in zip(model.subgraphs[0].operators, look.operators(model), strict=True)
        if name == "MEAN"
    )
    runtime = look.runtime(content, "reference", experimental_preserve_all_tensors=True)
    look.invoke(runtime, values)
    return runtime.get_tensor(index).ravel()


def test_a_grey_quantized_network_with_float_ends(float_networks: Path, tmp_path: Path):
    """It takes RGB bytes, and gives what it gives for the brightness of them."""
    content = (float_networks / "grey_int8.tflite").read_bytes()
    out = tmp_path / "extractor.tflite"
    Classifier.make_extractor(float_networks / "grey_int8.tflite", out, None, 0, 255, None)
    kinds = [name for name, _ in look.operators(look.unpack(out.read_bytes()))]
    assert kinds == ["QUANTIZE", "CONV_2D", "CONV_2D", "MEAN"]
    model = Interpreter(out, "cpu")
    assert model.input_size == (16, 16)
    for picture in pictures():
        grey = brightness(picture)
        found = model.run(picture).astype(int)
        wanted = pooled(content, grey.astype(np.float32) / 255).astype(int)
        # Its weights of the three colours differ from Pillow's by 0.002 at most.
        np.testing.assert_allclose(found, wanted, atol=2)
        assert np.ptp(wanted) > 20
        # Grey in three channels is the same grey.
        found = model.run(np.repeat(grey, 3, axis=2)).astype(int)
        np.testing.assert_allclose(found, wanted, atol=1)


def test_a_grey_float_network_is_quantized(float_networks: Path, tmp_path: Path):
    content = (float_networks / "grey.tflite").read_bytes()
    extractor, out = tmp_path / "float.tflite", tmp_path / "quantized.tflite"
    FloatClassifier.make_extractor(float_networks / "grey.tflite", extractor, 8, None)
    scaling = Normalization(0, 255)
    quantize(extractor, out, pictures(20), scaling)
    model = Interpreter(out, "cpu")
    for picture in pictures():
        wanted = pooled(content, brightness(picture).astype(np.float32) / 255)
        np.testing.assert_allclose(model.scores(picture), wanted, atol=0.03 * np.ptp(wanted))
    # The layer that makes grey of RGB says nothing about the scaling of pixels.
    assert first_layer(Model.load(extractor)).outputs[0].shape == (1, 7, 7, 8)


def test_an_extractor_with_float_ends(made: Path, float_networks: Path, tmp_path: Path):
    """As TensorFlow quantizes where nothing is said of the ends."""

    def cut(model) -> None:
        graph = model.subgraphs[0]
        dequantize = graph.operators[-1]
        dequantize.inputs = graph.operators[2].outputs
        graph.tensors[dequantize.outputs[0]].shape = [1, 8]
        graph.operators = [*graph.operators[:3], dequantize]
        model.signatureDefs = None

    content = look.changed((float_networks / "grey_int8.tflite").read_bytes(), cut)
    (tmp_path / "x.tflite").write_bytes(content)
    Extractor.make_extractor(tmp_path / "x.tflite", tmp_path / "out.tflite", 8, 0, 255)
    (output,) = Model.load(tmp_path / "out.tflite").outputs
    assert (output.dtype, output.shape) == ("int8", (1, 8))


def test_channels_first_are_named(float_networks: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"(?s)\[1, 3, 16, 16\].*channels come first.*onnx2tf"):
        FloatClassifier.make_extractor(
            float_networks / "channels_first.tflite", tmp_path / "x.tflite", None, None
        )


@pytest.mark.parametrize(
    ("kind", "name"), [(KerasModel, "two.keras"), (FloatClassifier, "two.tflite")]
)
def test_two_outputs_need_a_tensor(float_networks: Path, tmp_path: Path, kind, name: str):
    network, out = float_networks / name, tmp_path / "extractor.tflite"
    with pytest.raises(UserError, match=r"has 2 outputs.*set the backbone's tensor") as refused:
        kind.make_extractor(network, out, None, None)
    tensor = next(line.split("'")[1] for line in str(refused.value).splitlines() if "MEAN" in line)
    kind.make_extractor(network, out, 8, tensor)
    assert [n for n, _ in look.operators(look.unpack(out.read_bytes()))] == ["CONV_2D", "MEAN"]


def test_a_detector_is_no_classifier(float_networks: Path, made: Path, tmp_path: Path):
    """Named by the program of this project and by that of the bundle."""

    def as_of_yolo(model) -> None:
        graph = model.subgraphs[0]
        graph.operators = graph.operators[:1]
        graph.outputs = graph.operators[0].outputs
        model.signatureDefs = None

    detector = tmp_path / "detector.tflite"
    detector.write_bytes(look.changed((made / "classifier.tflite").read_bytes(), as_of_yolo))
    Image.fromarray(pictures()[0]).save(tmp_path / "photo.png")
    ours = [ROOT / "scripts/classify_image.py", "--input", tmp_path / "photo.png"]
    library = ROOT / "edgetpu_retrain"
    names = ("deploy/bundle/*.py", "photos/file_kinds.py", "photos/jpeg_header.py")
    for path in (path for name in names for path in library.glob(name)):
        shutil.copy(path, tmp_path)
    bundle = [tmp_path / "classify.py", tmp_path / "photo.png"]
    for program in (ours, bundle):
        for model in (detector, float_networks / "two.tflite"):
            done = subprocess.run(
                [sys.executable, *map(str, program), "--model", str(model), "--device", "cpu"],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 1
            assert "PyCoral's detect_image.py" in done.stderr, done.stderr
            assert "Traceback" not in done.stderr
