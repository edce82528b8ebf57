"""The targets `bundle` and `frigate`, as a user asks for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED, assert_user_error, jobs_run, run_snakemake

# As on a machine that the compiler does not run on.
SAMPLE = ("dataset=sample", "backbone=sample", "device=cpu", "compiler={sources: []}", "shards=1")


def test_the_sample_on_a_device(project: Path):
    done = run_snakemake(project, "--config", *SAMPLE, "--", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The bundle has no model for the Edge TPU" in done.stderr
    assert "bundle/ (the folder to copy to a device, with README.md)" in done.stdout
    assert not (project / "bundle/model_edgetpu.tflite").exists()
    assert (project / "bundle.zip").is_file()
    command = [sys.executable, "classify.py"]
    check = subprocess.run(
        [*command, "--check"], cwd=project / "bundle", capture_output=True, text=True
    )
    assert "No problems found" in check.stdout, check.stdout
    photo = next((project / "resources/datasets/sample").glob("**/*.jpg"))
    found = subprocess.run(
        [*command, photo, "--json"], cwd=project / "bundle", capture_output=True, text=True
    )
    assert json.loads(found.stdout)["classes"][0]["name"] == photo.parent.name
    done = run_snakemake(project, "--config", *SAMPLE, "--", "bundle")
    assert jobs_run(done) == []
    # The sample's network takes 96 pixels.
    done = run_snakemake(project, "--config", *SAMPLE, "--", "frigate")
    assert_user_error(done, "but Frigate passes uint8 pictures of 224 x 224 pixels")


def test_what_would_go_to_a_device_with_an_edge_tpu(project: Path):
    if not SHARED.is_dir():
        pytest.skip(f"needs published models at {SHARED}")
    flowers = ("--configfile", "tests/config/flowers.yaml", "--dry-run", "--", "bundle")
    done = run_snakemake(project, *flowers)
    assert jobs_run(done).count("serialize") == 2


def test_frigate_s_photos_as_they_lie(project: Path, tmp_path: Path):
    dataset = tmp_path / "clips" / "birds" / "dataset"
    for name in ("robin", "none"):
        (dataset / name).mkdir(parents=True)
    settings = ("--config", f"dataset={dataset}", "backbone=sample", "--dry-run", "--", "frigate")
    done = run_snakemake(project, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "frigate/birds" in done.stdout + done.stderr
    assert "results/birds" in done.stdout + done.stderr
    wrong = ("--config", "frigate=a/b", *settings[1:])
    assert_user_error(run_snakemake(project, *wrong), "config: frigate is 'a/b'; expected the name")
    named = ("--config", "frigate=my birds", *settings[1:])
    assert "frigate/my birds" in run_snakemake(project, *named).stdout
    # Frigate's own name, which does not have to be that of a folder in results/.
    dataset.parent.rename(dataset.parent.with_name("gate right 3"))
    spaced = f"dataset={tmp_path}/clips/gate right 3/dataset"
    done = run_snakemake(project, "--config", spaced, *settings[2:])
    assert "frigate/gate right 3/model.tflite" in done.stdout + done.stderr
    assert "results/gate_right_3" in done.stdout + done.stderr
