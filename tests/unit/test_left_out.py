"""Photos that are not used are named and listed."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.training.softmax_regression import SoftmaxRegression
from tests.indexing import write_index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


def test_a_failing_index_lists_all_files_it_failed_on(root: Path, tmp_path: Path):
    for i in range(9):
        (root / "a" / f"broken{i}.jpg").write_bytes(b"no photo")
    listed = tmp_path / "not_photos.tsv"
    with pytest.raises(UserError, match=rf"and 4 more, in {listed}"):
        write_index(root, listed_in=listed)
    names = [Path(photo.path).name for photo in manifest.read_skipped(listed)]
    assert names == [f"broken{i}.jpg" for i in range(9)]
    for path in list((root / "b").iterdir())[2:]:
        path.write_bytes(b"no photo either")
    with pytest.raises(UserError, match=rf"'b' has 2 \(27 photos could not be read: see {listed}"):
        write_index(root, max_skipped=1, listed_in=listed)
    assert len(list(manifest.read_skipped(listed))) == 27


def test_photos_in_no_class_folder_are_listed_but_not_held_against_the_rest(root: Path):
    for i in range(30):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(root / f"stray{i:02}.png")
    found = write_index(root)
    assert len(found.photos) == 40
    assert [Path(photo.path).name for photo in found.skipped] == [
        f"stray{i:02}.png" for i in range(30)
    ]
    assert {photo.reason for photo in found.skipped} == {"lies in no class folder"}


def test_the_accuracy_after_the_last_step_is_logged(caplog):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    data = {
        "data_train": labels[:, None] + 0.1 * random.normal(size=(100, 4)),
        "labels_train": labels,
    }
    model = SoftmaxRegression(4, 2, seed=0)
    with caplog.at_level(logging.INFO):
        model.train_with_sgd(data, num_iter=50, learning_rate=1.0)
    (line,) = caplog.messages
    accuracy = model.get_accuracy(data["data_train"], labels)
    assert line.startswith("After 50 iterations: loss ")
    assert line.endswith(f"training accuracy {accuracy:.3f}")
