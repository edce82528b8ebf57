"""The picture of a confusion matrix: names in any script, and any number of classes."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from PIL import Image

from edgetpu_retrain.evaluation import confusion_matrix

NAMES = ["日本の桜", "🐶 dog", "Роза", "بنفسج", "हिन्दी", "한국어", "$x^2", "🏳️‍🌈 flag", "ü" * 90]


def characters(families: list[str]) -> set[int]:
    """What the fonts of these families have, by another reader of fonts."""
    found: set[int] = set()
    for font in font_manager.fontManager.ttflist:
        if font.name in families and not font.fname.endswith(".ttc"):
            found |= TTFont(font.fname).getBestCmap().keys()
    return found


def test_names_can_be_drawn_or_read_in_ascii():
    names, fonts = confusion_matrix.drawable_names(NAMES)
    drawn = characters(["DejaVu Sans", *fonts])
    for name in names:
        assert all(ord(char) in drawn for char in name if char not in "\u200d\ufe0f"), name
        assert 0 < len(name) <= 30
    assert names[2] == "Роза"
    assert names[6] == "$x^2"
    assert "dog" in names[1]


def test_a_script_that_no_font_has_is_written_in_ascii(monkeypatch):
    monkeypatch.setattr(confusion_matrix, "_fonts", list)
    names, fonts = confusion_matrix.drawable_names(NAMES)
    assert fonts == []
    assert names[:2] == ["RiBennoYing", ":dog: dog"]
    assert names[5] == "HanGugEo"


@pytest.mark.parametrize("count", [2, 9, 41, 300, 1000])
def test_the_picture_opens_whatever_the_number_of_classes(tmp_path: Path, count: int):
    random = np.random.default_rng(0)
    confusion = np.diag(random.integers(5, 20, count))
    confusion[0, 1] = 3
    names = [NAMES[i] if i < len(NAMES) else f"class {i}" for i in range(count)]
    with warnings.catch_warnings():
        # Matplotlib warns of glyphs that it does not have.
        warnings.simplefilter("error", UserWarning)
        confusion_matrix.draw(confusion, names, "test photo", tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        picture.load()
    assert min(picture.size) > 500 and max(picture.size) < 3200


def test_the_pairs_that_are_confused_most():
    confusion = np.array([[9, 0, 2, 0], [4, 9, 0, 0], [0, 7, 9, 0], [0, 0, 0, 9]])
    assert confusion_matrix.worst_pairs(confusion, 2) == [(2, 1), (1, 0)]
    assert confusion_matrix.worst_pairs(confusion, 9) == [(2, 1), (1, 0), (0, 2)]
    assert confusion_matrix.worst_pairs(np.diag([1, 2]), 9) == []


def test_the_picture_is_of_what_judged_more_photos(tmp_path: Path, monkeypatch):
    drawn = []
    monkeypatch.setattr(confusion_matrix, "draw", lambda matrix, _, noun, __: drawn.append(noun))
    few, many = ({"photos": n, "confusion_matrix": [[n]]} for n in (52, 428))
    for test, cross_validation in ((few, many), (many, few), (few, None), (None, many)):
        evaluation = {"test": test, "cross_validation": cross_validation, "classes": ["a"]}
        confusion_matrix.plot(evaluation, tmp_path / "c.png")
    test_photo, cross_validated = "test photo", "cross-validated photo"
    assert drawn == [cross_validated, test_photo, test_photo, cross_validated]
