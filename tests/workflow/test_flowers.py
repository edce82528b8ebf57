"""The shipped run on real photos and published models: tests/config/flowers.yaml."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from edgetpu_retrain import dataset
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import Head
from tests.conftest import copy_project, jobs_run, run_in, run_snakemake

CONFIG = ("--configfile", "tests/config/flowers.yaml")
TARGET = "retrained_model_edgetpu.tflite"
NAMES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
PRODUCTS = ("retrained_model_edgetpu.tflite", "retrained_model.tflite", "label_map.txt")


@pytest.fixture(scope="module")
def run(shared, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    project = copy_project(tmp_path_factory.mktemp("flowers"))
    done = run_snakemake(project, *CONFIG, "--", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done


@pytest.fixture(scope="module")
def results(run) -> Path:
    return run[0] / "results" / "flower_photos_1000" / "mobilenet_v1_1.0_224"


@pytest.fixture(scope="module")
def embedded(results: Path) -> Embeddings:
    paths = sorted((results / "embeddings").glob("*.npz"))
    return Embeddings.load_all(list(paths))


def test_what_is_printed(run):
    printed = run[1].stdout + run[1].stderr
    assert "1000 photos in 5 classes, 0 skipped" in printed
    assert "test photos, on cpu" in printed
    assert "photo/s" in printed


def test_the_three_files(run):
    project, _ = run
    names = "".join(f"{i} {name}\n" for i, name in enumerate(NAMES))
    assert (project / "label_map.txt").read_text() == names
    for name in PRODUCTS[:2]:
        assert (project / name).stat().st_size > 3_000_000


def test_the_compiled_operator_is_the_published_one(run, models: Path):
    published, written = (
        schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0].operators[0]
        for path in (
            models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite",
            run[0] / "retrained_model_edgetpu.tflite",
        )
    )
    assert bytes(written.customOptions) == bytes(published.customOptions)
    assert b"DWN1" in bytes(written.customOptions)


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


def recipe(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The published recipe in plain numpy, with randomness of its own."""
    random = np.random.RandomState(seed)
    w, b = random.normal(0, 0.05, (x.shape[1], 5)), np.zeros(5)
    for _ in range(500):
        batch = random.choice(len(x), 100)
        logits = x[batch] @ w + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(100), y[batch]] -= 1
        w -= 0.01 * x[batch].T @ p / 100
        b -= 0.01 * p.mean(0)
    return w, b


def test_as_accurate_as_the_published_recipe(results: Path, embedded: Embeddings):
    x, labels = embedded.split("train")
    test_x, test_labels = embedded.split("test")
    y, test_y = (np.searchsorted(NAMES, names) for names in (labels, test_labels))
    accuracies = []
    for seed in range(8):
        w, b = recipe(x.astype(float), y, seed)
        accuracies.append(np.mean((test_x @ w + b).argmax(1) == test_y))
    found = json.loads((results / "evaluation.json").read_text())
    # A point, or one photo where the test split is so small that a photo weighs more.
    assert found["test"]["accuracy"] >= np.mean(accuracies) - max(0.01, 1.01 / len(test_y))
    assert found["test"]["accuracy"] > 0.85


def test_evaluation_is_of_the_file_on_raw_photos(run, results: Path):
    """Classified anew by classify_image.py, from the photos that the manifests list."""
    project, _ = run
    manifests = sorted((results.parent / "shards").glob("*.tsv"))
    tested = [p for path in manifests for p in dataset.read_shard(path) if p.split == "test"]
    done = run_in(
        project,
        *(sys.executable, "scripts/classify_image.py", "--model", "retrained_model.tflite"),
        *("--label", "label_map.txt", "--device", "cpu", "--input", *(p.path for p in tested)),
    )
    found = [line.split(":")[0].strip() for line in done.stdout.splitlines()[1::2]]
    evaluation = json.loads((results / "evaluation.json").read_text())
    confusion = Counter(zip((photo.label for photo in tested), found, strict=True))
    assert evaluation["test"]["confusion_matrix"] == [
        [confusion[row, column] for column in NAMES] for row in NAMES
    ]
    right = sum(photo.label == name for photo, name in zip(tested, found, strict=True))
    assert evaluation["test"]["accuracy"] == pytest.approx(right / len(tested))
    assert evaluation["test"]["photos"] == len(tested)
    assert evaluation["agreement_with_float_head"] >= 0.99
    assert evaluation["model"].endswith("retrained_model.tflite")


def test_a_sunflower_that_is_in_no_split(run, shared: Path):
    done = run_in(
        run[0],
        *(sys.executable, "scripts/classify_image.py", "--model", "retrained_model.tflite"),
        *("--label", "label_map.txt", "--input", str(shared / "data" / "sunflower.bmp")),
    )
    assert done.stdout.splitlines()[1].startswith("  sunflowers: 0.9")


def test_the_head_says_how_it_was_made(results: Path, embedded: Embeddings):
    head = Head.load(results / "head.npz")
    assert head.classes == tuple(NAMES)
    assert head.weights.dtype == np.float32
    assert head.weights.shape == (1024, 5)
    assert head.training["extractor"] == embedded.extractor
    assert head.training["photos"] == (embedded.splits == "train").sum()


def test_the_picture_can_be_opened(results: Path):
    with Image.open(results / "confusion_matrix.png") as picture:
        assert picture.format == "PNG"


def test_a_second_run_does_nothing(run):
    done = run_snakemake(run[0], *CONFIG, "--", TARGET)
    assert jobs_run(done) == []
    assert "Nothing to be done" in done.stdout + done.stderr


def test_cores_shards_and_time_change_no_byte(run, shared):
    """Once more from scratch, in another folder, otherwise divided."""
    project, _ = run
    again = copy_project(project.parent / "again")
    arguments = ("--cores", "1", *CONFIG, "--config", "shards=3", "--", TARGET)
    done = run_in(again, "snakemake", *arguments)
    assert done.returncode == 0, done.stderr
    for name in PRODUCTS:
        assert (again / name).read_bytes() == (project / name).read_bytes()


def test_another_seed_is_another_head(run):
    project, _ = run
    before = (project / "retrained_model.tflite").read_bytes()
    done = run_snakemake(project, *CONFIG, "--config", "seed=1", "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver", "evaluate", "serialize", "train"]
    assert (project / "retrained_model.tflite").read_bytes() != before
    run_snakemake(project, *CONFIG, "--", TARGET)
    assert (project / "retrained_model.tflite").read_bytes() == before
