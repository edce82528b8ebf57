"""The sample, from its archive of photos to the evaluated file, without anything from outside."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestCentroid

from tests.conftest import copy_project, jobs_run, run_snakemake

SETTINGS = ("--config", "dataset=sample", "backbone=sample", "device=cpu")
RESULTS = "results/sample/sample"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    project = copy_project(tmp_path_factory.mktemp("demo"))
    done = run_snakemake(project, *SETTINGS, "--", f"{RESULTS}/evaluation.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done


def test_the_sample_is_learned_from_its_shapes(run):
    project, done = run
    assert "truncate" in jobs_run(done)
    evaluation = json.loads((project / RESULTS / "evaluation.json").read_text())
    assert evaluation["accuracy"] >= 0.9
    assert evaluation["photos"] >= 15
    paths = sorted((project / "resources/datasets/sample/photos").glob("*/*.jpg"))
    assert len(paths) == 300
    colours = [np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in paths]
    labels = [path.parent.name for path in paths]
    assert NearestCentroid().fit(colours, labels).score(colours, labels) < 0.6


def test_a_second_run_does_nothing(run):
    done = run_snakemake(run[0], *SETTINGS, "--", f"{RESULTS}/evaluation.json")
    assert jobs_run(done) == []


def test_switching_the_dataset_keeps_what_is_there(run, tmp_path: Path):
    project, _ = run
    drawn = project / "resources/datasets/sample/photos"
    (tmp_path / "mine").mkdir()
    for name in ("daisy", "rose"):
        (tmp_path / "mine" / name).symlink_to(drawn / name)
    mine = ("--config", f"dataset={tmp_path / 'mine'}", "backbone=sample", "device=cpu")
    done = run_snakemake(project, *mine, "--", "retrained_model.tflite")
    assert done.returncode == 0, done.stderr
    assert "truncate" not in jobs_run(done)
    assert (project / "label_map.txt").read_text() == "0 daisy\n1 rose\n"
    done = run_snakemake(project, *SETTINGS, "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver"]
    assert (project / "label_map.txt").read_text().count("\n") == 5
    done = run_snakemake(project, *mine, "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver"]
