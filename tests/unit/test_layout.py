"""Datasets as people have them: exports with splits, tables, folders of names that look alike."""

import csv
import os
import shutil
from pathlib import Path

import pytest

from edgetpu_retrain.config.datasets import find_dataset
from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from tests.conftest import lay_photos
from tests.indexing import scan_folder, write_index
from tests.planning import make_plan


def fill(folder: Path, *, count: int = 6) -> Path:
    """Lays files that could be photos by their first bytes, and that differ from all others."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i:03}.bmp").write_bytes(b"BM" + f"{folder} {i}".encode("utf-8", "replace"))
    return folder


def lay_export(root: Path, splits: list[str], classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for split in splits:
        for label in classes:
            fill(root / split / label)
    return root


def split_folders(root: Path, **options) -> set[tuple[str, str]]:
    """The top folder and the split of every photo."""
    photos = scan_folder(root, **options).photos
    return {(Path(photo.path).relative_to(root).parts[0], photo.split) for photo in photos}


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        # Roboflow, Ultralytics, Keras; Kaggle's "Intel Image Classification", "Cat and Dog".
        (["train", "valid", "test"], {"train": "train", "valid": "validation", "test": "test"}),
        (["train", "val", "test"], {"train": "train", "val": "validation", "test": "test"}),
        (["Training", "Validation"], {"Training": None, "Validation": "validation"}),
        (["train", "test"], {"train": None, "test": "test"}),
        (["seg_train/seg_train", "seg_test/seg_test"], {"seg_train": None, "seg_test": "test"}),
        (["training_set", "test_set"], {"training_set": None, "test_set": "test"}),
        (["train", "test", "extra"], {"train": None, "extra": None, "test": "test"}),
    ],
)
def test_an_export_with_splits_is_used_as_it_means(tmp_path: Path, splits, expected):
    root = lay_export(tmp_path / "pets", splits)
    found = write_index(root, max_skipped=0)
    assert {photo.label for photo in found.photos} == {"cat", "dog"}
    assert len(found.photos) == 12 * len(splits)
    assert found.skipped == []
    assert "are used as splits" in found.summary
    # Where there is no folder for a split, its photos come from those to train on.
    drawn = {"train", "validation", "test"} - set(expected.values())
    for folder, split in split_folders(root):
        assert split in ({expected[folder]} if expected[folder] else drawn)


def test_a_split_without_a_folder_is_drawn_from_train(tmp_path: Path):
    root = tmp_path / "pets"
    for label in ("cat", "dog"):
        fill(root / "train" / label, count=100)
        fill(root / "valid" / label, count=30)
    found = split_folders(root)
    assert found == {("train", "train"), ("train", "test"), ("valid", "validation")}


def test_splits_can_be_classes(tmp_path: Path):
    root = lay_export(tmp_path / "pets", ["train", "valid", "test"])
    assert scan_folder(root, folders=False).classes == ["test", "train", "valid"]
    settings = {"dataset": str(root), "backbone": "sample"}
    read = [
        make_plan(tmp_path, **settings, split={"folders": folders}).fingerprints.photos.labels
        for folders in ("true", "false")
    ]
    assert read[0] != read[1]
    assert Settings.parse(settings).split.folders


def test_folders_of_trains_are_classes(tmp_path: Path):
    """Names of splits alone do not make splits."""
    for name in ("train", "tram", "test bench"):
        fill(tmp_path / "rail" / name)
    assert scan_folder(tmp_path / "rail").classes == ["test bench", "train", "tram"]
    fill(tmp_path / "rail" / "train" / "steam")
    fill(tmp_path / "rail" / "train" / "diesel")
    assert scan_folder(tmp_path / "rail").classes == ["test bench", "train", "tram"]


def test_a_copy_of_a_test_photo_is_not_trained_on(tmp_path: Path):
    root = lay_export(tmp_path / "pets", ["train", "test"])
    shutil.copy(root / "test/cat/000.bmp", root / "train/cat/copy.bmp")
    splits = {photo.path: photo.split for photo in scan_folder(root).photos}
    assert splits[str(root / "train/cat/copy.bmp")] == "test"


def test_photos_of_no_class_in_a_split_are_listed(tmp_path: Path):
    """Kaggle's competitions come with a folder test without labels."""
    root = lay_export(tmp_path / "pets", ["train"])
    fill(root / "test", count=4)
    found = write_index(root)
    assert {photo.label for photo in found.photos} == {"cat", "dog"}
    assert [(Path(one.path).parent.name, one.reason) for one in found.skipped] == [
        ("test", "lies in no class folder")
    ] * 4


def test_the_real_photos_in_splits_are_split_so(photos: Path, tmp_path: Path):
    root = tmp_path / "flowers"
    lay_photos(photos, root / "train", 12)
    for path in sorted(root.glob("train/*/*"))[::4]:
        target = root / "test" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    found = scan_folder(root, validation=0)
    assert found.classes == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
    assert {(p.path, p.label, p.split) for p in found.photos} == {
        (str(path), path.parent.name, path.parent.parent.name) for path in root.glob("*/*/*")
    }


@pytest.mark.parametrize(
    ("folders", "files", "message"),
    [
        (["images", "labels"], [], "exports for object detection.*Folder Structure"),
        (["train/images", "train/labels", "valid/images", "valid/labels"], [], "object detection"),
        (["images/train", "images/val", "labels/train"], [], "object detection"),
        (["train", "valid"], ["train/_classes.csv"], "are in the file _classes.csv"),
        (["train", "test"], ["test/_annotations.coco.json"], "the file _annotations.coco.json"),
        (["train", "test"], ["train/labels.txt"], "the file labels.txt.*photos.csv"),
        # Kaggle's "Dogs vs. Cats", whose classes are in the names of the files.
        (["train", "test"], [], r"no folder per class.*split='\{folders: false\}'"),
        (["images"], ["labels.csv"], r"If labels.csv says .*pets/labels.csv"),
    ],
)
def test_exports_without_class_folders_are_explained(tmp_path, folders, files, message):
    root = tmp_path / "pets"
    for folder in folders:
        fill(root / folder)
    for file in files:
        (root / file).write_text("a file of labels")
    with pytest.raises(UserError, match=message):
        scan_folder(root)


def test_folders_of_the_same_subfolders_are_mentioned(tmp_path: Path):
    root = lay_export(tmp_path / "birds", ["2023", "2024"], ("robin", "wren"))
    found = write_index(root)
    assert {photo.label for photo in found.photos} == {"2023", "2024"}
    assert "holds the same folders: robin, wren" in found.summary


def write_table(path: Path, rows: list[list[str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize(
    ("header", "row"),
    [
        # Plain; Kaggle's Dog Breed Identification; its BIRDS; labels first; by name alone.
        (["path", "label"], lambda path, label, root: [str(path.relative_to(root)), label]),
        (["id", "breed"], lambda path, label, root: [path.stem, label]),
        (
            ["class id", "filepaths", "labels", "data set", "scientific name"],
            lambda path, label, root: ["0", str(path.relative_to(root)), label, "train", "Bellis"],
        ),
        (["label", "image"], lambda path, label, root: [label, path.name]),
        (["image_id", "width", "category"], lambda path, label, root: [path.stem, "240", label]),
        (["file", "what"], lambda path, label, root: [str(path), label]),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_paths_and_classes_is_a_dataset(photos, tmp_path, header, row, delimiter):
    lay_photos(photos, tmp_path / "images", 5, ["daisy", "roses", "tulips"])
    listed = sorted((tmp_path / "images").glob("*/*.jpg"))
    rows = [header, *(row(path, path.parent.name, tmp_path) for path in listed)]
    table = write_table(tmp_path / "photos.csv", rows, delimiter)
    found = scan_folder(table.parent / "photos.csv", cache=tmp_path / "cache.npz")
    assert found.classes == ["daisy", "roses", "tulips"]
    assert [(p.path, p.label) for p in found.photos] == [(str(p), p.parent.name) for p in listed]
    dataset = find_dataset(str(table), {})
    assert (dataset.name, dataset.folder) == ("photos", str(table))
    plan = make_plan(tmp_path, dataset=str(table), backbone="sample")
    assert plan.fingerprints.photos == found.digests(1)


def test_a_table_says_what_is_wrong(tmp_path: Path):
    for label in ("cat", "dog"):
        fill(tmp_path / label)
    rows = [[f"{label}/{i:03}.bmp", label] for label in ("cat", "dog") for i in range(6)]
    table = tmp_path / "pets.csv"

    def scan(content: list[list[str]]):
        return scan_folder(write_table(table, content), cache=tmp_path / "cache.npz")

    found = scan([["path", "label"], *rows, *rows, ["cat/gone.jpg", "cat"], ["001.bmp", "cat"]])
    assert len(found.photos) == 12
    assert {Path(one.path).name: one.reason for one in found.unusable} == {
        "gone.jpg": "is in the table, but there is no such file",
        "001.bmp": "is in the table, but there are several files of that name",
    }
    for content, message in (
        (rows, "columns have no names"),
        ([["path", "label"], *rows, ["cat/000.bmp"]], "line 14: 1 fields instead of 2"),
        ([["a", "b", "c"], ["1", "2", "3"]], "none of the columns a, b, c"),
        ([["path", "label"], rows[0]], "has 1 classes"),
        ([], "is empty"),
    ):
        with pytest.raises(UserError, match=message):
            scan(content)
    table.write_bytes("path,label\nb\u00e4r.jpg,cat\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        scan_folder(table, cache=tmp_path / "cache.npz")


def test_a_tables_split_is_used(tmp_path: Path):
    for label in ("cat", "dog"):
        fill(tmp_path / label, count=8)
    splits = ["train"] * 5 + ["valid", "test", ""]
    rows = [
        [f"{label}/{i:03}.bmp", label, split]
        for label in ("cat", "dog")
        for i, split in enumerate(splits)
    ]
    table = write_table(tmp_path / "pets.csv", [["path", "label", "split"], *rows])
    found = scan_folder(table, cache=tmp_path / "cache.npz")
    assert [p.split for p in found.photos] == (["train"] * 5 + ["validation", "test", "train"]) * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), ("trail", "trail "), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "stra\u00dfe")],
)
def test_names_that_look_the_same_are_both_named(tmp_path: Path, one, other):
    for name in (one, other, "dog"):
        fill(tmp_path / name)
    with pytest.raises(UserError, match="look the same") as error:
        scan_folder(tmp_path)
    assert repr(str(tmp_path / one)) in str(error.value)
    assert repr(str(tmp_path / other)) in str(error.value)
    # Twins in different splits are as bad, unless the label map has one name for them.
    for split, name in (("train", one), ("test", other)):
        for label in (name, "dog"):
            fill(tmp_path / "export" / split / label)
    if one.casefold() != other.casefold():
        assert len(scan_folder(tmp_path / "export").classes) == 2
    else:
        with pytest.raises(UserError, match="look the same"):
            scan_folder(tmp_path / "export")


def test_a_name_that_is_not_utf_8_says_so(tmp_path: Path):
    fill(tmp_path / "dog")
    fill(Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4r")))
    with pytest.raises(UserError, match="not UTF-8") as error:
        scan_folder(tmp_path)
    assert "b\\udce4r" in str(error.value)
    str(error.value).encode()


def test_a_class_is_named_as_label_maps_are_read(tmp_path: Path):
    for name in ("trail ", "cafe\u0301"):
        fill(tmp_path / name)
    assert scan_folder(tmp_path).classes == ["caf\u00e9", "trail"]
