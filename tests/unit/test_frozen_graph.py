from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import UserError, frozen_graph
from edgetpu_retrain.interpreter import Interpreter

SAMPLE = Path(__file__).parents[2] / "workflow/sample/mobilenet_v1_0.25_96_quant_frozen.pb"
POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"


def truncate(graph: Path, output: Path, tensor: str = POOL) -> None:
    frozen_graph.truncate(graph, output, "input", tensor, 128, 128)


def test_the_published_extractor_bit_for_bit(models: Path, photos: Path, tmp_path: Path):
    name = "mobilenet_v1_1.0_224_quant"
    truncate(models / f"{name}_frozen.pb", tmp_path / "cut.tflite")
    cut = Interpreter(tmp_path / "cut.tflite", "cpu")
    published = Interpreter(models / f"{name}_embedding_extractor.tflite", "cpu")
    assert cut.quantization == published.quantization
    for path in sorted(photos.glob("*/*.jpg"))[::40]:
        with Image.open(path) as photo:
            assert np.array_equal(cut.run(photo), published.run(photo))


def test_the_sample_s_backbone(tmp_path: Path):
    assert SAMPLE.stat().st_size <= 2_000_000
    truncate(SAMPLE, tmp_path / "cut.tflite")
    cut = Interpreter(tmp_path / "cut.tflite", "cpu")
    assert (cut.input_size, cut.output_size) == ((96, 96), 256)
    assert cut.output_dtype == np.uint8


def test_a_wrong_tensor_leaves_nothing(tmp_path: Path):
    with pytest.raises(UserError, match=r"could not cut .* at 'Nowhere'"):
        truncate(SAMPLE, tmp_path / "cut.tflite", "Nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_graph_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.pb: there is no such frozen graph"):
        truncate(tmp_path / "none.pb", tmp_path / "cut.tflite")


def test_no_converter_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match="tflite_convert is not installed"):
        truncate(SAMPLE, tmp_path / "cut.tflite")
