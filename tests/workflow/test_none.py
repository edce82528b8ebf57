"""`none: auto` from the configuration to the device."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgetpu_retrain.evaluation import saved
from tests.conftest import assert_user_error, jobs_run, run_in, run_snakemake

SAMPLE = ("dataset=sample", "backbone=sample", "device=cpu", "compiler={sources: []}", "shards=1")
RESULTS = "results/sample/sample/optimum"


def draw_digits(folder: Path) -> None:
    """Forty handwritten digits, which are no flowers."""
    for i, digit in enumerate(load_digits().images[:40]):
        picture = Image.fromarray((255 - 15 * digit).astype(np.uint8)).resize((120, 120))
        picture.save(folder / f"{i}.png")


def test_other_things_are_none_from_the_photos_to_the_bundle(project: Path, tmp_path: Path):
    settings = (*SAMPLE, "none=auto", f"strangers={tmp_path}/digits")
    done = run_snakemake(project, "--config", *settings, "--", "bundle")
    assert_user_error(done, "config: strangers: the folder", "digits does not exist")
    strangers = tmp_path / "digits"
    strangers.mkdir()
    done = run_snakemake(project, "--config", *settings, "--", "bundle", "retrained_model.tflite")
    assert_user_error(done, "config: strangers: no photo in the folder", "digits can be read")
    draw_digits(strangers)
    done = run_snakemake(project, "--config", *settings, "--", "bundle", "retrained_model.tflite")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train" not in jobs_run(done)
    none = saved.read(project / f"{RESULTS}/evaluation.json")["none"]
    assert none["strangers"]["none"] > 20
    lost, photos = (sum(row[key] for row in none["known"].values()) for key in ("none", "photos"))
    assert 0 < lost < 0.025 * photos
    assert f"{none['strangers']['none']} of 40 photos of other things" in done.stdout
    assert "none" not in none["known"].keys() | none["left_out"].keys()
    names = (project / "label_map.txt").read_text().split()[1::2]
    assert names == [*none["known"], "none"]

    classify = ("scripts/classify_image.py", "--model", "retrained_model.tflite", "--csv")
    done = run_in(project, sys.executable, *classify, "--input", str(strangers))
    rows = [line.split(",") for line in done.stdout.splitlines()[1:]]
    assert sum(name == "none" for _, name, *_ in rows) == none["strangers"]["none"]

    bundle = project / "bundle"
    check = subprocess.run(
        [sys.executable, "classify.py", "--check"], cwd=bundle, capture_output=True, text=True
    )
    assert "No problems found" in check.stdout, check.stdout
    photo = strangers / "0.png"
    found = subprocess.run(
        [sys.executable, "classify.py", photo, "--json", "--top_k", "6"],
        cwd=bundle, capture_output=True, text=True,
    )  # fmt: skip
    scores = {one["name"]: one["score"] for one in json.loads(found.stdout)["classes"]}
    assert max(scores, key=scores.__getitem__) == "none"
    assert sum(scores.values()) == pytest.approx(1, abs=0.02)
