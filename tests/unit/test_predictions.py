from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain import UserError
from edgetpu_retrain.predictions import Predictions

TABLE = Predictions(
    ("a/tab\there.jpg", "b/ü\rx.jpg", "a/\udcff.jpg"),
    np.array(["1" * 64, "2" * 64, "3" * 64], "S64"),
    ("a", "fold"),
    np.array([0, 1, 0]),
    np.array(["train", "validation", "test"]),
    np.array([3, 0, -1]),
    np.array([[0.1, 0.9], [1e-9, 1.0], [0.75, 0.25]], np.float32),
)


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    TABLE.write(tmp_path / "predictions.tsv")
    found = Predictions.read(tmp_path / "predictions.tsv")
    assert (found.paths, found.classes) == (TABLE.paths, TABLE.classes)
    for name in ("identities", "labels", "splits", "folds", "scores"):
        assert np.array_equal(getattr(found, name), getattr(TABLE, name)), name
    text = (tmp_path / "predictions.tsv").read_text("utf-8", "surrogateescape")
    assert text.startswith("path\tsha256\tclass\tsplit\tfold\tpredicted\ta\tfold\n")
    assert f"{'3' * 64}\ta\ttest\t\ta\t0.75\t0.25\n" in text
    assert found.out_of_fold.paths == TABLE.paths[:2]


@pytest.mark.parametrize(
    ("old", "new"), [("sha256", "sha1"), ("\t0.25", ""), ("\ttest\t\ta", "\ttest\tx\ta")]
)
def test_a_damaged_table_is_an_error_with_its_line(tmp_path: Path, old: str, new: str):
    path = tmp_path / "predictions.tsv"
    TABLE.write(path)
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(UserError, match=r"predictions\.tsv, line [15]"):
        Predictions.read(path)
