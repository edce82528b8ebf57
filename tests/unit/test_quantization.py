"""Quantized extractors against the float ones that they are made of."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from edgetpu_retrain.backbone.quantize import (
    calibration,
    first_layer,
    quantization_check,
    quantized_extractor,
)
from edgetpu_retrain.backbone.quantize.quantization import Normalization, quantize
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.float_network import float_extractor
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import cut_reason
from tests import models as look
from tests.pictures import resized

RGB = Normalization(128, 128)


@pytest.fixture(scope="module")
def manifest(sample_photos: Path) -> list[Photo]:
    found = []
    for path in sorted(sample_photos.glob("*/*.jpg"))[::3]:
        sha256 = files.sha256(path)
        split = "test" if sha256 < "8" else "train"
        found.append(Photo(str(path), path.parent.name, split, sha256))
    return found


@pytest.fixture(scope="module")
def extractor(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "extractor.tflite"
    float_extractor(Model.load(made / "float.tflite")).save(path)
    return path


@pytest.fixture(scope="module")
def quantized(extractor: Path, manifest: list[Photo]) -> Path:
    """The extractor quantized on 20 photos, and the report on it beside it."""
    path = extractor.with_name("quantized.tflite")
    chosen = calibration.choose_for_calibration(manifest, 20)
    report = extractor.with_name("quantization.json")
    quantized_extractor.make(extractor, manifest, chosen, path, report, 128, 128)
    return path


def embed(model: Path, pixels: np.ndarray) -> np.ndarray:
    """Real embeddings [N, D] by the runtime, of raw bytes or of what the float network takes."""
    runtime = look.runtime(model.read_bytes())
    real = runtime.get_input_details()[0]["dtype"] == np.float32
    scale, zero_point = runtime.get_output_details()[0]["quantization"]
    values = (pixels.astype(np.float32) - 128) / 128 if real else pixels
    found = np.stack([look.invoke(runtime, one).ravel() for one in values]).astype(np.float32)
    return found if real else (found - zero_point) * scale


def test_it_is_near_to_the_float_one_and_quantized_throughout(
    extractor: Path, quantized: Path, manifest: list[Photo], made: Path
):
    model = look.unpack(quantized.read_bytes())
    types = {tensor.type for tensor in model.subgraphs[0].tensors}
    assert 0 not in types  # FLOAT32
    # TensorFlow's own converter, on the same network.
    expected = dict(look.operators(look.unpack((made / "int8.tflite").read_bytes())))
    found = look.operators(model)
    assert found[0] == ("QUANTIZE", 1)
    assert dict(found).items() <= expected.items()
    tests = [photo for photo in manifest if photo.split == "test"]
    pixels = np.stack([resized(photo.path, 96, "bilinear") for photo in tests])
    cosines = np.diag(cosine_similarity(embed(extractor, pixels), embed(quantized, pixels)))
    assert cosines.min() > 0.99
    report = json.loads(quantized.with_name("quantization.json").read_text())
    assert report["calibrated_on"] == 20
    assert report["check"]["photos"] == len(manifest) - 20
    assert report["check"]["cosine"] == pytest.approx(cosines.mean(), abs=2e-3)
    assert report["check"]["float_accuracy"] > 0.6
    assert report["warnings"] == []
    layers = report["check"]["layers"]
    assert [layer["error"] for layer in layers] == sorted(
        (layer["error"] for layer in layers), reverse=True
    )


def test_raw_bytes_reach_the_network_as_they_are(quantized: Path):
    model = Model.load(quantized)
    (image,) = model.inputs
    assert (image.dtype, image.scale, image.zero_point) == ("uint8", 1 / 128, 128)
    runtime = look.runtime(
        quantized.read_bytes(), "reference", experimental_preserve_all_tensors=True
    )
    pixels = np.arange(96 * 96 * 3, dtype=np.uint8).reshape(96, 96, 3)
    look.invoke(runtime, pixels)
    seen = runtime.get_tensor(model.operators[0].outputs[0])[0]
    np.testing.assert_array_equal(seen.astype(int), pixels.astype(int) - 128)


def test_the_bias_of_a_dead_channel_is_kept(made: Path, manifest: list[Photo], tmp_path: Path):
    """ai-edge-quantizer lets it overflow: the weights' scale is too small for it."""
    network = look.unpack((made / "float.tflite").read_bytes())
    last = [op for op, (kind, _) in zip(network.subgraphs[0].operators, look.operators(network),
            strict=True) if kind == "CONV_2D"][-2]  # fmt: skip
    weights = look.values(network, last.inputs[1], np.float32).copy()
    biases = look.values(network, last.inputs[2], np.float32).copy()
    weights[7], biases[7] = 1e-12, 2.5
    for index, values in ((last.inputs[1], weights), (last.inputs[2], biases)):
        buffer = network.buffers[look.tensor(network, index).buffer]
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    (tmp_path / "network.tflite").write_bytes(look.pack(network))
    float_extractor(Model.load(tmp_path / "network.tflite")).save(tmp_path / "float.tflite")
    pixels = np.stack([resized(photo.path, 96) for photo in manifest[:4]])
    quantize(tmp_path / "float.tflite", tmp_path / "x.tflite", pixels, RGB)
    assert embed(tmp_path / "float.tflite", pixels)[:, 7] == pytest.approx(2.5)
    assert embed(tmp_path / "x.tflite", pixels)[:, 7] == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smallest", r"(?s)cannot quantize:.*MINIMUM -> .*give it as tflite"),
        ("half", r"(?s)cannot be quantized by ai-edge-quantizer:.*CONV_2D, MEAN, SPLIT"),
    ],
)
def test_what_the_quantizer_does_not_know_is_named(
    float_networks: Path, tmp_path: Path, name: str, message: str
):
    float_extractor(Model.load(float_networks / f"{name}.tflite")).save(tmp_path / "x.tflite")
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match=message):
        quantize(tmp_path / "x.tflite", tmp_path / "out.tflite", pixels, RGB)


def test_why_the_network_is_cut_there_is_kept(float_networks: Path, tmp_path: Path):
    extractor = float_extractor(Model.load(float_networks / "headed.tflite"))
    extractor.save(tmp_path / "x.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    quantize(tmp_path / "x.tflite", tmp_path / "out.tflite", pixels, RGB)
    reason = cut_reason(Model.load(tmp_path / "out.tflite"))
    assert "the pooled vector" in reason
    assert reason == cut_reason(extractor)


def test_odd_operators_are_quantized(float_networks: Path, tmp_path: Path):
    float_extractor(Model.load(float_networks / "odd.tflite")).save(tmp_path / "x.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    quantize(tmp_path / "x.tflite", tmp_path / "out.tflite", pixels, RGB)
    model = look.unpack((tmp_path / "out.tflite").read_bytes())
    assert 0 not in {tensor.type for tensor in model.subgraphs[0].tensors}
    # One scale for the weights of a fully connected layer: the compiler knows no more.
    (dense,) = [op for op, (kind, _) in zip(model.subgraphs[0].operators, look.operators(model),
            strict=True) if kind == "FULLY_CONNECTED"]  # fmt: skip
    assert len(look.tensor(model, dense.inputs[1]).quantization.scale) == 1
    cosines = cosine_similarity(
        embed(tmp_path / "x.tflite", pixels), embed(tmp_path / "out.tflite", pixels)
    )
    assert np.diag(cosines).min() > 0.98


def test_a_wrong_mean_and_std_are_pointed_out(extractor: Path, manifest: list[Photo]):
    pixels = np.stack([resized(photo.path, 96) for photo in manifest[:4]])
    right = first_layer.measure(extractor, pixels, RGB)
    assert right.warning is None
    assert (right.lowest, right.highest) == (-1, (pixels.max() / 128) - 1)
    bright = first_layer.measure(extractor, pixels, Normalization(0, 1))
    # The layer is linear before its activation; what it pads the photos with is not scaled.
    assert bright.deviation == pytest.approx(128 * right.deviation, rel=0.05)
    assert bright.saturated > 0.8
    assert "Check the backbone's mean and std" in bright.warning
    dark = first_layer.measure(extractor, pixels, Normalization(128, 128 * 128))
    assert dark.deviation == pytest.approx(right.deviation / 128, rel=1e-3)
    assert "about 1 is usual" in dark.warning


def test_a_costly_quantization_is_warned_of():
    layers = tuple(quantization_check.Layer(f"l{i}", "ADD", 0.5, 0.1) for i in range(5))
    costly = quantization_check.Check(500, 0.9, 0.8, 0.77, 0.8, layers)
    assert "costs 3.0 points" in costly.warning
    assert "l0 (ADD), l1 (ADD)" in costly.warning
    assert "quantization-aware" in costly.warning
    assert quantization_check.Check(500, 0.9, 0.8, 0.785, 0.8, layers).warning is None
    assert quantization_check.Check(3, 0.9, 0.8, None, None, layers).warning is None


def test_accuracy_is_that_of_photos_that_a_layer_has_not_seen():
    random = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 60)
    noise = random.normal(size=(120, 200))
    # A layer fits noise, but cannot foresee it.
    assert 0.3 < quantization_check.linear_accuracy(noise, labels) < 0.7
    noise[labels == "a", 0] += 30
    assert quantization_check.linear_accuracy(noise, labels) > 0.95
    assert quantization_check.linear_accuracy(noise[:60], labels[:60]) is None


def test_photos_that_are_gone_are_left_out(
    extractor: Path, manifest: list[Photo], tmp_path: Path, caplog
):
    chosen = [photo.sha256 for photo in manifest[:2]]
    output, report = tmp_path / "x.tflite", tmp_path / "x.json"
    with pytest.raises(UserError, match=r"None of the photos chosen to calibrate.*refresh: true"):
        quantized_extractor.make(extractor, manifest, ["0" * 64], output, report, 128, 128)
    assert not output.exists()
    with caplog.at_level(logging.INFO):
        quantized_extractor.make(
            extractor, manifest[:2], [*chosen, "0" * 64], output, report, 128, 128
        )
    found = json.loads(report.read_text())
    assert (found["calibrated_on"], found["check"]) == (2, None)
