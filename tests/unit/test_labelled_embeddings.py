"""Shards and manifest joined, and what training needs of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings, TrainingData
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import SPLITS, Photo, shard_of
from tests.shards import save_shards

PHOTOS = 700


@pytest.fixture(scope="module")
def whole() -> Embeddings:
    """Photos sorted by the digits that their shards follow from, then by all; one in ten broken."""
    random = np.random.default_rng(0)
    # Some share these digits.
    ends = [random.bytes(8).hex() for _ in range(PHOTOS // 2)]
    found = [random.bytes(8).hex() + ends[i % len(ends)] + "0" * 32 for i in range(PHOTOS)]
    found.sort(key=lambda sha256: (sha256[16:32], sha256))
    bad = found[::10]
    good = [sha256 for sha256 in found if sha256 not in bad]
    return Embeddings(
        random.integers(-128, 128, (len(good), 24), np.int8), 0.25, -3,
        np.array(good, "S64"), random.integers(0, 256, (len(good), 32), np.uint8),
        "e" * 64, "bilinear 2", np.array(bad, "S64"), np.array(["broken"] * len(bad)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def manifest(whole: Embeddings) -> list[Photo]:
    """All of them, broken ones too, in another order, as three classes."""
    sha256s = [*whole.photos.astype(str).tolist(), *whole.undecodable_reasons()]
    return [
        Photo(f"{i}.jpg", "cab"[i % 3], ("train", "train", "validation", "test")[i % 4], sha256)
        for i, sha256 in reversed(list(enumerate(sha256s)))
    ]


def divided(whole: Embeddings, count: int) -> list[Embeddings]:
    """The same photos as a run with so many shards leaves them: in each sorted by identity."""

    def rows_of(photos: np.ndarray, shard: int) -> np.ndarray:
        texts = photos.astype(str).tolist()
        rows = [i for i, sha256 in enumerate(texts) if shard_of(sha256, count) == shard]
        return np.array(sorted(rows, key=lambda i: texts[i]), int)

    parts = []
    for shard in range(count):
        good, bad = rows_of(whole.photos, shard), rows_of(whole.undecodable, shard)
        parts.append(
            replace(
                whole,
                embeddings=whole.embeddings[good],
                photos=whole.photos[good],
                hashes=whole.hashes[good],
                undecodable=whole.undecodable[bad],
                reasons=whole.reasons[bad],
            )
        )
    return parts


@pytest.mark.parametrize("count", [1, 3, 16])
def test_the_number_of_shards_makes_no_difference(whole, manifest, count: int, tmp_path: Path):
    labelled = LabelledEmbeddings.load(save_shards(tmp_path, *divided(whole, count)), manifest)
    assert list(labelled.identities) == whole.photos.astype(str).tolist()
    assert labelled.vectors.dtype == np.int8
    assert np.array_equal(labelled.vectors, whole.embeddings)
    assert np.array_equal(labelled.hashes, whole.hashes)
    assert np.array_equal(labelled.rows, np.arange(len(whole.photos)))


@pytest.fixture
def labelled(whole, manifest, tmp_path: Path) -> LabelledEmbeddings:
    return LabelledEmbeddings.load(save_shards(tmp_path, *divided(whole, 3)), manifest)


def test_every_photo_gets_its_own_class_split_and_path(whole, manifest, labelled):
    assert labelled.classes == ("a", "b", "c")
    expected = {p.sha256: p for p in manifest if p.sha256 not in whole.undecodable_reasons()}
    columns = (labelled.rows, labelled.labels, labelled.splits, labelled.paths)
    found = [
        Photo(path, labelled.classes[label], SPLITS[split], labelled.identities[row])
        for row, label, split, path in zip(*columns, strict=True)
    ]
    assert len(labelled) == len(found) == len(expected)
    assert {photo.sha256: photo for photo in found} == expected
    # The manifest's order is another one.
    assert [photo for _, photo in labelled.in_manifest_order()] == list(expected.values())
    assert all(found[i] == photo for i, photo in labelled.in_manifest_order())


def test_a_split_is_dequantized(whole, labelled):
    tested = labelled.select(labelled.splits == TEST)
    known = whole.photos.astype(str).tolist()
    values = tested[:]
    assert values.dtype == np.float32
    assert {photo.split for _, photo in tested.in_manifest_order()} == {"test"}
    for i, photo in tested.in_manifest_order():
        expected = 0.25 * (whole.embeddings[known.index(photo.sha256)].astype(float) + 3)
        assert np.array_equal(values[i], expected)
    assert np.array_equal(tested[np.array([5, 2])], values[[5, 2]])


def test_a_photo_that_is_listed_twice_counts_twice(whole, manifest, tmp_path: Path):
    copy = Photo("x", "d", "test", whole.photos[4].decode())
    shards = save_shards(tmp_path, whole)
    labelled = LabelledEmbeddings.load(shards, [*manifest, copy])
    assert len(labelled) == len(whole.photos) + 1
    assert labelled.rows.tolist().count(4) == 2
    assert labelled.classes == ("a", "b", "c", "d")
    assert [photo for _, photo in labelled.in_manifest_order()][-1] == copy


def test_a_photo_that_is_not_embedded_is_an_error(whole, manifest, tmp_path: Path):
    others = [Photo("x", "a", "train", digit * 64) for digit in "0f"]
    with pytest.raises(UserError, match="2 photos have no embedding"):
        LabelledEmbeddings.load(save_shards(tmp_path, whole), [*manifest, *others])


def test_a_shard_may_be_empty_and_all_of_them_too(whole, manifest, tmp_path: Path):
    nothing = replace(
        whole,
        embeddings=whole.embeddings[:0],
        photos=whole.photos[:0],
        hashes=whole.hashes[:0],
        undecodable=whole.undecodable[:0],
        reasons=whole.reasons[:0],
    )
    labelled = LabelledEmbeddings.load(save_shards(tmp_path, nothing, whole), manifest)
    assert np.array_equal(labelled.vectors, whole.embeddings)
    labelled = LabelledEmbeddings.load(save_shards(tmp_path, nothing), [])
    assert labelled.vectors.shape == (0, 24)
    assert (len(labelled), labelled.classes, list(labelled.in_manifest_order())) == (0, (), [])


def test_files_of_another_number_of_shards_are_refused(whole, manifest, tmp_path: Path):
    half, _ = divided(whole, 2)
    shards = save_shards(tmp_path, half, *divided(whole, 4)[1:])
    with pytest.raises(UserError, match="Two files of embeddings contain the same photo"):
        LabelledEmbeddings.load(shards, manifest)


def test_a_damaged_file_is_named(whole, manifest, tmp_path: Path):
    shards = save_shards(tmp_path, *divided(whole, 2))
    content = bytearray(shards[1].read_bytes())
    # Within the vectors, where nothing but their checksum tells.
    content[len(content) // 8] ^= 1
    shards[1].write_bytes(content)
    with pytest.raises(UserError, match=r"0001\.npz is damaged"):
        LabelledEmbeddings.load(shards, manifest)


def test_training_takes_them_centred_scaled_and_along_principal_axes(labelled):
    """Against scikit-learn's principal components of all of them."""
    kept = labelled.select(labelled.splits != TEST)
    data = TrainingData.of(kept, np.zeros(len(kept), int))
    values = data.embeddings(slice(None))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
    assert np.mean(np.sum(values**2, axis=1)) == pytest.approx(1, rel=1e-5)
    known = PCA(svd_solver="full").fit(kept.vectors[kept.rows].astype(float))
    np.testing.assert_allclose(data.variances[::-1], known.explained_variance_ratio_, rtol=1e-4)
    cosines = np.abs(np.sum(data.axes[:, ::-1] * known.components_.T, axis=0))
    np.testing.assert_allclose(cosines, 1, rtol=1e-3)
    # A quarter of each class comes first in the order of its ranks.
    drawn = data.ranks < 0.25
    for label in range(3):
        assert abs(np.mean(drawn[kept.labels == label]) - 0.25) < 0.01
