"""Which photos a float network is calibrated on, and which it is checked on."""

import hashlib
import random
from pathlib import Path

import pytest

from edgetpu_retrain.backbone.quantize import calibration
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo


def photo(label: str, number: int, split: str = "train") -> Photo:
    sha256 = hashlib.sha256(f"{label} {number}".encode()).hexdigest()
    return Photo(f"{label}/{number}.jpg", label, split, sha256)


PHOTOS = [
    photo(label, number, "test" if number % 5 == 0 else "train")
    for label, count in (("daisy", 100), ("rose", 100), ("rare", 10))
    for number in range(count)
]
LABELS = {one.sha256: one.label for one in PHOTOS}
SPLITS = {one.sha256: one.split for one in PHOTOS}


def count(chosen: list[str]) -> dict[str, int]:
    labels = [LABELS[sha256] for sha256 in chosen]
    return {label: labels.count(label) for label in set(labels)}


def test_every_class_gives_its_share_of_training_photos():
    chosen = calibration.choose_for_calibration(PHOTOS, 50)
    assert count(chosen) == {"daisy": 21, "rose": 21, "rare": 8}
    assert {SPLITS[sha256] for sha256 in chosen} == {"train"}
    assert count(calibration.choose_for_calibration(PHOTOS, 6)) == {
        "daisy": 2,
        "rose": 2,
        "rare": 2,
    }
    assert len(calibration.choose_for_calibration(PHOTOS, 1000)) == 168


def test_the_order_and_the_names_of_files_make_no_difference():
    renamed = [Photo(f"x{i}", one.label, one.split, one.sha256) for i, one in enumerate(PHOTOS)]
    random.Random(0).shuffle(renamed)
    chosen = calibration.choose_for_calibration(PHOTOS, 50)
    assert calibration.choose_for_calibration(renamed, 50) == chosen
    # A copy in another class counts once.
    copies = [Photo("copy", "other", one.split, one.sha256) for one in PHOTOS[:20]]
    assert len(set(calibration.choose_for_calibration(PHOTOS + copies, 50))) == 50


def test_a_network_is_checked_on_other_photos():
    calibrated = calibration.choose_for_calibration(PHOTOS, 100)
    checked = calibration.choose_for_check(PHOTOS, 80, set(calibrated))
    assert len(checked) == 80
    assert not set(checked) & set(calibrated)


def test_the_list_is_kept(tmp_path: Path):
    chosen = calibration.choose_for_calibration(PHOTOS, 50)
    calibration.write(chosen, tmp_path / "calibration.tsv")
    assert calibration.read(tmp_path / "calibration.tsv") == chosen
    (tmp_path / "calibration.tsv").write_text("sha256\tpath\n")
    with pytest.raises(UserError, match="expected the columns sha256"):
        calibration.read(tmp_path / "calibration.tsv")
