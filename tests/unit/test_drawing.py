import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestCentroid

from edgetpu_retrain.drawing import DEMO_CLASSES, draw_dataset, draw_photo

KINDS = Path(__file__).parents[2] / "workflow/sample/pretraining_kinds.py"


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.rglob("*.jpg"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_dataset(folder, 60, 0)
    return folder


def test_a_folder_of_photos_per_class(drawn: Path):
    assert sorted(path.name for path in drawn.iterdir()) == sorted(DEMO_CLASSES)
    names = sorted(path.name for path in (drawn / "rose").iterdir())
    assert names == [f"rose_{index:03d}.jpg" for index in range(60)]


def test_the_same_seed_gives_the_same_bytes_and_more_photos_change_none(
    drawn: Path, tmp_path: Path
):
    draw_dataset(tmp_path, 3, 0)
    fewer, more = contents(tmp_path), contents(drawn)
    assert len(fewer) == 3 * len(DEMO_CLASSES)
    assert fewer == {name: more[name] for name in fewer}
    assert len(set(more.values())) == len(more)


def test_another_seed_gives_other_photos(drawn: Path, tmp_path: Path):
    draw_dataset(tmp_path, 1, 1)
    assert not set(contents(tmp_path).values()) & set(contents(drawn).values())


def test_photos_are_jpegs_of_varying_size(drawn: Path):
    sizes = set()
    for path in drawn.rglob("*.jpg"):
        with Image.open(path) as photo:
            photo.load()
            assert (photo.format, photo.mode) == ("JPEG", "RGB")
            sizes.add(photo.size)
    assert all(140 <= side <= 180 for size in sizes for side in size)
    assert len(sizes) > 100


def test_a_photo_of_a_given_size():
    photo = draw_photo("tulip", np.random.default_rng(0), (200, 120))
    assert (photo.mode, photo.size) == ("RGB", (200, 120))


def test_colour_alone_does_not_tell_the_classes_apart(drawn: Path):
    paths = sorted(drawn.rglob("*.jpg"))
    colours = [np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in paths]
    labels = [path.parent.name for path in paths]
    assert NearestCentroid().fit(colours, labels).score(colours, labels) < 0.6


def test_the_backbone_is_trained_on_other_kinds():
    spec = importlib.util.spec_from_file_location("pretraining_kinds", KINDS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.PRETRAINING_KINDS) >= 20
    assert not {name.lower() for name in module.PRETRAINING_KINDS} & set(DEMO_CLASSES)
