"""The shipped run on real photos and published models: tests/config/flowers.yaml."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.embeddings.labelled_embeddings import TEST, TRAIN, LabelledEmbeddings
from edgetpu_retrain.index import manifest
from tests.conftest import copy_project, run_in, run_snakemake

CONFIG = ("--configfile", "tests/config/flowers.yaml")
TARGET = "retrained_model_edgetpu.tflite"
NAMES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


@pytest.fixture(scope="module")
def run(shared, tmp_path_factory) -> Path:
    project = copy_project(tmp_path_factory.mktemp("flowers"))
    done = run_snakemake(project, *CONFIG, "--", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture(scope="module")
def results(run) -> Path:
    return run / "results" / "flower_photos_1000" / "mobilenet_v1_1.0_224" / "optimum"


def test_the_three_files(run):
    names = "".join(f"{i} {name}\n" for i, name in enumerate(NAMES))
    assert (run / "label_map.txt").read_text() == names
    for name in (TARGET, "retrained_model.tflite"):
        assert (run / name).stat().st_size > 3_000_000


def test_the_compiled_operator_is_the_published_one(run, models: Path):
    published, written = (
        schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0].operators[0]
        for path in (
            models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite",
            run / "retrained_model_edgetpu.tflite",
        )
    )
    assert bytes(written.customOptions) == bytes(published.customOptions)
    assert b"DWN1" in bytes(written.customOptions)


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


def test_as_accurate_as_the_published_recipe(results: Path):
    paths = sorted((results.parent / "embeddings").glob("*.npz"))
    listed = manifest.read(results.parents[1] / "manifest.tsv")
    labelled = LabelledEmbeddings.load(paths, listed)
    vectors = labelled[:]
    train, test = (labelled.splits == number for number in (TRAIN, TEST))
    (x, y), (test_x, test_y) = ((vectors[s], labelled.labels[s]) for s in (train, test))
    accuracies = []
    for seed in range(8):
        w, b = recipe(x.astype(float), y, seed)
        accuracies.append(np.mean((test_x @ w + b).argmax(1) == test_y))
    evaluation = json.loads((results / "evaluation.json").read_text())
    found = evaluation["test"]["accuracy"]
    # A point, or one photo where the test split is so small that a photo weighs more.
    assert found >= np.mean(accuracies) - max(0.01, 1.01 / len(test_y))
    assert found > 0.85


def test_a_sunflower_that_is_in_no_split(run, shared: Path):
    done = run_in(
        run,
        *(sys.executable, "scripts/classify_image.py", "--model", "retrained_model.tflite"),
        *("--label", "label_map.txt", "--input", str(shared / "data" / "sunflower.bmp")),
    )
    assert done.stdout.splitlines()[1].startswith("  sunflowers: 0.9")
