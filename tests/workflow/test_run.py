"""A whole run on the sample's photos with an extractor and its compiled twin, made beforehand."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.head import Head
from edgetpu_retrain.index import manifest
from tests.conftest import (
    configure,
    copy_project,
    jobs_run,
    run_in,
    run_snakemake,
    small_backbone,
)

TARGET = "retrained_model_edgetpu.tflite"
NAMES = ["bellflower", "daisy", "dandelion", "rose", "tulip"]
PRODUCTS = ("retrained_model_edgetpu.tflite", "retrained_model.tflite", "label_map.txt")


def lay(folder: Path, photos: Path, made: Path) -> Path:
    """A project whose configuration names the sample's photos, without the broken one."""
    project = copy_project(folder)
    (project / "photos").symlink_to(photos)
    configure(project, dataset="photos", backbone=small_backbone(made), device="cpu", shards=4)
    return project


@pytest.fixture(scope="module")
def run(sample_photos, made, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    project = lay(tmp_path_factory.mktemp("run"), sample_photos, made)
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done


@pytest.fixture(scope="module")
def results(run) -> Path:
    return run[0] / "results/photos/small/optimum"


def test_what_is_printed(run):
    printed = run[1].stdout + run[1].stderr
    assert "302 photos in 5 classes" in printed
    assert "95% interval" in printed


def test_the_three_files(run):
    project, _ = run
    names = "".join(f"{i} {name}\n" for i, name in enumerate(NAMES))
    assert (project / "label_map.txt").read_text() == names
    model = schema.ModelT.InitFromPackedBuf((project / "retrained_model.tflite").read_bytes(), 0)
    (output,) = model.subgraphs[0].outputs
    assert model.subgraphs[0].tensors[output].shape.tolist() == [1, 5]


def test_the_compiled_operator_is_the_one_that_was_brought(run, made: Path):
    brought, written = (
        schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0].operators[0]
        for path in (made / "extractor_edgetpu.tflite", run[0] / TARGET)
    )
    assert bytes(written.customOptions) == bytes(brought.customOptions)


def test_both_twins_hold_the_same_head(run):
    layers = []
    for name in PRODUCTS[:2]:
        model = schema.ModelT.InitFromPackedBuf((run[0] / name).read_bytes(), 0)
        tensors = {tensor.name: tensor for tensor in model.subgraphs[0].tensors}
        layers.append(
            [
                bytes(model.buffers[tensors[key].buffer].data)
                for key in (b"head/weights", b"head/biases")
            ]
        )
    assert layers[0] == layers[1]


def test_evaluation_is_of_the_file_on_raw_photos(run, results: Path):
    """Classified anew by classify_image.py, from the photos that the manifest lists."""
    project, _ = run
    listed = manifest.read(results.parents[1] / "manifest.tsv")
    tested = [photo for photo in listed if photo.split == "test"]
    assert len(tested) > 15
    done = run_in(
        project,
        *(sys.executable, "scripts/classify_image.py", "--model", "retrained_model.tflite"),
        *("--label", "label_map.txt", "--device", "cpu", "--input", *(p.path for p in tested)),
    )
    found = [line.split(":")[0].strip() for line in done.stdout.splitlines()[1::2]]
    evaluation = json.loads((results / "evaluation.json").read_text())
    test = evaluation["test"]
    confusion = Counter(zip((photo.label for photo in tested), found, strict=True))
    assert test["confusion_matrix"] == [
        [confusion[row, column] for column in NAMES] for row in NAMES
    ]
    correct = sum(photo.label == name for photo, name in zip(tested, found, strict=True))
    assert test["accuracy"] == pytest.approx(correct / len(tested))
    assert test["photos"] == len(tested)
    assert evaluation["agreement_with_float_head"] >= 0.9
    assert evaluation["model"].endswith("retrained_model.tflite")


def test_the_head_says_how_it_was_made(results: Path):
    embedded = Embeddings.load(min((results.parent / "embeddings").glob("*.npz")))
    head = Head.load(results / "head.npz")
    assert head.classes == tuple(NAMES)
    assert head.weights.dtype == np.float32
    assert head.weights.shape == (256, 5)
    assert head.training["extractor"] == embedded.extractor


def test_the_picture_can_be_opened(results: Path):
    with Image.open(results / "confusion_matrix.png") as picture:
        assert picture.format == "PNG"


def test_a_second_run_does_nothing(run):
    done = run_snakemake(run[0], TARGET)
    assert jobs_run(done) == []
    assert "Nothing to be done" in done.stdout + done.stderr


def test_cores_shards_and_time_change_no_byte(run, sample_photos: Path, made: Path):
    """Once more from scratch, in another folder, otherwise divided."""
    project, _ = run
    again = lay(project.parent / "again", sample_photos, made)
    done = run_in(again, "snakemake", "--cores", "1", "--config", "shards=3", "--", TARGET)
    assert done.returncode == 0, done.stderr
    for name in PRODUCTS:
        assert (again / name).read_bytes() == (project / name).read_bytes()


def test_the_published_recipe_and_its_seed(run):
    """Its random numbers begin at the seed; whatever is trained, nothing is embedded again."""
    project, _ = run
    before = (project / "retrained_model.tflite").read_bytes()
    models = {before}
    for seed in (0, 1):
        settings = ("training={recipe: coral}", f"seed={seed}")
        done = run_snakemake(project, "--config", *settings, "--", "retrained_model.tflite")
        assert done.returncode == 0, done.stderr
        assert not {"index", "embed", "make_extractor"} & set(jobs_run(done))
        models.add((project / "retrained_model.tflite").read_bytes())
    assert len(models) == 3
    run_snakemake(project, TARGET)
    assert (project / "retrained_model.tflite").read_bytes() == before
