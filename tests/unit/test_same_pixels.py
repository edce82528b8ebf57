"""The network sees a photo as the same pixels when it embeds, calibrates and evaluates."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.backbone.quantize import quantized_extractor
from edgetpu_retrain.embeddings import embed
from edgetpu_retrain.evaluation import evaluate
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.runtime.interpreter import Quantization

SIZE = (32, 32)


class Recorder:
    """A stand-in for a model: it keeps what it is given."""

    input_size = SIZE
    output_size, output_dtype = 2, np.dtype(np.uint8)
    quantization, on_edge_tpu = Quantization(1.0, 0), False
    seen: list[np.ndarray]

    def __init__(self, *arguments: object) -> None:
        pass

    def run(self, pixels: np.ndarray) -> np.ndarray:
        Recorder.seen.append(pixels.copy())
        return np.array([1, 0], np.uint8)


@pytest.fixture
def flowers(photos: Path, tmp_path: Path) -> list[Path]:
    for label in ("daisy", "roses"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:3]:
            (tmp_path / "photos" / label / path.name).write_bytes(path.read_bytes())
    return sorted((tmp_path / "photos").glob("*/*"))


@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
def test_every_stage_decodes_alike(flowers: list[Path], tmp_path: Path, monkeypatch, resize):
    expected = []
    for path in flowers:
        with Image.open(path) as image:
            if resize == "bilinear":
                # At a fraction of its size, of which 1.5 times the network's remain.
                image.draft("RGB", (48, 48))
                assert max(image.size) < 300
            how = Image.Resampling[resize.upper()]
            expected.append(np.asarray(image.convert("RGB").resize(SIZE, how)))
    listed = [Photo(str(path), path.parent.name, "train", files.sha256(path)) for path in flowers]
    by_identity = {photo.sha256: photo for photo in listed}

    calibrated, _ = quantized_extractor._read(by_identity, by_identity, SIZE, resize)
    assert np.array_equal(calibrated, expected)

    monkeypatch.setattr(evaluate, "Interpreter", Recorder)
    Recorder.seen = []
    classes = ("daisy", "roses")
    evaluate._predict_folder("", tmp_path / "photos", classes, "cpu", resize, lambda *found: None)
    assert np.array_equal(Recorder.seen, expected)

    monkeypatch.setattr(embed, "Interpreter", Recorder)
    Recorder.seen = []
    shard = {photo.sha256: photo.path for photo in listed}
    embed.embed(shard, flowers[0], "cpu", resize)
    assert np.array_equal(Recorder.seen, expected)
