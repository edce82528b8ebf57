"""Splits, shards, and the tables that they stand in."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.index.manifest import Photo, Skipped
from tests.memory import peak_of


def identities(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [random.bytes(32).hex() for _ in range(count)]


@pytest.mark.parametrize("count", [1, 3, 8, 12])
def test_shards_are_about_equal_and_independent_of_the_split(count):
    found = identities(2400)
    shards = Counter(manifest.shard_of(sha256, count) for sha256 in found)
    assert sorted(shards) == list(range(count))
    expected = 2400 / count
    assert all(abs(n - expected) < 4.5 * np.sqrt(expected) for n in shards.values())
    # Those of the split test: below a tenth.
    tested = Counter(manifest.shard_of(s, count) for s in found if s < "19")
    assert all(tested[i] for i in range(count))


@pytest.mark.parametrize(("before", "after"), [(8, 4), (4, 12), (8, 12), (1, 5), (3, 3)])
def test_the_shards_that_may_share_photos_are_found(before, after):
    """After a change of the number of shards, in these and no others lie a new one's photos."""
    old, new = manifest.shard_names(before), manifest.shard_names(after)
    sources = {name: set() for name in new}
    for sha256 in identities(5000):
        sources[new[manifest.shard_of(sha256, after)]].add(old[manifest.shard_of(sha256, before)])
    for name in new:
        assert set(manifest.overlapping_shards(name, old)) == sources[name]


NAMES = ["with space.png", "ümläut ß.png", "tab\tand\nnewline.png", '"quoted", comma.png', "a\rb"]


def test_tables_keep_any_file_name(tmp_path: Path):
    paths = [*NAMES, os.fsdecode(b"not utf-8 \xff.png")]
    photos = [
        Photo(path, "ö b", "train", sha256)
        for path, sha256 in zip(paths, identities(len(paths)), strict=True)
    ]
    manifest.write(photos, tmp_path / "manifest.tsv")
    assert list(manifest.read(tmp_path / "manifest.tsv")) == photos
    skipped = [Skipped(path, 'the "reason"\tof it') for path in paths]
    manifest.write_skipped(skipped, tmp_path / "skipped.tsv")
    assert list(manifest.read_skipped(tmp_path / "skipped.tsv")) == sorted(skipped)
    shard = {photo.sha256: photo.path for photo in photos}
    manifest.write_shard(shard, tmp_path / "0000-of-0001.tsv")
    assert list(manifest.read_shard(tmp_path / "0000-of-0001.tsv").items()) == sorted(shard.items())


def test_the_header_of_the_manifest(tmp_path: Path):
    manifest.write([Photo("p", "c", "test", "0")], tmp_path / "m.tsv")
    assert (tmp_path / "m.tsv").read_text() == "path\tclass\tsplit\tsha256\np\tc\ttest\t0\n"


@pytest.mark.parametrize(
    ("text", "line"), [("", 0), ("path\tlabel\n", 1), ("path\tclass\tsplit\tsha256\nx\n", 2)]
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text, line):
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(UserError, match=rf"m\.tsv, line {line}: expected the columns path, class"):
        list(manifest.read(tmp_path / "m.tsv"))


def test_a_manifest_is_read_line_by_line(tmp_path: Path):
    lines = ["path\tclass\tsplit\tsha256", *(f"{i}.jpg\ta\ttrain\t0" for i in range(10_000)), "x"]
    (tmp_path / "m.tsv").write_text("\n".join(lines) + "\n")
    photos = manifest.read(tmp_path / "m.tsv")
    assert next(photos) == Photo("0.jpg", "a", "train", "0")

    def read_on() -> None:
        with pytest.raises(
            UserError, match=r"m\.tsv, line 10002: expected the columns path, class"
        ):
            for _ in photos:
                pass

    assert peak_of(read_on) < 300_000


def test_shards_of_another_number_are_removed(tmp_path: Path):
    for count in (4, 8):
        for name in manifest.shard_names(count):
            (tmp_path / f"{name}.npz").touch()
    (tmp_path / "0000-of-0004.tsv").touch()
    kept = [tmp_path / f"{name}.npz" for name in manifest.shard_names(8)]
    manifest.remove_other_shards(kept)
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "0000-of-0004.tsv"])


def test_the_number_of_shards_follows_the_photos_and_seldom_changes():
    assert [manifest.choose_shards(n) for n in (0, 1, 2048, 2049, 5000)] == [1, 1, 1, 2, 4]
    assert manifest.choose_shards(1_000_000) == 512
    count, changes = manifest.choose_shards(100), 0
    for photos in range(100, 200_000, 20):
        chosen = manifest.choose_shards(photos, count)
        changes += chosen != count
        count = chosen
        assert photos / count <= 4096
    assert changes <= 7
    for photos in range(200_000, 10, -20):
        count = manifest.choose_shards(photos, count)
        assert count == 1 or photos / count >= 512


def test_shards_are_counted_by_their_names():
    assert manifest.count_shards([]) is None
    names = ["a/0000-of-0008.tsv", "a/0001-of-0008.tsv", "a/0000-of-0002.tsv"]
    assert manifest.count_shards(names) == 8
