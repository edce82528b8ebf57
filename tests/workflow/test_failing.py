"""What a failing run says and leaves on disk, and how little a good one prints."""

import shutil
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain import manifest
from tests.conftest import Snakemake, assert_user_error

TARGET = "retrained_model.tflite"


@pytest.fixture
def own(project: Path, photos: Path) -> Path:
    """photos/: 20 daisies and 20 roses, and a configuration that names it."""
    for label in ("daisy", "roses"):
        (project / "photos" / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:20]:
            shutil.copy(path, project / "photos" / label)
    model = "../shared/models/mobilenet_v1_0.25_128_quant.tflite"
    config = {"dataset": "photos", "backbone": {"name": "small", "tflite": model}}
    config |= {"device": "cpu", "shards": 2}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    return project / "photos"


def test_files_that_a_run_failed_on_are_listed(own: Path, project: Path, snakemake: Snakemake):
    for i in range(9):
        (own / "daisy" / f"broken{i}.jpg").write_bytes(b"no photo")
    done = snakemake(TARGET)
    listed = project / "logs/photos/not_photos.tsv"
    assert_user_error(done, "broken0.jpg", f"and 4 more, in {listed.relative_to(project)}")
    assert len(manifest.read_skipped(listed)) == 9
    assert "Cannot restore" not in done.stdout + done.stderr

    for i in range(9):
        (own / "daisy" / f"broken{i}.jpg").unlink()
        half = sorted((own / "roses").iterdir())[i].read_bytes()[:3000]
        (own / "daisy" / f"half{i}.jpg").write_bytes(half)
    done = snakemake(TARGET)
    listed = project / "results/photos/small/skipped.tsv"
    assert_user_error(done, "half0.jpg", f"and 4 more, in {listed.relative_to(project)}")
    assert {Path(photo.path).name for photo in manifest.read_skipped(listed)} == {
        f"half{i}.jpg" for i in range(9)
    }
    assert "Cannot restore" not in done.stdout + done.stderr


def test_a_good_run_prints_little_and_logs_the_rest(own: Path, project: Path, snakemake: Snakemake):
    done = snakemake("--quiet", "all", "--", TARGET)
    assert done.returncode == 0, done.stderr
    printed = (done.stdout + done.stderr).splitlines()
    assert "After 500 iterations" in "\n".join(printed)
    # Eight jobs and the summary.
    assert len([line for line in printed if "XNNPACK" not in line]) <= 8 + 12, printed
    assert "iteration 400" in (project / "logs/photos/small/train.log").read_text()
    assert "daisy" in (project / "logs/photos/index.log").read_text()
