"""The recipes, from photos to the evaluated file, on the sample."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.index.manifest import SPLITS
from edgetpu_retrain.training import predictions
from tests.conftest import assert_user_error, copy_project, jobs_run, run_snakemake

BACKBONE = "results/sample/sample"
RESULTS = f"{BACKBONE}/optimum"
TARGET = f"{RESULTS}/evaluation.json"
SAMPLE = ("dataset=sample", "backbone=sample", "device=cpu")


@pytest.fixture(scope="module")
def project(tmp_path_factory, sample_photos: Path) -> Path:
    """Every photo trained on, and a test dataset of twelve photos."""
    project = copy_project(tmp_path_factory.mktemp("recipes"))
    for label in ("daisy", "tulip"):
        (project / "other" / label).mkdir(parents=True)
        for path in sorted((sample_photos / label).glob("*.jpg"))[:6]:
            shutil.copy(path, project / "other" / label)
    (project / "other" / "daisy" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    return project


def run(project: Path, *settings: str, recipe: str = "optimum") -> tuple[list[str], dict]:
    """Returns the jobs, and the evaluation of a recipe, by the name of its folder."""
    evaluation = f"{BACKBONE}/{recipe}/evaluation.json"
    done = run_snakemake(
        project,
        *("--config", *SAMPLE, "split={validation: 0, test: 0}", "test_dataset=other", *settings),
        *("--", evaluation),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return jobs_run(done), json.loads((project / evaluation).read_text())


def test_everything_is_trained_on_and_a_second_folder_tests(project: Path):
    _, found = run(project)
    manifest = (project / "results/sample/manifest.tsv").read_text().splitlines()[1:]
    assert found["test"] is None
    assert found["recipe"] == "optimum"
    cross_validation = found["cross_validation"]
    table = project / RESULTS / "predictions.tsv"
    out_of_fold = predictions.read(table, SPLITS)
    # All but the one that is broken.
    assert cross_validation["photos"] == len(manifest) - 1 == len(out_of_fold)
    assert cross_validation["accuracy"] == np.mean(out_of_fold.predicted == out_of_fold.labels)
    paths = [line.split("\t")[0] for line in manifest]
    assert list(out_of_fold.paths) == [path for path in paths if path in set(out_of_fold.paths)]
    assert found["agreement_with_float_head"] >= 0.99
    assert found["calibration"]["of"] == "cross_validation"
    assert len(found["learning_curve"]) == 3
    # Photos that it was trained on, as it happens, so nearly all are right.
    assert found["test_dataset"]["photos"] == 12
    assert found["test_dataset"]["correct"] >= 10
    paths = set(predictions.read(table, ("test_dataset",)).paths)
    assert paths == {str(path.relative_to(project)) for path in (project / "other").glob("*/[!b]*")}


def test_neither_seed_nor_shards_change_a_byte(project: Path):
    names = ("retrained_model.tflite", "predictions.tsv", "head.npz")
    before = [(project / RESULTS / name).read_bytes() for name in names]
    shutil.rmtree(project / "results")
    run(project, "seed=7", "shards=3")
    assert [(project / RESULTS / name).read_bytes() for name in names] == before


def test_the_other_recipes_stand_beside_the_first(project: Path):
    before = {path: path.read_bytes() for path in (project / RESULTS).iterdir()}
    setting = "training={recipe: imprinting}"
    jobs, imprinted = run(project, "shards=3", setting, recipe="imprinting")
    assert not {"index", "embed"} & set(jobs)
    assert imprinted["recipe"] == "imprinting"
    reached = imprinted["cross_validation"]["accuracy"]
    assert 0.5 < reached <= imprinted["softmax_regression"]["accuracy"] + 0.03
    assert imprinted["agreement_with_float_head"] > 0.97
    setting = "training={recipe: coral, num_iter: 300}"
    _, coral = run(project, "shards=3", setting, recipe="coral-num_iter=300")
    assert coral["recipe"] == "coral"
    assert coral["strength"] is None
    assert coral["cross_validation"]["accuracy"] > 0.7
    assert run(project, "seed=7", "shards=3")[0] == []
    assert {path: path.read_bytes() for path in (project / RESULTS).iterdir()} == before


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("training={num_iter: 5}", ["training.num_iter", "recipe coral"]),
        ("training={recipe: best}", ["training.recipe is 'best'"]),
        ("test_dataset=nowhere", ["test_dataset", "nowhere"]),
    ],
)
def test_mistakes_are_named(project: Path, setting: str, parts: list[str]):
    done = run_snakemake(project, "-n", "--config", *SAMPLE, setting, "--", TARGET)
    assert_user_error(done, *parts)
