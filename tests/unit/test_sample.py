"""The sample's photos are what draw_photos.py makes, and what planted.tsv says of them is so."""

import csv
import hashlib
import importlib
import io
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.neighbors import NearestCentroid

from edgetpu_retrain.photos import decode

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample"
ARCHIVE = SAMPLE / "photos.zip"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def planted() -> list[dict[str, str]]:
    with (SAMPLE / "planted.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def beside(name: str) -> ModuleType:
    """Imports one of the sample's scripts; it finds the others as it does when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SAMPLE)
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def draw_photos() -> ModuleType:
    return beside("draw_photos")


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode.read_photo(content), np.float32)


def test_the_catalogue_has_its_checksum():
    entry = yaml.safe_load((ROOT / "workflow/datasets.yaml").read_text())["sample"]
    assert ROOT / entry["archive"] == ARCHIVE
    assert entry["sha256"] == hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()
    assert ARCHIVE.stat().st_size <= 2_500_000


def test_what_is_in_it(files: dict[str, bytes], draw_photos: ModuleType):
    classes = Counter(path.split("/")[0] for path in files)
    assert set(classes) == set(draw_photos.FLOWERS)
    assert sorted(classes.values()) == [60, 60, 61, 61, 61]
    sizes = [Image.open(io.BytesIO(content)).size for content in files.values()]
    assert all(100 <= side <= 240 for size in sizes for side in size)


def test_a_photo_drawn_anew_is_that_of_the_archive(
    files: dict[str, bytes], draw_photos: ModuleType
):
    drawn, _ = draw_photos.draw_all(4)
    assert len(drawn) == 5 * 4 + 1
    for path, content in drawn.items():
        # Another build of Pillow or numpy may round otherwise.
        assert np.abs(pixels(content) - pixels(files[path])).mean() < 1, path


def test_the_archive_depends_on_its_files_only(
    files: dict[str, bytes], draw_photos: ModuleType, tmp_path: Path
):
    draw_photos.pack(files, tmp_path / "photos.zip")
    assert (tmp_path / "photos.zip").read_bytes() == ARCHIVE.read_bytes()


def test_four_wrong_labels(planted: list[dict[str, str]], files: dict[str, bytes]):
    wrong = [entry for entry in planted if entry["what"] == "wrong label"]
    assert len(wrong) == 4
    for entry in wrong:
        assert entry["path"] in files
        assert entry["truth"] != entry["path"].split("/")[0]
        assert entry["truth"] in {path.split("/")[0] for path in files}


def test_three_near_copies(planted: list[dict[str, str]], files: dict[str, bytes]):
    copies = [entry for entry in planted if entry["what"].endswith("copy")]
    assert {entry["what"].split()[0] for entry in copies} == {"re-encoded", "resized", "brightened"}
    for entry in copies:
        copy, original = files[entry["path"]], files[entry["truth"]]
        assert copy != original
        thumbnails = [
            np.asarray(decode.read_photo(content).convert("L").resize((16, 16)), float).ravel()
            for content in (copy, original)
        ]
        assert np.corrcoef(*thumbnails)[0, 1] > 0.98


def test_only_the_broken_photo_cannot_be_read(
    planted: list[dict[str, str]], files: dict[str, bytes]
):
    broken = []
    for path, content in files.items():
        try:
            decode.read_photo(content)
        except decode.PhotoError:
            broken.append(path)
    assert broken == [entry["path"] for entry in planted if entry["what"] == "broken"]
    assert len(broken) == 1


def test_colour_alone_does_not_tell_the_classes_apart(
    planted: list[dict[str, str]], files: dict[str, bytes]
):
    broken = {entry["path"] for entry in planted if entry["what"] == "broken"}
    paths = [path for path in files if path not in broken]
    colours = [pixels(files[path]).mean(axis=(0, 1)) for path in paths]
    labels = [path.split("/")[0] for path in paths]
    assert NearestCentroid().fit(colours, labels).score(colours, labels) < 0.6


def test_the_backbone_is_trained_on_other_kinds(draw_photos: ModuleType):
    kinds = beside("pretraining_kinds").PRETRAINING_KINDS
    assert len(kinds) >= 20
    assert not set(kinds) & set(draw_photos.FLOWERS)
