"""A rule's script run by hand, as CONTRIBUTING.md describes it."""

import sys
from pathlib import Path

from tests.conftest import Snakemake, run_in

PHOTOS = "resources/datasets/sample/photos"


def test_a_kept_script_makes_its_output_again(snakemake: Snakemake, project: Path):
    settings = ("--config", "dataset=sample", "backbone=sample", "device=cpu")
    done = snakemake("--skip-script-cleanup", *settings, "--", PHOTOS)
    assert done.returncode == 0, done.stderr
    [script] = (project / ".snakemake/scripts").glob("*.extract_dataset.py")
    photo = project / PHOTOS / "daisy/IMG_0493.jpg"
    content = photo.read_bytes()
    photo.unlink()
    done = run_in(project, sys.executable, str(script))
    assert done.returncode == 0, done.stderr
    assert photo.read_bytes() == content
