"""The sample, from its archive of photos to the evaluated file, without anything from outside."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import copy_project, jobs_run, run_snakemake

SETTINGS = ("--config", "dataset=sample", "backbone=sample", "device=cpu")
RESULTS = "results/sample/sample"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    project = copy_project(tmp_path_factory.mktemp("demo"))
    done = run_snakemake(project, *SETTINGS, "--", f"{RESULTS}/evaluation.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done


def test_the_sample_is_learned_but_for_what_is_like_real_life(run):
    project, done = run
    assert "make_extractor" in jobs_run(done)
    evaluation = json.loads((project / RESULTS / "evaluation.json").read_text())
    assert 0.88 <= evaluation["cross_validation"]["accuracy"] <= 0.98
    assert evaluation["test"]["photos"] >= 30
    skipped = (project / RESULTS / "skipped.tsv").read_text()
    assert skipped.count("\n") == 2
    assert "daisy/IMG_1122.jpg\tcannot be decoded" in skipped


def test_a_second_run_does_nothing(run):
    done = run_snakemake(run[0], *SETTINGS, "--", f"{RESULTS}/evaluation.json")
    assert jobs_run(done) == []


def test_switching_the_dataset_keeps_what_is_there(run, tmp_path: Path):
    project, _ = run
    photos = project / "resources/datasets/sample/photos"
    (tmp_path / "mine").mkdir()
    for name in ("daisy", "rose"):
        (tmp_path / "mine" / name).symlink_to(photos / name)
    mine = ("--config", f"dataset={tmp_path / 'mine'}", "backbone=sample", "device=cpu")
    done = run_snakemake(project, *mine, "--", "retrained_model.tflite")
    assert done.returncode == 0, done.stderr
    assert "make_extractor" not in jobs_run(done)
    assert (project / "label_map.txt").read_text() == "0 daisy\n1 rose\n"
    done = run_snakemake(project, *SETTINGS, "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver"]
    assert (project / "label_map.txt").read_text().count("\n") == 5
    done = run_snakemake(project, *mine, "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver"]
