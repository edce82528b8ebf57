"""The workflow in another folder than its own, and as a module of another workflow."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import copy_project, jobs_run, lay_photos, run_in

CONFIG = ("--config", "dataset=photos", "backbone=sample", "device=cpu")
TARGET = "retrained_model.tflite"


@pytest.fixture
def elsewhere(tmp_path: Path, sample_photos: Path) -> Path:
    """A folder with two classes of 6 photos, beside a project."""
    copy_project(tmp_path)
    lay_photos(sample_photos, tmp_path / "elsewhere/photos", 6, ("daisy", "rose"))
    return tmp_path / "elsewhere"


def files_of(project: Path) -> set[Path]:
    ignored = {"__pycache__", ".snakemake"}
    return {path for path in project.rglob("*") if not ignored.intersection(path.parts)}


@pytest.mark.parametrize("way", ["directory", "snakefile"])
def test_another_working_folder(elsewhere: Path, way: str):
    project = elsewhere.with_name("project")
    before = files_of(project)
    if way == "directory":
        start, command = project, ("--directory", str(elsewhere))
    else:
        start, command = elsewhere, ("-s", "../project/Snakefile")
    done = run_in(start, "snakemake", "--cores", "2", *command, *CONFIG, "--", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / TARGET).is_file()
    assert (elsewhere / "results/photos/sample/optimum/report.html").is_file()
    assert files_of(project) == before
    again = run_in(start, "snakemake", "--cores", "2", *command, *CONFIG, "--", TARGET)
    assert jobs_run(again) == []
    # The catalogue's paths are those beside the Snakefile, the user's own those of the folder.
    (elsewhere / "photos/rose").rename(elsewhere / "photos/poppy")
    done = run_in(start, "snakemake", "--cores", "2", *command, *CONFIG, "--", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "label_map.txt").read_text() == "0 daisy\n1 poppy\n"


def test_two_modules_of_another_workflow(elsewhere: Path, made: Path):
    """Each has photos and a prefix of its own."""
    shutil.make_archive(str(elsewhere / "more"), "zip", elsewhere / "photos")
    shutil.copy(made / "extractor.tflite", elsewhere / "mine.tflite")
    (elsewhere / "Snakefile").write_text("""
module birds:
    snakefile: "../project/Snakefile"
    config: {"dataset": "photos", "backbone": "sample", "device": "cpu"}
    prefix: "birds"

use rule * from birds as birds_*

module more:
    snakefile: "../project/Snakefile"
    config: {"dataset": "more.zip", "backbone": {"name": "a", "extractor": "mine.tflite"}}
    prefix: "more"

use rule * from more as more_*

rule both:
    default_target: True
    input: "birds/retrained_model.tflite", "more/retrained_model.tflite"
""")
    command = ("snakemake", "--cores", "2", "--config", "device=cpu")
    done = run_in(elsewhere, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_run(run_in(elsewhere, *command)) == []
    assert (elsewhere / "birds/results/photos/sample/optimum/head.npz").is_file()
    assert (elsewhere / "more/results/more/a/optimum/head.npz").is_file()
    assert not (elsewhere / "results").exists()
    # A photo more concerns one of them alone.
    photo = min((elsewhere / "photos/daisy").iterdir())
    photo.with_name("new.jpg").write_bytes(photo.read_bytes() + b"another")
    jobs = jobs_run(run_in(elsewhere, *command))
    assert "birds_train" in jobs
    assert not any(name.startswith("more_") for name in jobs)
