import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.photos import perceptual_hash, preprocessing
from edgetpu_retrain.photos.decode import read_photo
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.training import near_copies
from tests.memory import peak_of

PHOTOS = 30


def changed(photo: Image.Image) -> dict[str, Image.Image]:
    """A photo as people copy it."""
    width, height = photo.size
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=50)
    return {
        "as it is": photo,
        "re-encoded": Image.open(file).convert("RGB"),
        "resized": photo.resize((width * 2 // 3, height * 2 // 3), Image.Resampling.LANCZOS),
        "brightened": ImageEnhance.Brightness(photo).enhance(1.2),
        "cropped": photo.crop(
            (width // 20, height // 20, width - width // 20, height - height // 20)
        ),
    }


def test_copies_of_real_photos_are_found_and_no_others(photos: Path, models: Path):
    extractor = Interpreter(models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite", "cpu")
    embeddings, hashes, kinds = [], [], []
    for path in sorted(photos.glob("*/*.jpg"))[:: 1000 // PHOTOS][:PHOTOS]:
        for kind, picture in changed(read_photo(path.read_bytes())).items():
            embeddings.append(extractor.run(preprocessing.to_pixels(picture, extractor.input_size)))
            hashes.append(perceptual_hash.perceptual_hash(picture))
            kinds.append(kind)
    embeddings, hashes = np.array(embeddings), np.array(hashes)
    # Photos of a few groups of five are not what a mean is taken of; half of them are not copied.
    single = np.arange(len(kinds)) < 5 * PHOTOS // 2
    chosen = np.flatnonzero(single | (np.array(kinds) == "as it is"))
    pairs, likeness = near_copies.near_copies(embeddings[chosen], hashes[chosen])
    originals = chosen[pairs] // 5
    assert np.all(originals[:, 0] == originals[:, 1])
    assert np.all((likeness >= 0) & (likeness <= 1 + 1e-9))
    found = {tuple(pair) for pair in chosen[pairs].tolist()}
    for i, kind in enumerate(list(changed(Image.new("RGB", (40, 40))))[1:], start=1):
        share = np.mean([(5 * k, 5 * k + i) in found for k in range(PHOTOS // 2)])
        assert share >= (0.9 if kind == "cropped" else 1), kind
    numbers = near_copies.groups(embeddings[chosen], hashes[chosen])
    assert len(set(numbers.tolist())) == PHOTOS


@pytest.mark.parametrize("block", [1_024, 100])
def test_no_pair_is_lost_on_the_way(block: int, monkeypatch):
    """Against all pairs, one by one; the first principal components are not all there is."""
    random = np.random.default_rng(0)
    embeddings = random.integers(0, 200, (300, 400))
    hashes = random.integers(0, 256, (300, 32))
    # Copies of every degree.
    for i in range(100):
        embeddings[200 + i] = embeddings[i] + random.normal(0, i, 400)
        flipped = random.random((32, 8)) < i / 250
        hashes[200 + i] = hashes[i] ^ np.packbits(flipped, axis=1)[:, 0]
    order = random.permutation(300)
    embeddings = embeddings.clip(0, 255).astype(np.uint8)[order]
    hashes = hashes.astype(np.uint8)[order]
    x = embeddings - embeddings.mean(axis=0)
    bits = np.unpackbits(hashes, axis=1)
    score = 100 * _cosines(x) + 128 * _cosines(bits - bits.mean(axis=0))
    expected = {(i, j) for i, j in np.argwhere(score >= 108).tolist() if i < j}
    monkeypatch.setattr(near_copies, "_BLOCK", block)
    pairs, _ = near_copies.near_copies(embeddings, hashes, num_threads=2)
    assert {tuple(pair) for pair in pairs.tolist()} == expected
    assert 30 < len(expected) < 100


def _cosines(rows: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((rows**2).sum(axis=1))
    return rows @ rows.T / np.outer(lengths, lengths)


def test_where_all_photos_look_alike_only_the_same_picture_is_a_copy():
    random = np.random.default_rng(0)
    # Two scenes, of which the photos differ by noise.
    scenes = random.integers(50, 200, (2, 64))[np.arange(60) % 2]
    embeddings = (scenes + random.integers(0, 9, (60, 64))).astype(np.uint8)
    bits = random.random((2, 256))[np.arange(60) % 2] > 0.5
    bits ^= random.random((60, 256)) < 0.02
    hashes = np.packbits(bits, axis=1)
    hashes[7] = hashes[3]
    numbers = near_copies.groups(embeddings, hashes)
    assert len(set(numbers.tolist())) == 59
    assert numbers[7] == numbers[3]


def test_many_pairs_of_copies_are_not_kept():
    """Six scenes of 500 photos that look alike: 750,000 pairs, 12 MB as two numbers each."""
    random = np.random.default_rng(0)
    scenes = random.permutation(np.arange(3000) % 6)
    embeddings = random.integers(50, 200, (6, 64))[scenes] + random.integers(0, 9, (3000, 64))
    bits = (random.random((6, 256)) > 0.5)[scenes] ^ (random.random((3000, 256)) < 0.02)
    numbers = []
    peak = peak_of(
        lambda: numbers.append(
            near_copies.groups(
                embeddings.astype(np.uint8), np.packbits(bits, axis=1), num_threads=2
            )
        )
    )
    first = {scene: i for i, scene in enumerate(dict.fromkeys(scenes.tolist()))}
    assert numbers[0].tolist() == [first[scene] for scene in scenes.tolist()]
    assert peak < 25_000_000


@pytest.mark.parametrize("count", [0, 1])
def test_few_photos(count: int):
    nothing = np.zeros((count, 4), np.uint8)
    assert near_copies.groups(nothing, np.zeros((count, 32), np.uint8)).tolist() == [0] * count


def test_groups_are_read_as_they_were_written_for_the_same_photos(tmp_path: Path):
    identities = [f"{i:064x}" for i in range(3)]
    near_copies.write_groups(identities, np.array([0, 1, 0]), tmp_path / "groups.tsv")
    found = near_copies.read_groups(tmp_path / "groups.tsv", identities)
    assert (found.dtype, found.tolist()) == (np.int32, [0, 1, 0])
    for others in (identities[:2], identities[::-1], [*identities, "f" * 64]):
        with pytest.raises(UserError, match=r"groups\.tsv was made from different photos"):
            near_copies.read_groups(tmp_path / "groups.tsv", others)


def test_wide_embeddings_are_compared_in_the_span_of_the_photos():
    """As of a network without pooling: a matrix of 30,000 values square would be 3.6 GB."""
    random = np.random.default_rng(0)
    embeddings = random.integers(0, 256, (60, 30_000), np.uint8)
    hashes = random.integers(0, 256, (60, 32), np.uint8)
    embeddings[41], hashes[41] = np.minimum(embeddings[3], 250), hashes[3]
    pairs, likeness = near_copies.near_copies(embeddings, hashes)
    assert pairs.tolist() == [[3, 41]]
    assert likeness[0] == pytest.approx(1, abs=0.02)
    assert peak_of(lambda: near_copies.groups(embeddings, hashes)) < 300e6
