from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.training import predictions

CLASSES = ("a", "fold")
PHOTOS = [
    Photo("a/tab\there.jpg", "a", "train", "1" * 64),
    Photo("b/ü\rx\ny.jpg", "fold", "validation", "2" * 64),
    Photo("a/\udcff.jpg", "a", "test", "3" * 64),
    Photo("x/last.jpg", "fold", "test_dataset", "4" * 64),
]
FOLDS = [3, 0, -1, -1]
SCORES = np.array([[0.1, 0.9], [1e-9, 1.0], [0.75, 0.25], [0.25, 0.75]], np.float32)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "predictions.tsv"
    with predictions.writing(path, CLASSES) as add:
        for photo, fold, scores in zip(PHOTOS, FOLDS, SCORES, strict=True):
            add(photo, fold, scores)
    return path


def test_a_table_is_read_as_it_was_written(table: Path):
    found = predictions.read(table)
    assert found.classes == CLASSES
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert [predictions.SPLITS[split] for split in found.splits] == [p.split for p in PHOTOS]
    assert found.folds.tolist() == FOLDS
    assert found.scores.dtype == np.float32
    assert np.array_equal(found.scores, SCORES)
    assert found.paths == [photo.path for photo in PHOTOS]
    assert found.identities == [photo.sha256 for photo in PHOTOS]
    text = table.read_text("utf-8", "surrogateescape")
    assert text.startswith("path\tsha256\tclass\tsplit\tfold\tpredicted\ta\tfold\n")
    assert f"{'3' * 64}\ta\ttest\t\ta\t0.75\t0.25\n" in text


def test_of_some_splits_alone(table: Path):
    found = predictions.read(table, ("validation", "test"))
    assert found.labels.tolist() == [1, 0]
    assert found.paths == [PHOTOS[1].path, PHOTOS[2].path]
    assert np.array_equal(found.scores, SCORES[1:3])


@pytest.mark.parametrize(
    ("old", "new"),
    [("sha256", "sha1"), ("\t0.25\n", "\n"), ("\ttest\t\ta", "\ttest\tx\ta"), ("\ttest\t", "\t\t")],
)
def test_a_damaged_table_is_an_error_with_its_line(table: Path, old: str, new: str):
    table.write_bytes(table.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(UserError, match=r"predictions\.tsv, line [16]"):
        predictions.read(table)


def test_names_that_start_like_a_formula_are_read_as_they_were(tmp_path: Path):
    photo = Photo("-x/@.jpg", "=1+1", "test", "1" * 64)
    with predictions.writing(tmp_path / "table.tsv", ("=1+1", "@b")) as add:
        add(photo, -1, np.array([0.75, 0.25], np.float32))
    found = predictions.read(tmp_path / "table.tsv")
    assert found.classes == ("=1+1", "@b")
    assert (found.labels.tolist(), found.paths) == ([0], ["-x/@.jpg"])
