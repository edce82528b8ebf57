import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import UserError, dataset


def make_photos(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{seed}_{i}.png")
    return root


def index(root: Path, **options) -> dataset.Index:
    return dataset.index(root, **{"validation": 0.1, "test": 0.1, "max_skipped": 0.1} | options)


def splits(found: dataset.Index) -> dict[str, str]:
    return {photo.path: photo.split for photo in found.photos}


def test_adding_photos_moves_no_other(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 40, "b": 40})
    before = splits(index(root))
    make_photos(root, {"a": 20, "b": 5}, seed=1)
    after = splits(index(root))
    assert len(after) == 105
    assert {path: after[path] for path in before} == before


def test_splits_have_about_the_configured_sizes(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 500, "b": 500})
    counts = Counter(splits(index(root, validation=0.2, test=0.3)).values())
    # Four standard deviations of a binomial distribution.
    assert abs(counts["validation"] - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8)
    assert abs(counts["test"] - 300) < 4 * np.sqrt(1000 * 0.3 * 0.7)


def test_copies_of_a_photo_are_in_one_split_and_shard(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 30, "b": 30})
    for path in list((root / "a").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    found = index(root)
    by_identity = {}
    for photo in found.photos:
        by_identity.setdefault(photo.sha256, set()).add(photo.split)
    assert len(found.photos) == 90
    assert all(len(found_splits) == 1 for found_splits in by_identity.values())


def test_unreadable_photos_are_left_out_with_their_reason(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 15, "b": 15})
    (root / "a" / "empty.jpg").touch()
    (root / "b" / "text.jpg").write_text("no photo")
    (root / "b" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    found = index(root)
    reasons = {Path(skipped.path).name: skipped.reason for skipped in found.skipped}
    assert len(found.photos) == 30
    assert reasons["empty.jpg"] == "the file is empty"
    assert "not an image" in reasons["text.jpg"]
    assert "export it as JPEG" in reasons["phone.heic"]
    assert "30 photos in 2 classes, 3 skipped" in dataset.summary(found)


def test_too_many_unreadable_photos_stop_the_run(tmp_path: Path):
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
    assert "1 photos lie in no class folder and are not used: stray.png" in caplog.text


def test_a_class_name_that_no_label_map_can_hold(tmp_path: Path):
    root = make_photos(tmp_path, {"a": 4, "b": 4})
    (root / "b").rename(root / "b\nc")
    with pytest.raises(UserError, match="cannot be a class: rename it"):
        index(root)


NAMES = ["with space.png", "ümläut ß.png", "tab\tand\nnewline.png", '"quoted", comma.png']


def test_manifests_keep_any_file_name(tmp_path: Path):
    root = make_photos(tmp_path / "photos", {"a b": 4, "ö": 4})
    for i, name in enumerate(NAMES):
        (root / "ö" / f"0_{i}.png").rename(root / "ö" / name)
    bad = bytes(root / "ö") + b"/not utf-8 \xff.png"
    shutil.copy(root / "a b" / "0_0.png", bad)
    found = index(root)
    shards = [tmp_path / f"{i}.tsv" for i in range(3)]
    dataset.write_shards(found, shards)
    read = sorted(photo for path in shards for photo in dataset.read_shard(path))
    assert read == found.photos
    assert {Path(photo.path).name for photo in read} >= set(NAMES)
    assert all(Path(photo.path).is_file() for photo in read)


def test_only_manifests_that_change_are_written(tmp_path: Path):
    root = make_photos(tmp_path / "photos", {"a": 20, "b": 20})
    shards = [tmp_path / f"{i}.tsv" for i in range(8)]
    dataset.write_shards(index(root), shards)
    before = {path: path.stat().st_mtime_ns for path in shards}
    make_photos(root, {"a": 1}, seed=1)
    dataset.write_shards(index(root), shards)
    changed = [path for path in shards if path.stat().st_mtime_ns != before[path]]
    new = next(p for p in index(root).photos if Path(p.path).name == "1_0.png")
    assert changed == [shards[dataset.shard_of(new.sha256, 8)]]


def test_known_photos_are_not_decoded_again(tmp_path: Path, monkeypatch):
    root = make_photos(tmp_path, {"a": 5, "b": 5})
    first = index(root)

    def fail(content):
        raise AssertionError("decoded again")

    monkeypatch.setattr("edgetpu_retrain.photos.read_photo", fail)
    assert index(root, known={photo.sha256 for photo in first.photos}) == first
    with pytest.raises(AssertionError, match="decoded again"):
        index(root)


@pytest.mark.parametrize("linked", [False, True])
def test_the_listing_changes_with_the_folder(tmp_path: Path, linked):
    root = tmp_path / "root"
    root.mkdir()
    if linked:
        for name in ("a", "b"):
            (tmp_path / "elsewhere" / name).mkdir(parents=True)
            (root / name).symlink_to(tmp_path / "elsewhere" / name)
    make_photos(root, {"a": 2, "b": 2})
    seen = {dataset.listing_digest(root)}
    assert dataset.listing_digest(root) in seen
    make_photos(root, {"a": 1}, seed=1)
    seen.add(dataset.listing_digest(root))
    (root / "b" / "0_0.png").unlink()
    seen.add(dataset.listing_digest(root))
    assert len(seen) == 3
