"""What a failing run says and leaves on disk, and how little a good one prints."""

import shutil
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain.backbone.compiler import can_run_here
from edgetpu_retrain.index import manifest
from tests.conftest import Snakemake, assert_user_error, jobs_run, lay_photos

TARGET = "retrained_model.tflite"


@pytest.fixture
def own(project: Path, sample_photos: Path, made: Path) -> Path:
    """photos/: 20 daisies and 20 roses, and a configuration that names it."""
    lay_photos(sample_photos, project / "photos", 20, ("daisy", "rose"))
    config = {"dataset": "photos", "device": "cpu", "shards": 2}
    config["backbone"] = {"name": "small", "tflite": str(made / "classifier.tflite")}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    return project / "photos"


def test_files_that_a_run_failed_on_are_listed(own: Path, project: Path, snakemake: Snakemake):
    for i in range(9):
        (own / "daisy" / f"broken{i}.jpg").write_bytes(b"no photo")
    done = snakemake(TARGET)
    listed = project / "logs/photos/not_photos.tsv"
    assert_user_error(done, "broken0.jpg", f"and 4 more, in {listed.relative_to(project)}")
    assert len(list(manifest.read_skipped(listed))) == 9
    assert "Cannot restore" not in done.stdout + done.stderr

    for i in range(9):
        (own / "daisy" / f"broken{i}.jpg").unlink()
        half = sorted((own / "rose").iterdir())[i].read_bytes()[:2000]
        (own / "daisy" / f"half{i}.jpg").write_bytes(half)
    done = snakemake(TARGET)
    listed = project / "results/photos/small/skipped.tsv"
    assert_user_error(done, "half0.jpg", f"and 4 more, in {listed.relative_to(project)}")
    assert {Path(photo.path).name for photo in manifest.read_skipped(listed)} == {
        f"half{i}.jpg" for i in range(9)
    }
    assert "Cannot restore" not in done.stdout + done.stderr


def test_a_good_run_prints_little_and_logs_the_rest(own: Path, project: Path, snakemake: Snakemake):
    done = snakemake("--", TARGET)
    assert done.returncode == 0, done.stderr
    printed = (done.stdout + done.stderr).splitlines()
    assert "Cross-validation: " in "\n".join(printed)
    # Two lines for most of ten jobs, and the summary.
    assert len(printed) <= 18 + 14, printed
    assert "XNNPACK" not in done.stderr
    (details,) = (project / ".snakemake/log").glob("*.log")
    assert "Finished jobid" in details.read_text()
    assert "above its minimum" in (project / "logs/photos/small/optimum/train.log").read_text()
    assert "daisy" in (project / "logs/photos/index.log").read_text()


def test_another_network_s_compiled_file_is_found_before_anything_is_embedded(
    own: Path, project: Path, snakemake: Snakemake, made: Path
):
    entry = f"tflite: {made}/classifier.tflite, compiled: {made}/scaled_edgetpu.tflite"
    settings = (f"backbone={{name: s, {entry}}}", "compiler={allow_cpu_operators: true}")
    # Whether or not that file is asked for.
    done = snakemake("--config", *settings, "--", TARGET)
    assert_user_error(done, "differs in input, output or quantization", "scaled_edgetpu.tflite")
    assert not list((project / "results").glob("photos/*/embeddings/*.npz"))


def test_a_file_put_in_place_by_hand_is_compared_with_its_checksum(
    own: Path, project: Path, snakemake: Snakemake, models: Path
):
    name = "mobilenet_v1_1.0_224"
    folder = project / "resources/backbones" / name
    folder.mkdir(parents=True)
    extractor = f"{name}_quant_embedding_extractor.tflite"
    other = models / "mobilenet_v1_0.25_128_quant.tflite"
    for given, compiled in ((other, f"{name}_quant_embedding_extractor_edgetpu.tflite"),
                            (models / extractor, other.name)):  # fmt: skip
        shutil.copy(given, folder / "extractor.tflite")
        shutil.copy(models / compiled, folder / "compiled.tflite")
        wrong = folder / ("extractor.tflite" if given == other else "compiled.tflite")
        done = snakemake("--config", f"backbone={name}", "--", "retrained_model_edgetpu.tflite")
        assert_user_error(done, str(wrong.relative_to(project)), "SHA-256", "Delete it")
        assert not list((project / "results").glob("photos/*/embeddings/*.npz"))


def test_an_archive_put_in_place_by_hand_is_taken(project: Path, snakemake: Snakemake):
    archive = project / "resources/datasets/garden/archive"
    archive.parent.mkdir(parents=True)
    shutil.copy(project / "sample/photos.zip", archive)
    settings = ("dataset=http://127.0.0.1:1/garden.zip", "backbone=sample", "device=cpu")
    done = snakemake("--config", *settings, "--", "results/garden/manifest.tsv")
    assert done.returncode == 0, done.stderr
    assert "extract_dataset" in jobs_run(done)
    assert "fetch_dataset" not in jobs_run(done)


@pytest.mark.skipif(not can_run_here(), reason="the compiler is downloaded on x86-64 Linux alone")
def test_the_cpu_model_is_made_where_the_compiler_cannot_be_had(
    own: Path, project: Path, snakemake: Snakemake
):
    """Without a target and without network: the run fails, and says what it made all the same."""
    config = yaml.safe_load((project / "config.yaml").read_text())
    source = {"url": "http://127.0.0.1:1/compiler.tar.gz", "sha256": "0" * 64}
    config["compiler"] = {"sources": [source]}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    done = snakemake()
    assert_user_error(done, "edgetpu_compiler could not be downloaded", "Accuracy:")
    assert (project / TARGET).is_file()
    assert (project / "report.html").is_file()
    assert not (project / "retrained_model_edgetpu.tflite").exists()
    assert jobs_run(snakemake("-n", "--", TARGET)) == []
