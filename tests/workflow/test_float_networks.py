"""A float network of one's own, quantized with the photos that it is retrained on."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import (
    assert_user_error,
    configure,
    copy_project,
    jobs_run,
    lay_photos,
    run_snakemake,
)

MODEL = "retrained_model.tflite"
KEPT = ("extractor.tflite", "calibration.tsv", "quantization.json")


@pytest.fixture(scope="module")
def project(
    float_networks: Path, sample_photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """garden/ and meadow/: 24 photos per class, of the first some are set aside in later/."""
    project = copy_project(tmp_path_factory.mktemp("float"))
    for name, labels in (("garden", ("daisy", "rose")), ("meadow", ("tulip", "daisy"))):
        lay_photos(sample_photos, project / name, 24, labels)
    for path in sorted((project / "garden").glob("*/*"))[::4]:
        later = project / "later" / path.parent.name
        later.mkdir(parents=True, exist_ok=True)
        shutil.move(path, later)
    shutil.copy(float_networks / "good.keras", project / "mine.keras")
    configure(
        project,
        device="cpu",
        shards=1,
        calibration={"photos": 10},
        backbone={"name": "mine", "keras": "mine.keras", "mean": 127.5, "std": 127.5},
    )
    # A folder goes by its name in the catalogue first.
    (project / "workflow/datasets.yaml").write_text("{}")
    return project


def run(project: Path, dataset: str, *settings: str) -> list[str]:
    done = run_snakemake(project, "--config", f"dataset={dataset}", *settings, "--", MODEL)
    assert done.returncode == 0, done.stdout + done.stderr
    return jobs_run(done)


def kept(project: Path, dataset: str) -> list[bytes]:
    return [(project / f"results/{dataset}/mine/{name}").read_bytes() for name in KEPT]


def test_the_extractor_belongs_to_the_photos_and_stays_when_some_are_added(project: Path):
    jobs = run(project, "garden")
    assert {"make_float_extractor", "choose_calibration_photos", "quantize"} <= set(jobs)
    report = json.loads((project / "results/garden/mine/quantization.json").read_text())
    assert report["calibrated_on"] == 10
    assert report["check"]["cosine"] > 0.9
    assert (project / MODEL).is_file()
    before = kept(project, "garden")
    times = [(project / f"results/garden/mine/{name}").stat().st_mtime_ns for name in KEPT]
    shutil.copytree(project / "later", project / "garden", dirs_exist_ok=True)
    jobs = run(project, "garden")
    assert "embed" in jobs
    assert "quantize" not in jobs
    assert kept(project, "garden") == before
    assert times == [(project / f"results/garden/mine/{name}").stat().st_mtime_ns for name in KEPT]
    # Until it is asked for, or another number is.
    dry = run_snakemake(
        project, "-n", "--config", "dataset=garden", "calibration={refresh: true, photos: 10}",
        "--", MODEL,
    )  # fmt: skip
    assert "quantize" in jobs_run(dry)
    dry = run_snakemake(
        project, "-n", "--config", "dataset=garden", "calibration={photos: 11}", "--", MODEL
    )
    assert "quantize" in jobs_run(dry)
    # Another dataset has its own, of the same float network.
    jobs = run(project, "meadow")
    assert "quantize" in jobs
    assert "make_float_extractor" not in jobs
    assert kept(project, "meadow") != before
    assert kept(project, "garden") == before


def test_what_a_float_network_lacks_is_said_before_any_job(project: Path, made: Path):
    for entry in (
        f"{{name: x, tflite: {made / 'float.tflite'}}}",
        "{name: x, keras: mine.keras, mean: 127}",
        "{name: x, saved_model: garden}",
    ):
        done = run_snakemake(
            project, "-n", "--config", "dataset=garden", f"backbone={entry}", "--", MODEL
        )
        assert_user_error(done, "does not record how its pixels were scaled", "Give mean and std")
