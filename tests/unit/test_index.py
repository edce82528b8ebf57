"""From a folder of photos to the manifest."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import UserError, files, index, manifest, photos
from edgetpu_retrain.index import listing
from tests.indexing import files_in, outputs_in, times, write_index
from tests.memory import peak_of


def make_photos(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{seed}_{i}.png")
    return root


def age(root: Path) -> None:
    """Makes all files old enough to be taken over without being read."""
    for path in root.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))


def test_every_photo_is_listed(tmp_path: Path):
    root = make_photos(tmp_path, {"b": 30, "a": 30})
    (root / "a" / "deeper").mkdir()
    (root / "a" / "0_0.png").rename(root / "a" / "deeper" / "x.png")
    found = write_index(root)
    assert [photo.path for photo in found.photos] == sorted(
        str(path) for path in root.rglob("*.png")
    )
    for photo in found.photos:
        assert photo.label == Path(photo.path).relative_to(root).parts[0]
        assert photo.sha256 == files.sha256(photo.path)
    assert {photo.split for photo in found.photos} == {"train", "validation", "test"}
    assert "60 photos in 2 classes" in found.summary


def test_copies_of_a_photo_are_in_one_split(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 30, "b": 30})
    for path in list((root / "a").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    found = write_index(root)
    by_identity = {}
    for photo in found.photos:
        by_identity.setdefault(photo.sha256, set()).add(photo.split)
    assert len(found.photos) == 90
    assert all(len(splits) == 1 for splits in by_identity.values())


def test_a_photo_in_two_classes_is_mentioned(tmp_path: Path, caplog):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    shutil.copy(root / "a" / "0_0.png", root / "b" / "again.png")
    write_index(root)
    assert f"in several classes: {root}/a/0_0.png, {root}/b/again.png" in caplog.text


def test_what_cannot_be_a_photo_is_left_out_with_its_reason(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 15, "b": 15})
    (root / "a" / "empty.jpg").touch()
    (root / "b" / "text.jpg").write_text("no photo")
    (root / "b" / "camera.nef").write_bytes(b"a raw file of some kind")
    found = write_index(root)
    reasons = {Path(skipped.path).name: skipped.reason for skipped in found.skipped}
    assert len(found.photos) == 30
    assert reasons["empty.jpg"] == "the file is empty"
    assert "not an image" in reasons["text.jpg"]
    assert "export it as JPEG" in reasons["camera.nef"]


def test_no_photo_is_decoded(tmp_path: Path, monkeypatch):
    """One whose data is damaged behind its first bytes is found where it is embedded."""
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    damaged = root / "a" / "0_0.png"
    damaged.write_bytes(damaged.read_bytes()[:60])

    def fail(*arguments, **options):
        raise AssertionError("decoded")

    monkeypatch.setattr("edgetpu_retrain.photos.read_photo", fail)
    monkeypatch.setattr(Image, "open", fail)
    found = write_index(root)
    assert len(found.photos) == 10
    assert found.skipped == []


def test_too_many_that_cannot_be_photos_stop_the_run(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    for i in range(7):
        (root / "a" / f"empty{i}.jpg").touch()
    with pytest.raises(UserError, match=r"7 of 17 photos.*10%") as error:
        write_index(root)
    assert "empty0.jpg: the file is empty" in str(error.value)
    assert "and 2 more, in the log" in str(error.value)
    assert len(write_index(root, max_skipped=0.5).skipped) == 7


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "holds no folder"),
        ({"only": 5}, "only the folder 'only'"),
        ({"full": 5, "small": 2, "none": 0}, "'none' has 0, 'small' has 2"),
    ],
)
def test_too_few_classes_or_photos_are_named(tmp_path: Path, counts, message):
    root = make_photos(tmp_path, counts)
    with pytest.raises(UserError, match=message):
        write_index(root)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="none: there is no such folder"):
        write_index(tmp_path / "none")


def test_a_class_without_training_photos_is_named(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 200, "b": 3})
    with pytest.raises(UserError, match="No photo of 'b' falls into the training split"):
        write_index(root, test=0.9, validation=0.05)


def test_the_one_folder_at_the_top_of_an_archive_is_passed(tmp_path: Path):
    make_photos(tmp_path / "flower_photos", {"a": 4, "b": 4})
    (tmp_path / "__MACOSX").mkdir()
    found = write_index(tmp_path, descend=True)
    assert {photo.label for photo in found.photos} == {"a", "b"}
    with pytest.raises(
        UserError, match=r"only the folder 'flower_photos'.*name that one: .*_photo"
    ):
        write_index(tmp_path)


def test_photos_outside_of_the_class_folders_are_mentioned(tmp_path: Path, caplog):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    shutil.copy(root / "a" / "0_0.png", root / "stray.png")
    assert len(write_index(root).photos) == 8
    assert f"1 photos in {root} lie in no class folder and are not used: stray.png" in caplog.text


def test_a_class_name_that_no_label_map_can_hold(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    (root / "b").rename(root / "b\nc")
    with pytest.raises(UserError, match="cannot be a class: rename it"):
        write_index(root)


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch):
    root = make_photos(tmp_path, {"a": 5, "a b": 5, "b": 5})
    make_photos(root / "a", {"deeper": 3, "0_0.png deeper": 3})
    age(root)
    first = write_index(root)
    assert list(first.identities) == [photo.path for photo in first.photos]
    make_photos(root, {"b": 1}, seed=1)
    (root / "a b" / "0_1.png").unlink()
    opened = []
    real_open = open

    def watched(path, *arguments, **options):
        opened.append(str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", watched)
    second = write_index(root)
    monkeypatch.undo()
    pictures = {path for path in opened if path.endswith(".png")}
    assert pictures == {str(root / "b" / "1_0.png")}
    shutil.rmtree(root / ".index")
    assert second.photos == write_index(root).photos


def test_a_file_that_has_changed_is_read_again(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    age(root)
    write_index(root)
    path = root / "a" / "0_0.png"
    content = path.read_bytes()
    # Of the same size, at another time; then at the same time, of another size.
    for changed, moment in ((content[:-1] + b"x", 10**18 + 1), (content + b"xy", 10**18 + 1)):
        path.write_bytes(changed)
        os.utime(path, ns=(moment, moment))
        found = write_index(root)
        (photo,) = (photo for photo in found.photos if photo.path == str(path))
        assert photo.sha256 == files.sha256(path)
        assert found.identities[str(path)][:2] == [len(changed), moment]


def test_a_file_that_was_written_a_moment_ago_is_read_again(tmp_path: Path):
    """It may be written once more within what a file system takes for one moment."""
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    assert write_index(root).identities == {}


def test_identities_that_are_out_of_order_are_found_again(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    age(root)
    first = write_index(root)
    path = root / ".index" / "identities.tsv"
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *reversed(lines)]))
    assert write_index(root) == first


def test_tables_and_shards_agree_and_stay_untouched(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 40, "b": 40})
    shutil.copy(root / "b" / "0_1.png", root / "b" / "copy.png")
    for i in range(5):
        (root / "a" / f"empty{i}.jpg").touch()
    Image.new("RGB", (4, 4)).save(root / "a stray.png")
    age(root)
    found = write_index(root, shards=3)
    assert list(found.shards) == manifest.shard_names(3)
    # By hand: the second 64 bits of an identity say which third it lies in; of copies the first.
    expected = [{}, {}, {}]
    for path in sorted(root.glob("[ab]/*.png")):
        sha256 = files.sha256(path)
        expected[int(sha256[16:32], 16) // (2**64 // 3 + 1)].setdefault(sha256, str(path))
    assert list(found.shards.values()) == expected
    assert all(list(shard) == sorted(shard) for shard in found.shards.values())
    written = sorted(path for path in (root / ".index").rglob("*") if path.is_file())
    for path in written:
        os.utime(path, ns=(10**18, 10**18))
    assert write_index(root, shards=3) == found
    assert times(written) == [10**18] * len(written)
    names = {photo.path: photo.label for photo in found.photos}
    assert names == {str(path): path.parent.name for path in root.glob("[ab]/*.png")}
    assert [Path(one.path).name for one in found.skipped] == [
        "a stray.png",
        *(f"empty{i}.jpg" for i in range(5)),
    ]
    # Of another number, none of before is left.
    write_index(root, shards=2)
    assert sorted(files_in(root / ".index" / "shards")) == [
        f"000{i}-of-0002{suffix}" for i in range(2) for suffix in (".digest", ".tsv")
    ]


def test_what_fails_leaves_the_tables_of_before(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    age(root)
    write_index(root)
    folder = root / ".index"
    before = files_in(folder, "*.*") | files_in(folder / "shards")
    make_photos(root, {"c": 2}, seed=1)
    with pytest.raises(UserError, match="'c' has 2"):
        write_index(root)
    assert files_in(folder, "*.*") | files_in(folder / "shards") == before


def peak_of_index(root: Path, count: int, monkeypatch) -> int:
    """Indexes so many photos, of which only the names are there; returns the peak of memory."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    (root / "photo").write_bytes(b"BM")
    os.utime(root / "photo", ns=(10**18, 10**18))
    status = os.stat(root / "photo")
    paths = {root / name: [f"{root}/{name}/{i:09}.bmp" for i in range(count // 2)] for name in "ab"}
    (root / ".index").mkdir()
    random = np.random.default_rng(count)
    with manifest.writing_identities(root / ".index" / "identities.tsv") as remember:
        for path in [*paths[root / "a"], *paths[root / "b"]]:
            remember((path, status.st_size, status.st_mtime_ns, random.bytes(32).hex()))
    find = lambda folder: ((path, status) for path in paths[folder])  # noqa: E731
    monkeypatch.setattr(photos, "find_photos", find)
    outputs = outputs_in(root / ".index")
    peak = peak_of(lambda: index.index(root, outputs, 0.1, 0.1, 0.1))
    assert sum(1 for _ in manifest.read(outputs.manifest)) == count
    return peak


def test_an_index_needs_a_few_bytes_per_photo(tmp_path: Path, monkeypatch):
    few, many = (
        peak_of_index(tmp_path / str(count), count, monkeypatch) for count in (5_000, 20_000)
    )
    assert (many - few) / 15_000 < 80


@pytest.mark.parametrize("linked", [False, True])
def test_the_listing_changes_with_the_folder(tmp_path: Path, linked):
    root = tmp_path / "root"
    root.mkdir()
    if linked:
        for name in ("a", "b"):
            (tmp_path / "elsewhere" / name).mkdir(parents=True)
            (root / name).symlink_to(tmp_path / "elsewhere" / name)
    make_photos(root, {"a": 2, "b": 2})
    seen = {listing(root)}
    assert listing(root) in seen
    make_photos(root, {"a": 1}, seed=1)
    seen.add(listing(root))
    (root / "b" / "0_0.png").unlink()
    seen.add(listing(root))
    (root / "c").mkdir()
    seen.add(listing(root))
    assert len({digest for digest, _ in seen}) == 4
    assert sorted(count for _, count in seen) == [4, 4, 4, 5]
