import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.embeddings import embed as stage
from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.embeddings.shards import EmbeddingCache, Embeddings, read_undecodable
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, preprocessing
from edgetpu_retrain.runtime.interpreter import Interpreter
from tests.shards import save_shards

try:
    from ai_edge_litert.interpreter import Interpreter as Runtime
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter as Runtime


@pytest.fixture(scope="module")
def extractor(made: Path) -> Path:
    return made / "extractor.tflite"


@pytest.fixture(scope="module")
def flowers(sample_photos: Path) -> dict[str, str]:
    """Eight photos by identity, in the order of identities."""
    paths = [
        p for label in ("daisy", "rose") for p in sorted((sample_photos / label).iterdir())[:4]
    ]
    return dict(sorted((files.sha256(path), str(path)) for path in paths))


@pytest.fixture(scope="module")
def embedded(flowers, extractor: Path) -> Embeddings:
    return embed(flowers, extractor, "cpu")


def run(model: Path, image: Image.Image, method: Image.Resampling) -> np.ndarray:
    runtime = Runtime(model_path=str(model))
    runtime.allocate_tensors()
    pixels = np.asarray(image.resize((96, 96), method))
    runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels[np.newaxis])
    runtime.invoke()
    return runtime.get_tensor(runtime.get_output_details()[0]["index"]).ravel()


@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
def test_rows_are_what_the_network_gives_for_the_photos(flowers, extractor: Path, resize: str):
    found = embed(flowers, extractor, "cpu", resize)
    assert found.photos.astype(str).tolist() == list(flowers)
    assert found.extractor == files.sha256(extractor)
    for row, path in zip(found.embeddings, flowers.values(), strict=True):
        with Image.open(path) as image:
            expected = run(extractor, image, Image.Resampling[resize.upper()])
        assert np.array_equal(row, expected)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_makes_no_difference(embedded, flowers, extractor, threads: int):
    again = embed(flowers, extractor, "cpu", num_threads=threads)
    assert np.array_equal(again.embeddings, embedded.embeddings)
    assert again.photos.tolist() == embedded.photos.tolist()


def test_one_edge_tpu_is_run_by_one_thread_at_a_time(flowers, extractor: Path, monkeypatch):
    loaded, running = [], threading.Lock()

    class Device(Interpreter):
        def __init__(self, model, device):
            super().__init__(model, "cpu")
            self.on_edge_tpu = True
            loaded.append(self)

        def run(self, pixels):
            assert running.acquire(blocking=False), "two threads in one device"
            try:
                return super().run(pixels)
            finally:
                running.release()

    expected = embed(flowers, extractor, "cpu").embeddings
    monkeypatch.setattr(stage, "Interpreter", Device)
    assert np.array_equal(embed(flowers, extractor, "usb", num_threads=4).embeddings, expected)
    assert len(loaded) == 1


def enlarged(path: str, size: tuple[int, int], folder: Path, **options) -> Path:
    target = folder / "large.jpg"
    with Image.open(path) as image:
        image.resize(size, Image.Resampling.BICUBIC).save(target, quality=90, **options)
    return target


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(flowers, extractor, tmp_path: Path):
    large = enlarged(next(iter(flowers.values())), (3000, 2000), tmp_path)
    content = large.read_bytes()
    size = (96, 96)
    small = decode.read_photo(content, preprocessing.min_decoded_side(size))
    assert small.size == (375, 250)
    with Image.open(large) as image:
        whole = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).astype(int)
        expected = run(extractor, image, Image.Resampling.BILINEAR).astype(int)
    pixels = preprocessing.to_pixels(small, size).astype(int)
    assert np.abs(pixels - whole).mean() < 1
    (row,) = embed({files.sha256(large): str(large)}, extractor, "cpu").embeddings.astype(int)
    centred = row - row.mean(), expected - expected.mean()
    assert centred[0] @ centred[1] / np.prod([np.linalg.norm(v) for v in centred]) > 0.99


def test_a_large_jpeg_is_upright_and_no_smaller_than_asked_for(flowers, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter to the right
    path = enlarged(next(iter(flowers.values())), (1200, 700), tmp_path, exif=exif)
    assert decode.read_photo(path.read_bytes(), min_side=175).size == (175, 300)
    assert decode.read_photo(path.read_bytes(), min_side=176).size == (350, 600)
    assert decode.read_photo(path.read_bytes(), min_side=701).size == (700, 1200)


def test_nearest_takes_pixels_of_the_whole_photo(flowers, extractor: Path, tmp_path: Path):
    large = enlarged(next(iter(flowers.values())), (1500, 1200), tmp_path)
    (row,) = embed({files.sha256(large): str(large)}, extractor, "cpu", "nearest").embeddings
    with Image.open(large) as image:
        assert np.array_equal(row, run(extractor, image, Image.Resampling.NEAREST))


def test_the_file_needs_no_pickle_and_is_the_same_each_time(embedded, tmp_path: Path):
    embedded.save(tmp_path / "1.npz")
    embedded.save(tmp_path / "2.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].dtype == np.uint8
        assert arrays["embeddings"].shape == (8, 256)
        assert arrays["scale"] == np.float32(embedded.scale)
        # Neither classes nor splits: they stand in the manifest.
        assert not {"labels", "splits", "classes"} & set(arrays.files)
    loaded = Embeddings.load(tmp_path / "1.npz")
    for name in vars(embedded):
        assert np.array_equal(getattr(loaded, name), getattr(embedded, name)), name


def test_a_file_of_an_earlier_version_is_named(tmp_path: Path):
    np.savez(tmp_path / "x.npz", embeddings=np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"x\.npz is damaged"):
        Embeddings.load(tmp_path / "x.npz")


def test_a_file_cut_short_is_named(embedded, tmp_path: Path):
    embedded.save(tmp_path / "1.npz")
    content = (tmp_path / "1.npz").read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "1.npz").write_bytes(content[:size])
        with pytest.raises(UserError, match=r"1\.npz is damaged"):
            Embeddings.load(tmp_path / "1.npz")


def test_a_shard_may_be_empty(embedded, extractor: Path, tmp_path: Path):
    embed({}, extractor, "cpu").save(tmp_path / "empty.npz")
    loaded = Embeddings.load(tmp_path / "empty.npz")
    assert loaded.embeddings.shape == (0, 256)
    assert loaded.reasons.dtype.kind == "U"


def part_of(flowers: dict[str, str], rows: slice) -> dict[str, str]:
    return dict(list(flowers.items())[rows])


def test_earlier_embeddings_are_taken_over(embedded, flowers, extractor: Path, monkeypatch):
    opened = []
    read = decode.read_content
    monkeypatch.setattr(
        stage, "read_content", lambda path, *rest: opened.append(path) or read(path, *rest)
    )
    part = embed(part_of(flowers, slice(6)), extractor, "cpu")
    opened.clear()
    again = embed(flowers, extractor, "cpu", earlier=[part])
    assert opened == list(flowers.values())[6:]
    assert np.array_equal(again.embeddings, embedded.embeddings)


def test_those_of_another_extractor_are_made_again(embedded, flowers, made: Path, caplog):
    caplog.set_level(logging.INFO)
    other = made / "classifier.tflite"
    again = embed(part_of(flowers, slice(1)), other, "cpu", earlier=[embedded])
    assert again.embeddings.shape == (1, 44)
    assert "not reused: the extractor changed" in caplog.text


def test_those_of_another_preprocessing_are_made_again(
    embedded, flowers, extractor, caplog, tmp_path: Path
):
    caplog.set_level(logging.INFO)
    nearest = embed(part_of(flowers, slice(1)), extractor, "cpu", "nearest", earlier=[embedded])
    assert not np.array_equal(nearest.embeddings, embedded.embeddings[:1])
    with pytest.raises(UserError, match="different extractors"):
        LabelledEmbeddings.load(save_shards(tmp_path, nearest, embedded), [])
    assert "not reused: the preprocessing changed from 'bilinear 3'" in caplog.text


def test_a_model_that_gives_floats_is_refused(flowers, made: Path):
    with pytest.raises(UserError, match=r"float\.tflite has float32 embeddings"):
        embed(part_of(flowers, slice(1)), made / "float.tflite", "cpu")


def test_a_photo_that_cannot_be_decoded_is_listed(embedded, flowers, extractor, tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(next(iter(flowers.values()))).read_bytes()[:2000])
    identity = files.sha256(broken)
    shard = dict(sorted({**flowers, identity: str(broken)}.items()))
    found = embed(shard, extractor, "cpu", num_threads=2)
    assert "cannot be decoded" in found.undecodable_reasons()[identity]
    assert np.array_equal(found.embeddings, embedded.embeddings)
    # It is not tried again.
    broken.unlink()
    again = embed(shard, extractor, "cpu", earlier=[found])
    assert again.undecodable_reasons() == found.undecodable_reasons()
    again.save(tmp_path / "again.npz")
    assert read_undecodable(tmp_path / "again.npz") == found.undecodable_reasons()


def test_a_photo_that_changed_or_went_is_named(flowers, extractor: Path, tmp_path: Path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(Path(next(iter(flowers.values()))).read_bytes())
    shard = {"0" * 64: str(path)} | flowers
    with pytest.raises(UserError, match=r"photo\.jpg has changed"):
        embed(shard, extractor, "cpu", num_threads=2)
    path.unlink()
    with pytest.raises(UserError, match=r"photo\.jpg can no longer be read"):
        embed(shard, extractor, "cpu")


@pytest.fixture
def output(tmp_path: Path, embedded: Embeddings) -> Path:
    """What a job made of the one shard that there is."""
    path = tmp_path / "embeddings" / "0000-of-0001.npz"
    embedded.save(path)
    return path


def no_links(*arguments: object, **options: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("has_links", [True, False])
def test_what_was_embedded_outlives_the_output_of_its_job(
    output: Path, extractor: Path, embedded: Embeddings, monkeypatch, has_links: bool
):
    """Snakemake removes an output before the job runs again."""
    if not has_links:
        # As on FAT, and some network file systems.
        monkeypatch.setattr(os, "link", no_links)
    cache = EmbeddingCache(output.parent / ".known", extractor, "bilinear")
    assert list(cache.load("0000-of-0001")) == []
    cache.store(output)
    (kept,) = (output.parent / ".known").rglob("*.npz")
    assert kept.samefile(output) == has_links
    output.unlink()
    (found,) = cache.load("0000-of-0001")
    assert np.array_equal(found.embeddings, embedded.embeddings)
    assert found.photos.tolist() == embedded.photos.tolist()


def test_the_last_of_a_shard_is_known(output: Path, extractor: Path, flowers):
    cache = EmbeddingCache(output.parent / ".known", extractor, "bilinear")
    cache.store(output)
    fewer = embed(part_of(flowers, slice(3)), extractor, "cpu")
    fewer.save(output)
    cache.store(output)
    (found,) = cache.load("0000-of-0001")
    assert found.photos.tolist() == fewer.photos.tolist()


def test_what_another_extractor_or_preprocessing_gave_is_not_known(
    output: Path, extractor: Path, made: Path
):
    folder = output.parent / ".known"
    EmbeddingCache(folder, extractor, "bilinear").store(output)
    assert list(EmbeddingCache(folder, extractor, "nearest").load("0000-of-0001")) == []
    assert (
        list(EmbeddingCache(folder, made / "classifier.tflite", "bilinear").load("0000-of-0001"))
        == []
    )
    # But when one comes back, nothing has to be embedded again.
    assert len(list(EmbeddingCache(folder, extractor, "bilinear").load("0000-of-0001"))) == 1


def with_another_compression(content: bytes) -> bytes:
    """Where a ZIP archive lists its first file, 10 bytes in: 64 is none that there is."""
    place = content.index(b"PK\x01\x02") + 10
    return content[:place] + b"\x40" + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:2000] + b"?" + content[2001:],
        with_another_compression,
    ],
    ids=["empty", "half", "changed", "compression"],
)
def test_what_is_damaged_is_embedded_again(output: Path, extractor: Path, caplog, damage):
    cache = EmbeddingCache(output.parent / ".known", extractor, "bilinear")
    cache.store(output)
    (kept,) = (output.parent / ".known").rglob("*.npz")
    content = kept.read_bytes()
    kept.write_bytes(damage(content))
    assert kept.read_bytes() != content
    assert list(cache.load("0000-of-0001")) == []
    assert f"{kept} is damaged and is not used" in caplog.text


def test_what_goes_in_the_meantime_is_embedded_again(output: Path, extractor: Path, monkeypatch):
    """What is known may be deleted at any time."""
    cache = EmbeddingCache(output.parent / ".known", extractor, "bilinear")
    cache.store(output)
    load = Embeddings.load

    def load_too_late(path: Path) -> Embeddings:
        path.unlink()
        return load(path)

    monkeypatch.setattr(Embeddings, "load", load_too_late)
    assert list(cache.load("0000-of-0001")) == []


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (3, 4), (4, 2), (2, 3)])
def test_another_number_of_shards_embeds_nothing_again(
    flowers, extractor: Path, tmp_path: Path, monkeypatch, before: int, after: int
):
    def shards(count: int) -> dict[str, dict[str, str]]:
        divided = {name: {} for name in manifest.shard_names(count)}
        for sha256, path in flowers.items():
            name = manifest.shard_names(count)[manifest.shard_of(sha256, count)]
            divided[name][sha256] = path
        return divided

    cache = EmbeddingCache(tmp_path / ".known", extractor, "bilinear")
    for name, shard in shards(before).items():
        embed(shard, extractor, "cpu").save(tmp_path / f"{name}.npz")
        cache.store(tmp_path / f"{name}.npz")
    monkeypatch.setattr(stage, "read_content", None)
    for name, shard in shards(after).items():
        found = embed(shard, extractor, "cpu", earlier=cache.load(name))
        assert found.photos.astype(str).tolist() == list(shard)
