"""The QUANTIZE in front, against the formula q = (pixel - mean) / (std * scale) + zero_point."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.raw_input import take_raw_rgb
from tests import models as look
from tests.pictures import resized

PIXELS = np.arange(256)


def formula(mean: float, std: float, scale: float, zero_point: int, low: int = 0) -> np.ndarray:
    """What the network is to be fed for every pixel value, before rounding."""
    return ((PIXELS - mean) / (std * scale) + zero_point).clip(low, low + 255)


def front_alone(content: bytes) -> bytes:
    """A model of the first operator, which must be a QUANTIZE, alone."""

    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        assert look.operators(model)[0][0] == "QUANTIZE"
        graph.operators = graph.operators[:1]
        graph.outputs = graph.operators[0].outputs
        model.signatureDefs = None

    return look.changed(content, change)


def quantized(content: bytes) -> np.ndarray:
    """What the QUANTIZE in front of a model makes of every pixel value, [256]."""
    runtime = look.runtime(front_alone(content), "reference")
    height, width, channels = runtime.get_input_details()[0]["shape"][1:]
    image = np.resize(PIXELS, (height, width, channels)).astype(np.uint8)
    return look.invoke(runtime, image).ravel()[:256].astype(int)


@pytest.mark.parametrize("name", ["scaled", "scaled_edgetpu"])
def test_raw_bytes_become_what_the_formula_gives(made: Path, name):
    """An input like the EfficientNets', for the CPU and compiled."""
    model = Model.load(made / f"{name}.tflite")
    (wanted,) = model.inputs
    assert (wanted.scale, wanted.zero_point) == (pytest.approx(0.0125), 131)
    raw = take_raw_rgb(model, mean=127, std=128)
    (found,) = raw.inputs
    assert (found.dtype, found.shape) == ("uint8", wanted.shape)
    expected = formula(127, 128, 0.0125, 131)
    # Rounded to the nearest; where two are as near, either will do.
    assert np.abs(quantized(raw.to_bytes()) - expected).max() <= 0.5 + 1e-4
    assert [op.name for op in raw.operators][1:] == [op.name for op in model.operators]


def test_both_twins_quantize_alike(made: Path):
    fronts = [
        front_alone(take_raw_rgb(Model.load(made / f"{name}.tflite"), 127, 128).to_bytes())
        for name in ("scaled", "scaled_edgetpu")
    ]
    tables = [quantized(front) for front in fronts]
    assert np.array_equal(*tables)


def test_the_extractor_gets_what_it_was_made_for(made: Path, sample_photos: Path):
    """Fed raw bytes, it gives what it gives for numbers that the formula made of them."""
    content = take_raw_rgb(Model.load(made / "scaled.tflite"), 128, 128).to_bytes()
    raw = look.runtime(content, "reference")
    by_hand = look.runtime((made / "scaled.tflite").read_bytes(), "reference")
    # Near to the same network whose input is the pixel itself, unlike what raw bytes would give.
    plain = look.runtime((made / "extractor.tflite").read_bytes(), "reference")
    table = quantized(content).astype(np.uint8)
    assert np.abs(table - formula(128, 128, 0.0125, 131)).max() <= 0.5 + 1e-4
    for path in sorted(sample_photos.glob("*/*.jpg"))[::30]:
        pixels = resized(path, 96)
        found = look.invoke(raw, pixels)
        assert np.array_equal(found, look.invoke(by_hand, table[pixels]))
        expected = look.invoke(plain, pixels).astype(int)
        near = np.abs(found - expected).mean()
        wrong = np.abs(look.invoke(by_hand, pixels) - expected).mean()
        assert near < 0.3 * wrong


def test_a_compiled_operator_behind_it_stays_byte_for_byte(made: Path):
    before = look.unpack((made / "scaled_edgetpu.tflite").read_bytes())
    raw = take_raw_rgb(Model.load(made / "scaled_edgetpu.tflite"), 127, 128)
    after = look.unpack(raw.to_bytes())
    packages = [
        bytes(model.subgraphs[0].operators[i].customOptions)
        for model, i in ((before, 0), (after, 1))
    ]
    assert packages[0] == packages[1]


@pytest.mark.parametrize(("mean", "std"), [(None, None), (128, 128), (127.5, 127.5)])
def test_an_input_that_is_the_pixel_itself_needs_nothing(made: Path, mean, std):
    model = Model.load(made / "extractor.tflite")
    if mean == 127.5:
        # As TensorFlow's converter writes inputs of -1..1.
        quantization = model.subgraph.tensors[model.subgraph.inputs[0]].quantization
        quantization.scale, quantization.zeroPoint = [1 / 127.5], [127]
    assert take_raw_rgb(model, mean, std) is model


def test_an_int8_input_gets_raw_bytes(made: Path):
    """int8 values are pixel - 128 where nothing else is said."""

    def strip(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        graph.operators = graph.operators[1:]
        graph.inputs = [graph.operators[0].inputs[0]]
        model.signatureDefs = None

    int8 = look.changed((made / "int8.tflite").read_bytes(), strip)
    model = Model.parse(int8, "x.tflite")
    assert model.inputs[0].dtype == "int8"
    raw = take_raw_rgb(model, None, None)
    assert raw.inputs[0].dtype == "uint8"
    assert np.array_equal(quantized(raw.to_bytes()), PIXELS - 128)


def test_signatures_name_the_new_input(made: Path):
    def sign(model: schema.ModelT) -> None:
        entries = []
        for name, index in (
            ("x", model.subgraphs[0].inputs[0]),
            ("y", model.subgraphs[0].outputs[0]),
        ):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), int(index)
            entries.append(entry)
        signature = schema.SignatureDefT()
        signature.signatureKey = b"serving_default"
        signature.inputs, signature.outputs = entries[:1], entries[1:]
        model.signatureDefs = [signature]

    content = look.changed((made / "scaled.tflite").read_bytes(), sign)
    raw = take_raw_rgb(Model.parse(content, "x"), 127, 128).to_bytes()
    runner = look.runtime(raw).get_signature_runner()
    image = np.zeros((1, 96, 96, 3), np.uint8)
    assert np.array_equal(runner(x=image)["y"], look.invoke(look.runtime(raw), image[0]))


def test_an_input_without_scale_is_refused(made: Path):
    def change(model: schema.ModelT) -> None:
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization = None

    content = look.changed((made / "extractor.tflite").read_bytes(), change)
    with pytest.raises(UserError, match="which has no scale and zero point"):
        take_raw_rgb(Model.parse(content, "x.tflite"), None, None)
