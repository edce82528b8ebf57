"""Shards on the disk, read as one array, against all of them in memory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain import UserError, identities
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.manifest import shard_of
from edgetpu_retrain.stored_embeddings import StoredEmbeddings, rows_among
from tests.shards import identities_of, stored

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
            Embeddings(
                whole.embeddings[good],
                0.25,
                -3,
                whole.photos[good],
                whole.hashes[good],
                whole.extractor,
                whole.preprocessing,
                whole.undecodable[bad],
                whole.reasons[bad],
            )
        )
    return parts


@pytest.mark.parametrize("count", [1, 3, 16])
def test_the_number_of_shards_makes_no_difference(whole: Embeddings, count: int, tmp_path: Path):
    found = stored(tmp_path, *divided(whole, count))
    assert identities_of(found) == whole.photos.astype(str).tolist()
    assert np.array_equal(found.known(), identities.pack(identities_of(found)))
    expected = identities.pack(sorted(whole.why_undecodable()))
    assert np.array_equal(found.undecodable, np.sort(expected))
    assert found.vectors.shape == whole.embeddings.shape
    assert found.vectors.dtype == whole.embeddings.dtype
    random = np.random.default_rng(0)
    for rows in (
        np.arange(len(whole.photos)),
        random.integers(0, len(whole.photos), 300),
        np.array([5, 5, 600, 5]),
        np.array([], int),
    ):
        assert np.array_equal(found.vectors[rows], whole.embeddings[rows])
        assert np.array_equal(found.hashes[rows], whole.hashes[rows])
        assert found.photos[rows].tobytes() == whole.photos[rows].tobytes()
        expected = 0.25 * (whole.embeddings[rows].astype(float) + 3)
        assert np.array_equal(found.values(rows), expected)


def test_several_threads_read_at_once(whole: Embeddings, tmp_path: Path):
    found = stored(tmp_path, *divided(whole, 16))
    random = np.random.default_rng(0)
    wanted = [random.integers(0, len(whole.photos), 50) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for rows, vectors in zip(wanted, pool.map(found.vectors.__getitem__, wanted), strict=True):
            assert np.array_equal(vectors, whole.embeddings[rows])


def test_rows_are_found_by_identity(whole: Embeddings, tmp_path: Path):
    found = stored(tmp_path, *divided(whole, 3))
    wanted = np.array([600, 0, 3, 3])
    texts = whole.photos[wanted].astype(str).tolist()
    assert rows_among(found.known(), identities.pack(texts)).tolist() == wanted.tolist()
    with pytest.raises(UserError, match="2 photos are not embedded"):
        rows_among(found.known(), identities.pack(["0" * 64, *texts, "f" * 64]))


def test_a_shard_may_be_empty_and_all_of_them_too(whole: Embeddings, tmp_path: Path):
    [empty] = divided(whole, 1)
    nothing = Embeddings(
        empty.embeddings[:0], 0.25, -3, empty.photos[:0], empty.hashes[:0], empty.extractor,
        empty.preprocessing, empty.undecodable[:0], empty.reasons[:0],
    )  # fmt: skip
    found = stored(tmp_path, nothing, empty)
    rows = np.arange(len(whole.photos))
    assert np.array_equal(found.vectors[rows], whole.embeddings)
    found = stored(tmp_path, nothing)
    assert found.vectors.shape == (0, 24)
    with pytest.raises(UserError, match="1 photos are not embedded"):
        rows_among(found.known(), identities.pack(["0" * 64]))


def test_files_of_another_number_of_shards_are_refused(whole: Embeddings, tmp_path: Path):
    half, _ = divided(whole, 2)
    with pytest.raises(UserError, match=r"0001\.npz holds photos of another shard"):
        stored(tmp_path, half, *divided(whole, 4)[1:])


def test_a_damaged_file_is_named(whole: Embeddings, tmp_path: Path):
    stored(tmp_path, *divided(whole, 2))
    path = tmp_path / "0001.npz"
    content = bytearray(path.read_bytes())
    # Within the vectors, where nothing but their checksum tells.
    content[len(content) // 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"0001\.npz is damaged"):
        StoredEmbeddings.open([tmp_path / "0000.npz", path])
