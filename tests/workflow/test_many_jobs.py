"""What runs of many jobs and large files ask of Snakemake."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import (
    ROOT,
    Snakemake,
    configure,
    jobs_run,
    lay_photos,
    run_in,
    small_backbone,
)

LISTED = "results/photos/small/skipped.tsv"
# Loaded by every Python of the run, as `sitecustomize`.
TELLING = """\
import os
import threading

start = threading.Timer.start


def start_and_tell(timer):
    with open(os.environ["TIMERS"], "a") as file:
        file.write("started\\n")
    start(timer)


threading.Timer.start = start_and_tell
"""


@pytest.fixture
def photos(project: Path, sample_photos: Path, made: Path) -> Path:
    lay_photos(sample_photos, project / "photos", 6, ("daisy", "rose"))
    configure(project, dataset="photos", backbone=small_backbone(made), device="cpu", shards=5)
    return project / "photos"


def test_the_scheduler_does_not_poll_while_jobs_wait(photos: Path, project: Path, tmp_path: Path):
    """Its limit on jobs per second would start a timer, which starts another, for every job."""
    (tmp_path / "telling").mkdir()
    (tmp_path / "telling" / "sitecustomize.py").write_text(TELLING)
    done = run_in(
        project,
        *("env", f"PYTHONPATH={tmp_path / 'telling'}:{ROOT}", f"TIMERS={tmp_path / 'timers'}"),
        *("snakemake", "--cores", "1", "--", LISTED),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_run(done).count("embed") == 5
    assert not (tmp_path / "timers").exists()


def test_a_large_file_with_the_content_of_before_makes_nothing_anew(
    photos: Path, project: Path, snakemake: Snakemake, made: Path
):
    """Snakemake looks at the content of small files alone, if it is not told otherwise."""
    backbone = small_backbone(made)
    extractor = project / "large.tflite"
    extractor.write_bytes(Path(backbone["extractor"]).read_bytes() + bytes(1_000_000))
    configure(project, backbone=backbone | {"extractor": str(extractor)})
    done = snakemake(LISTED)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(extractor, project / "copy")
    os.replace(project / "copy", extractor)
    assert jobs_run(snakemake(LISTED)) == []
