"""From a folder of photos to the manifest."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import UserError, files
from edgetpu_retrain import index as indexing
from edgetpu_retrain.index import Index, listing


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


def index(root: Path, **options) -> Index:
    return indexing.index(root, **{"validation": 0.1, "test": 0.1, "max_skipped": 0.1} | options)


def test_every_photo_is_listed(tmp_path: Path):
    root = make_photos(tmp_path, {"b": 30, "a": 30})
    (root / "a" / "deeper").mkdir()
    (root / "a" / "0_0.png").rename(root / "a" / "deeper" / "x.png")
    found = index(root)
    assert [photo.path for photo in found.photos] == sorted(
        str(path) for path in root.rglob("*.png")
    )
    for photo in found.photos:
        assert photo.label == Path(photo.path).relative_to(root).parts[0]
        assert photo.sha256 == files.sha256(photo.path)
    assert {photo.split for photo in found.photos} == {"train", "validation", "test"}
    assert "60 photos in 2 classes" in indexing.summary(found)


def test_copies_of_a_photo_are_in_one_split(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 30, "b": 30})
    for path in list((root / "a").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    found = index(root)
    by_identity = {}
    for photo in found.photos:
        by_identity.setdefault(photo.sha256, set()).add(photo.split)
    assert len(found.photos) == 90
    assert all(len(splits) == 1 for splits in by_identity.values())


def test_a_photo_in_two_classes_is_mentioned(tmp_path: Path, caplog):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    shutil.copy(root / "a" / "0_0.png", root / "b" / "again.png")
    index(root)
    assert f"in several classes: {root}/a/0_0.png, {root}/b/again.png" in caplog.text


def test_what_cannot_be_a_photo_is_left_out_with_its_reason(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 15, "b": 15})
    (root / "a" / "empty.jpg").touch()
    (root / "b" / "text.jpg").write_text("no photo")
    (root / "b" / "camera.nef").write_bytes(b"a raw file of some kind")
    found = index(root)
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
    found = index(root)
    assert len(found.photos) == 10
    assert found.skipped == []


def test_too_many_that_cannot_be_photos_stop_the_run(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    for i in range(7):
        (root / "a" / f"empty{i}.jpg").touch()
    with pytest.raises(UserError, match=r"7 of 17 photos.*10%") as error:
        index(root)
    assert "empty0.jpg: the file is empty" in str(error.value)
    assert "and 2 more, in the log" in str(error.value)
    assert len(index(root, max_skipped=0.5).skipped) == 7


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
        index(root)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="none: there is no such folder"):
        index(tmp_path / "none")


def test_a_class_without_training_photos_is_named(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 200, "b": 3})
    with pytest.raises(UserError, match="No photo of 'b' falls into the training split"):
        index(root, test=0.9, validation=0.05)


def test_the_one_folder_at_the_top_of_an_archive_is_passed(tmp_path: Path):
    make_photos(tmp_path / "flower_photos", {"a": 4, "b": 4})
    (tmp_path / "__MACOSX").mkdir()
    found = index(tmp_path, descend=True)
    assert {photo.label for photo in found.photos} == {"a", "b"}
    with pytest.raises(
        UserError, match=r"only the folder 'flower_photos'.*name that one: .*_photo"
    ):
        index(tmp_path)


def test_photos_outside_of_the_class_folders_are_mentioned(tmp_path: Path, caplog):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    shutil.copy(root / "a" / "0_0.png", root / "stray.png")
    assert len(index(root).photos) == 8
    assert f"1 photos in {root} lie in no class folder and are not used: stray.png" in caplog.text


def test_a_class_name_that_no_label_map_can_hold(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    (root / "b").rename(root / "b\nc")
    with pytest.raises(UserError, match="cannot be a class: rename it"):
        index(root)


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    age(root)
    first = index(root)
    assert first.identities.keys() == {photo.path for photo in first.photos}
    make_photos(root, {"b": 1}, seed=1)
    opened = []
    real_open = open

    def watched(path, *arguments, **options):
        opened.append(str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", watched)
    second = index(root, earlier=first.identities)
    monkeypatch.undo()
    assert {path for path in opened if path.startswith(str(root))} == {str(root / "b" / "1_0.png")}
    assert second.photos == index(root).photos


def test_a_file_that_has_changed_is_read_again(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    age(root)
    first = index(root)
    path = root / "a" / "0_0.png"
    content = path.read_bytes()
    # Of the same size, at another time; then at the same time, of another size.
    for changed, moment in ((content[:-1] + b"x", 10**18 + 1), (content + b"xy", 10**18)):
        path.write_bytes(changed)
        os.utime(path, ns=(moment, moment))
        found = index(root, earlier=first.identities)
        (photo,) = (photo for photo in found.photos if photo.path == str(path))
        assert photo.sha256 == files.sha256(path)
        assert found.identities[str(path)][:2] == (len(changed), moment)


def test_a_file_that_was_written_a_moment_ago_is_read_again(tmp_path: Path):
    """It may be written once more within what a file system takes for one moment."""
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    assert index(root).identities == {}


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
