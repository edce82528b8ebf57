"""Labelled photos in one folder per class."""

from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.labelling.export import export


def test_every_photo_is_in_the_folder_of_its_class(tmp_path: Path):
    photos = []
    for i, (folder, label) in enumerate(
        [("x", "rose"), ("y", "rose"), ("x", "a b"), ("z", "rose")]
    ):
        path = tmp_path / folder / ("1.jpg" if i < 3 else "2.jpg")
        path.parent.mkdir(exist_ok=True)
        path.write_text(folder + path.name)
        photos.append(Photo(str(path), label, "train", files.sha256(path)))
    photos.append(Photo(photos[0].path, "rose", "train", photos[0].sha256))
    (tmp_path / "out" / "old").mkdir(parents=True)
    assert export(photos, tmp_path / "out") == 4
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_text()
        for path in (tmp_path / "out").rglob("*.jpg")
    }
    assert found == {
        "rose/1.jpg": "x1.jpg",
        f"rose/{photos[1].sha256[:8]}-1.jpg": "y1.jpg",
        "a b/1.jpg": "x1.jpg",
        "rose/2.jpg": "z2.jpg",
    }
    assert not (tmp_path / "out" / "old").exists()


def test_without_labels_there_is_nothing_to_export(tmp_path: Path):
    with pytest.raises(UserError, match="No photo has a label yet"):
        export([], tmp_path / "out")
    gone = Photo(str(tmp_path / "gone.jpg"), "rose", "train", "0" * 64)
    with pytest.raises(UserError, match=r"gone\.jpg no longer exists"):
        export([gone], tmp_path / "out")
    assert not (tmp_path / "out").exists()
