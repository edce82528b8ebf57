"""Changes in one folder, one after the other: each gives what a fresh run gives.

No photo that was embedded is decoded again: what is decoded is counted in Pillow itself.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from tests.conftest import (
    ROOT,
    configure,
    copy_project,
    jobs_run,
    lay_photos,
    run_in,
    small_backbone,
)

TARGETS = ("retrained_model_edgetpu.tflite", "retrained_model.tflite", "label_map.txt")
# Loaded by every Python of the run, as `sitecustomize`.
COUNTING = """\
import hashlib
import os
import sys

from PIL import ImageFile

load = ImageFile.ImageFile.load


def load_and_tell(image):
    if image.tile and not hasattr(image, "told"):
        image.told = True
        position = image.fp.tell()
        image.fp.seek(0)
        with open(os.environ["DECODED"], "a") as file:
            script = os.path.basename(sys.argv[0]).split(".", 1)[-1]
            file.write(f"{script} {hashlib.sha256(image.fp.read()).hexdigest()}\\n")
        image.fp.seek(position)
    return load(image)


ImageFile.ImageFile.load = load_and_tell
"""


class Folder:
    """A project with photos, whose runs tell what they decode."""

    def __init__(self, folder: Path, photos: Path, made: Path):
        self.project = copy_project(folder)
        self.photos = self.project / "photos"
        shutil.copytree(photos, self.photos)
        (folder / "counting").mkdir()
        (folder / "counting" / "sitecustomize.py").write_text(COUNTING)
        self.log = folder / "decoded"
        configure(
            self.project, dataset="photos", backbone=small_backbone(made), device="cpu", shards=4
        )

    def run(self, *settings: str, targets: Sequence[str] = TARGETS) -> tuple[list[str], Counter]:
        """Runs the workflow; returns the jobs, and how often each photo was decoded to embed it."""
        self.log.write_text("")
        config = ["--config", *settings] if settings else []
        done = run_in(
            self.project,
            *("env", f"PYTHONPATH={self.log.with_name('counting')}:{ROOT}", f"DECODED={self.log}"),
            *("snakemake", "--cores", "2", *config, "--", *targets),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        decoded = [line.split() for line in self.log.read_text().splitlines()]
        # The evaluation classifies a few raw photos, the report shows a few; nothing else looks.
        assert {script for script, _ in decoded} <= {"embed.py", "evaluate.py", "report.py"}
        return jobs_run(done), Counter(photo for script, photo in decoded if script == "embed.py")

    def results(self) -> dict[str, object]:
        """What a run made: models, label map, what is listed, and the evaluation."""
        results = self.project / "results/photos"
        evaluation = json.loads((results / "small/optimum/evaluation.json").read_text())
        del evaluation["photos_per_second"]
        return {
            **{name: (self.project / name).read_bytes() for name in TARGETS},
            "manifest": list(manifest.read(results / "manifest.tsv")),
            "skipped": list(manifest.read_skipped(results / "small/skipped.tsv")),
            "evaluation": evaluation,
        }


@pytest.fixture(scope="module")
def changing(tmp_path_factory, sample_photos: Path, made: Path) -> Folder:
    """Three classes of 20 photos; one photo is broken behind its first bytes."""
    source = tmp_path_factory.mktemp("source") / "photos"
    lay_photos(sample_photos, source, 20, ("daisy", "rose", "tulip"))
    broken = source / "rose" / "broken.jpg"
    broken.write_bytes(min((source / "rose").iterdir()).read_bytes()[:1500])
    return Folder(tmp_path_factory.mktemp("changing"), source, made)


@pytest.fixture
def equals_a_fresh_run(changing: Folder, tmp_path: Path, made: Path):
    """Runs in a new folder, with the photos as they are now, and compares what was made."""

    def compare(*settings: str) -> None:
        fresh = Folder(tmp_path / "fresh", changing.photos, made)
        fresh.run(*settings, "shards=1")
        assert changing.results() == fresh.results()

    return compare


def identities(changing: Folder) -> set[str]:
    return {files.sha256(path) for path in changing.photos.rglob("*.jpg")}


def test_every_photo_is_decoded_once(changing: Folder):
    _, decoded = changing.run()
    assert decoded == Counter(identities(changing))
    jobs, decoded = changing.run()
    assert (jobs, decoded) == ([], Counter())


def test_a_file_that_is_no_photo(changing: Folder):
    (changing.photos / "rose" / "notes.txt").write_text("found in the garden")
    jobs, decoded = changing.run()
    assert (jobs, decoded) == ([], Counter())


def test_a_photo_sorted_into_another_class(changing: Folder, equals_a_fresh_run):
    before = changing.results()
    for path in sorted((changing.photos / "daisy").iterdir())[:3]:
        path.rename(changing.photos / "tulip" / path.name)
    jobs, decoded = changing.run()
    assert "train" in jobs
    assert "embed" not in jobs
    assert not decoded
    assert changing.results()["retrained_model.tflite"] != before["retrained_model.tflite"]
    equals_a_fresh_run()


def test_photos_that_are_moved_and_renamed(changing: Folder, equals_a_fresh_run):
    (changing.photos / "rose").rename(changing.photos / "dog rose")
    (changing.photos / "tulip" / "deeper").mkdir()
    path = min((changing.photos / "tulip").glob("*.jpg"))
    path.rename(changing.photos / "tulip" / "deeper" / "new name.jpg")
    jobs, decoded = changing.run()
    assert "embed" not in jobs
    assert not decoded
    assert (changing.project / "label_map.txt").read_text() == "0 daisy\n1 dog rose\n2 tulip\n"
    equals_a_fresh_run()


def test_photos_that_are_deleted_and_added(changing: Folder, equals_a_fresh_run, sample_photos):
    min((changing.photos / "daisy").iterdir()).unlink()
    new = sorted((sample_photos / "daisy").iterdir())[40]
    shutil.copy(new, changing.photos / "daisy")
    jobs, decoded = changing.run()
    assert jobs.count("embed") in (1, 2)
    assert decoded == Counter([files.sha256(new)])
    equals_a_fresh_run()


def test_another_split(changing: Folder, equals_a_fresh_run):
    before = changing.results()
    split = "split={test: 0.3, validation: 0.2}"
    jobs, decoded = changing.run(split)
    assert "embed" not in jobs
    assert not decoded
    assert changing.results()["manifest"] != before["manifest"]
    equals_a_fresh_run(split)
    _, decoded = changing.run()
    assert not decoded
    assert changing.results() == before


def test_other_numbers_of_shards(changing: Folder, equals_a_fresh_run):
    before = changing.results()
    folder = changing.project / "results/photos/small/embeddings"
    assert changing.run("shards=8")[1] == Counter()
    for count in (4, 12):
        if count == 12:
            # What is missing is made again, from what is left.
            os.unlink(changing.project / "results/photos/shards/0002-of-0004.tsv")
        jobs, decoded = changing.run(f"shards={count}")
        assert not decoded
        assert jobs.count("embed") == count
        assert len(list(folder.glob("*.npz"))) == count
        assert len(list(folder.glob(".*.embed"))) == count
        assert len(list(folder.glob(".known/*/*.npz"))) == count
        assert changing.results() == before
        assert changing.run(f"shards={count}")[0] == []
    equals_a_fresh_run()
    # A result that is missing is made again for the right number of shards.
    shutil.rmtree(folder.parent)
    _, decoded = changing.run("shards=12", targets=["all"])
    assert decoded == Counter(identities(changing))
    assert changing.results() == before


def test_another_recipe_with_another_number_of_shards(changing: Folder):
    optimum, coral = (
        f"results/photos/small/{name}/evaluation.json" for name in ("optimum", "coral")
    )
    changing.run("shards=2", targets=[optimum])
    both = ("shards=3", "training={recipe: coral}")
    jobs, decoded = changing.run(*both, targets=[coral])
    assert jobs.count("embed") == 3
    assert not decoded
    assert json.loads((changing.project / coral).read_text())["recipe"] == "coral"
    assert changing.run(*both, targets=[coral])[0] == []
