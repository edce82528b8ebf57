"""From a folder of photos to the manifest, and what identifies the photos."""

import os
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest, scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Digests
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import walk
from tests.indexing import files_in, scan_folder, write_index
from tests.memory import peak_of


def make_photos(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{seed}_{i}.png")
    return root


def test_every_photo_is_listed(tmp_path: Path):
    root = make_photos(tmp_path, {"b": 30, "a": 30, "a b": 3})
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
    assert "63 photos in 3 classes" in found.summary


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

    monkeypatch.setattr("edgetpu_retrain.photos.decode.read_photo", fail)
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
        ({}, "contains no folders"),
        ({"only": 5}, "only the folder 'only'"),
        ({"full": 5, "small": 2, "none": 0}, "'none' has 0, 'small' has 2"),
    ],
)
def test_too_few_classes_or_photos_are_named(tmp_path: Path, counts, message):
    root = make_photos(tmp_path, counts)
    with pytest.raises(UserError, match=message):
        write_index(root)


def test_archives_in_a_folder_are_to_be_unpacked(tmp_path: Path):
    (tmp_path / "0-Class 1-samples.zip").touch()
    message = r"contains no folders.* Unpack 0-Class 1-samples\.zip and other archives in it"
    with pytest.raises(UserError, match=message):
        write_index(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="none does not exist"):
        write_index(tmp_path / "none")


def test_a_class_without_training_photos_is_named(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 200, "b": 3})
    with pytest.raises(UserError, match="No photo of 'b' is in the training split"):
        write_index(root, test=0.9, validation=0.05)


def test_the_one_folder_at_the_top_of_an_archive_is_passed(tmp_path: Path):
    make_photos(tmp_path / "flower_photos", {"a": 4, "b": 4})
    (tmp_path / "__MACOSX").mkdir()
    found = write_index(tmp_path, descend=True)
    assert {photo.label for photo in found.photos} == {"a", "b"}
    with pytest.raises(
        UserError, match=r"only the folder 'flower_photos'.*use that folder: .*_photo"
    ):
        write_index(tmp_path)


def test_photos_outside_of_the_class_folders_are_mentioned(tmp_path: Path, caplog):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    shutil.copy(root / "a" / "0_0.png", root / "stray.png")
    assert len(write_index(root).photos) == 8
    assert f"Ignoring 1 photo outside the class folders in {root}: stray.png" in caplog.text


def test_a_class_name_that_no_label_map_can_hold(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    (root / "b").rename(root / "b\nc")
    with pytest.raises(UserError, match="non-printable characters in its name"):
        write_index(root)


def test_only_new_photos_are_read(tmp_path: Path, monkeypatch, hour_later):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    (root / "a" / "note.txt").write_text("no photo")
    (root / "a" / "text.jpg").write_text("no photo either")
    first = write_index(root)
    make_photos(root, {"b": 1}, seed=1)
    (root / "a" / "0_1.png").unlink()
    opened = []
    real_open = open

    def watched(path, *arguments, **options):
        opened.append(str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", watched)
    second = scan_folder(root)
    monkeypatch.undo()
    below = {path for path in opened if Path(path).parent in (root / "a", root / "b")}
    assert below == {str(root / "b" / "1_0.png")}
    shutil.rmtree(root / ".index")
    assert second == scan_folder(root)
    assert [one.path for one in second.unusable] == [one.path for one in first.skipped]


def test_a_photo_that_could_not_be_opened_is_tried_again(tmp_path: Path, monkeypatch, hour_later):
    """Permission is given without a trace in the file's own times."""
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    refused = str(root / "a" / "0_0.png")
    read = files.sha256

    def refuse(path):
        if path == refused:
            raise PermissionError(13, "Permission denied", path)
        return read(path)

    monkeypatch.setattr(files, "sha256", refuse)
    (unusable,) = scan_folder(root).unusable
    assert (unusable.path, unusable.reason) == (refused, "cannot be opened: Permission denied")
    monkeypatch.setattr(files, "sha256", read)
    again = scan_folder(root)
    assert (len(again.photos), again.unusable) == (8, [])


def test_tables_and_shards_agree(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 40, "b": 40})
    shutil.copy(root / "b" / "0_1.png", root / "b" / "copy.png")
    for i in range(5):
        (root / "a" / f"empty{i}.jpg").touch()
    Image.new("RGB", (4, 4)).save(root / "a stray.png")
    found = write_index(root, shards=3)
    assert list(found.shards) == manifest.shard_names(3)
    # By hand: the second 64 bits of an identity say which third it lies in; of copies the first.
    expected = [{}, {}, {}]
    for path in sorted(root.glob("[ab]/*.png")):
        sha256 = files.sha256(path)
        expected[int(sha256[16:32], 16) // (2**64 // 3 + 1)].setdefault(sha256, str(path))
    assert list(found.shards.values()) == expected
    assert all(list(shard) == sorted(shard) for shard in found.shards.values())
    assert len(list((root / ".index").rglob("*.tsv"))) == 7
    assert write_index(root, shards=3) == found
    names = {photo.path: photo.label for photo in found.photos}
    assert names == {str(path): path.parent.name for path in root.glob("[ab]/*.png")}
    assert [Path(one.path).name for one in found.skipped] == [
        "a stray.png",
        *(f"empty{i}.jpg" for i in range(5)),
    ]
    # Of another number, none of before is left.
    write_index(root, shards=2)
    assert list(files_in(root / ".index" / "shards")) == ["0000-of-0002.tsv", "0001-of-0002.tsv"]


def test_what_fails_leaves_the_tables_of_before(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    write_index(root)
    folder = root / ".index"
    before = files_in(folder, "*.tsv") | files_in(folder / "shards")
    make_photos(root, {"c": 2}, seed=1)
    with pytest.raises(UserError, match="'c' has 2"):
        write_index(root)
    assert files_in(folder, "*.tsv") | files_in(folder / "shards") == before


def change_nothing(root: Path) -> None:
    os.utime(root / "a" / "0_0.png", ns=(10**18, 10**18))


def add(root: Path) -> None:
    make_photos(root, {"a": 1}, seed=1)


def remove(root: Path) -> None:
    (root / "a" / "0_0.png").unlink()


def rename(root: Path) -> None:
    (root / "a" / "0_0.png").rename(root / "a" / "z.png")


def relabel(root: Path) -> None:
    (root / "a" / "0_0.png").rename(root / "b" / "moved.png")


def copy(root: Path) -> None:
    shutil.copy(root / "a" / "0_0.png", root / "a" / "copy.png")


def damage(root: Path) -> None:
    (root / "a" / "empty.jpg").touch()


def stray(root: Path) -> None:
    shutil.copy(root / "a" / "0_0.png", root / "stray.png")


def add_class(root: Path) -> None:
    (root / "c").mkdir()


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (change_nothing, ""),
        (add, "everything labels shards"),
        (remove, "everything labels shards"),
        (rename, "everything"),
        (relabel, "everything labels"),
        # Photos of one class count as often as they are there.
        (copy, "everything labels"),
        (damage, "everything"),
        (stray, "everything"),
        (add_class, "everything"),
    ],
)
def test_digests_change_with_what_a_stage_depends_on(tmp_path: Path, linked, change, changed):
    root = tmp_path / "root"
    root.mkdir()
    if linked:
        for name in ("a", "b"):
            (tmp_path / "elsewhere" / name).mkdir(parents=True)
            (root / name).symlink_to(tmp_path / "elsewhere" / name)
    make_photos(root, {"a": 12, "b": 12})
    before = scan_folder(root).digests(4)
    change(root)
    after = scan_folder(root).digests(4)
    names = [field.name for field in fields(Digests)]
    found = [name for name in names if getattr(before, name) != getattr(after, name)]
    assert found == changed.split()


def test_one_photo_more_changes_the_digest_of_its_shard_alone(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 40, "b": 40})
    before = scan_folder(root).digests(8)
    add(root)
    after = scan_folder(root).digests(8)
    sha256 = files.sha256(root / "a" / "1_0.png")
    # By hand: eighths of the second 64 bits.
    expected = int(sha256[16], 16) // 2
    pairs = zip(before.shards, after.shards, strict=True)
    assert [i for i, (one, other) in enumerate(pairs) if one != other] == [expected]


def test_splits_and_corrections_are_in_the_digests_of_labels(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 40, "b": 40})
    header = "sha256\tclass\tpath\tnote\n"
    sha256 = files.sha256(root / "a" / "0_0.png")
    plain = scan_folder(root).digests(2)
    split = scan_folder(root, test=0.3).digests(2)
    assert split.labels != plain.labels
    assert split.shards == plain.shards
    table = tmp_path / "corrections.tsv"
    seen = {plain.labels}
    for label in ("b", ""):
        table.write_text(f"{header}{sha256}\t{label}\t\t\n")
        corrected = scan_folder(root, corrections_path=table).digests(2)
        seen.add(corrected.labels)
        # What is left out stays embedded, so that it can come back at once.
        assert corrected.shards == plain.shards
    assert len(seen) == 3
    table.write_text(f"{header}{sha256}\ta\t\tlooked at\n")
    confirmed = scan_folder(root, corrections_path=table).digests(2)
    assert confirmed.labels == plain.labels
    assert confirmed.everything != plain.everything


def test_the_number_of_shards_is_in_the_digests_of_shards_alone(tmp_path: Path):
    found = scan_folder(make_photos(tmp_path, {"a": 20, "b": 20}))
    few, many = asdict(found.digests(1)), asdict(found.digests(4))
    assert (len(few.pop("shards")), len(set(many.pop("shards")))) == (1, 4)
    assert few == many


def test_digests_are_read_as_they_were_written(tmp_path: Path):
    found = Digests("e" * 64, "l" * 64, ("0" * 64, "1" * 64))
    found.save(tmp_path / "digests.json")
    assert Digests.load(tmp_path / "digests.json") == found


def peak_of_index(root: Path, count: int, monkeypatch) -> int:
    """Scans so many photos, of which only the names are there; returns the peak of memory."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    (root / "photo").write_bytes(b"BM")
    status = os.stat(root / "photo")
    paths = {root / name: [f"{root}/{name}/{i:09}.bmp" for i in range(count // 2)] for name in "ab"}
    cache = IdentityCache(root / "cache.npz")
    random = np.random.default_rng(count)
    for path in [*paths[root / "a"], *paths[root / "b"]]:
        cache.remember(path, status, random.bytes(32).hex())
    cache.save()
    find = lambda folder, *_: ((path, status) for path in paths[folder])  # noqa: E731
    monkeypatch.setattr(walk, "files_below", find)

    def scan_all() -> None:
        found = scan.scan(root, IdentityCache(root / "cache.npz"), 0.1, 0.1)
        assert len(found.photos) == count
        found.digests(count // 2048)

    return peak_of(scan_all)


def test_a_million_photos_fit_into_two_gigabytes(tmp_path: Path, monkeypatch, hour_later):
    few, many = (
        peak_of_index(tmp_path / str(count), count, monkeypatch) for count in (5_000, 20_000)
    )
    assert (many - few) / 15_000 < 2_000
