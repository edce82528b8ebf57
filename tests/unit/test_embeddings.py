from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import UserError, dataset, embeddings, files, interpreter
from edgetpu_retrain.embeddings import Embeddings, embed


@pytest.fixture(scope="module")
def extractor(models: Path) -> Path:
    return models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"


@pytest.fixture(scope="module")
def shard(photos: Path) -> list[dataset.Photo]:
    paths = [
        path for label in ("daisy", "roses") for path in sorted((photos / label).iterdir())[:4]
    ]
    return [dataset.Photo(str(p), p.parent.name, "train", files.sha256(p)) for p in paths]


@pytest.fixture(scope="module")
def embedded(shard, extractor: Path) -> Embeddings:
    return embed(shard, extractor, "cpu")


def test_rows_are_the_photos_in_order(embedded, shard, extractor: Path):
    runtime = interpreter._runtime()[0](model_path=str(extractor))
    runtime.allocate_tensors()
    for row, photo in zip(embedded.embeddings, shard, strict=True):
        with Image.open(photo.path) as image:
            pixels = np.asarray(image.resize((224, 224), Image.Resampling.NEAREST))
        runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels[np.newaxis])
        runtime.invoke()
        output = runtime.get_tensor(runtime.get_output_details()[0]["index"])
        assert np.array_equal(row, output.ravel())
    assert embedded.labels.tolist() == ["daisy"] * 4 + ["roses"] * 4
    assert embedded.photos.tolist() == [photo.sha256 for photo in shard]
    assert embedded.extractor == files.sha256(extractor)


def test_the_file_needs_no_pickle_and_is_the_same_each_time(embedded, tmp_path: Path):
    embedded.save(tmp_path / "1.npz")
    embedded.save(tmp_path / "2.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].dtype == np.uint8
        assert arrays["embeddings"].shape == (8, 1024)
        assert arrays["scale"] == np.float32(embedded.scale)
    loaded = Embeddings.load(tmp_path / "1.npz")
    assert loaded.labels.tolist() == embedded.labels.tolist()
    assert np.array_equal(loaded.split("train")[0], embedded.split("train")[0])


def test_a_shard_may_be_empty(extractor: Path, tmp_path: Path):
    embed([], extractor, "cpu").save(tmp_path / "empty.npz")
    loaded = Embeddings.load(tmp_path / "empty.npz")
    assert loaded.embeddings.shape == (0, 1024)
    assert loaded.labels.dtype.kind == "U"


def test_known_embeddings_are_taken_over(embedded, shard, extractor: Path, monkeypatch):
    opened = []
    read = dataset.open_photo
    monkeypatch.setattr(embeddings, "open_photo", lambda p: opened.append(p) or read(p))
    part = embed(shard[:6], extractor, "cpu")
    opened.clear()
    again = embed(shard, extractor, "cpu", known=part)
    assert opened == shard[6:]
    assert np.array_equal(again.embeddings, embedded.embeddings)


def test_embeddings_of_another_extractor_are_not_taken_over(embedded, shard, models: Path):
    other = models / "mobilenet_v2_1.0_224_quant.tflite"
    again = embed(shard[:1], other, "cpu", known=embedded)
    assert again.embeddings.shape == (1, 1001)


def test_the_number_of_shards_makes_no_difference(embedded, shard, extractor: Path):
    whole = Embeddings.concatenate([embedded])
    parts = [embed(part, extractor, "cpu") for part in (shard[5:], shard[:2], shard[2:5])]
    joined = Embeddings.concatenate(parts)
    assert np.array_equal(joined.embeddings, whole.embeddings)
    assert joined.labels.tolist() == whole.labels.tolist()
    assert joined.photos.tolist() == sorted(photo.sha256 for photo in shard)


def test_a_photo_that_changed_or_went_is_named(shard, extractor: Path, tmp_path: Path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(Path(shard[0].path).read_bytes())
    photo = dataset.Photo(str(path), "daisy", "train", "0" * 64)
    with pytest.raises(UserError, match=r"photo\.jpg has changed"):
        embed([photo], extractor, "cpu")
    path.unlink()
    with pytest.raises(UserError, match=r"photo\.jpg was there a moment ago"):
        embed([photo], extractor, "cpu")
