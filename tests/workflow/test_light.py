"""Runs in an environment of `make light`, which lacks the packages of the other extras."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import (
    ROOT,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    run_in,
    run_snakemake,
    small_backbone,
)

# A sitecustomize.py that makes Python find none of these modules.
HIDE = """\
import sys

HIDDEN = {"ai_edge_quantizer", "anyascii", "flask", "keras", "matplotlib", "sklearn", "tensorflow",
          "waitress"}


class Finder:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in HIDDEN:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Finder, sys.meta_path)
"""


@pytest.fixture
def light(project: Path, made: Path, sample_photos: Path, monkeypatch) -> Path:
    """A copy of the project with a few photos, without the packages of other extras."""
    folder = project / "hide"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDE)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    lay_photos(sample_photos, project / "photos/few", 8)
    configure(project, dataset="photos/few", backbone=small_backbone(made), device="cpu")
    return project


def test_a_whole_run_needs_no_other_extra(light: Path):
    done = run_snakemake(light, "--", "all", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in light.glob("results/few/small/optimum/*")}
    assert {"report.html", "retrained_model_edgetpu.tflite"} <= made
    assert "confusion_matrix.png" not in made
    assert "Confusion matrix:" not in done.stdout
    assert jobs_run(run_snakemake(light, "--", "all", "bundle")) == []
    done = run_snakemake(light, "--", "results/few/small/optimum/confusion_matrix.png")
    assert_user_error(done, "matplotlib, which is not installed", ".[report]")


def test_what_needs_tensorflow_is_refused_before_anything_runs(light: Path):
    done = run_snakemake(light, "--config", "backbone=sample", "--", "retrained_model.tflite")
    assert_user_error(done, "sample (of kind frozen_graph)", "TensorFlow", ".[tensorflow]")
    assert jobs_run(done) == []
    assert not (light / "results").exists()


def test_photos_without_a_label_need_the_extra_of_the_page(light: Path):
    (light / "photos/heap").mkdir()
    (light / "photos/few/daisy").rename(light / "photos/heap/daisy")
    done = run_snakemake(light, "--config", "unlabelled=photos/heap", "--", "all")
    assert_user_error(done, "unlabelled in the configuration", ".[label]")
    assert jobs_run(done) == []


def test_the_page_says_what_it_needs_before_anything_runs(light: Path):
    done: subprocess.CompletedProcess[str] = run_in(light, "python", "scripts/label.py")
    assert_user_error(done, "The package flask", ".[label]")
    assert not (light / "results").exists()
