"""Fine-tuning in the workflow: what it changes, what it leaves, and when it is done again."""

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.deploy.stored_embeddings import StoredEmbeddings
from edgetpu_retrain.tflite.edgetpu_package import read_packages
from edgetpu_retrain.tflite.model import Model
from tests.conftest import (
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    small_backbone,
)

MODEL, EDGETPU = "retrained_model.tflite", "retrained_model_edgetpu.tflite"
LABELS = ("daisy", "rose", "tulip")
NO_COMPILER = {"sources": []}


@pytest.fixture
def flowers(project: Path, sample_photos: Path) -> Path:
    """flowers/: 40 photos of each of three classes, and a configuration that names it."""
    lay_photos(sample_photos, project / "flowers", 40, LABELS)
    configure(project, dataset="flowers", device="cpu", compiler=NO_COMPILER, compare=[])
    (project / "workflow/datasets.yaml").write_text("{}")
    return project / "flowers"


def column(path: Path, name: str) -> set[str]:
    with path.open(newline="") as file:
        return {row[name] for row in csv.DictReader(file, dialect="excel-tab")}


def changed_tensors(first: Model, second: Model) -> list[int]:
    """Indices of the constants that differ; everything else has to be the same."""
    assert first.operators == second.operators
    count = len(first.subgraph.tensors)
    assert [first.tensor(i) for i in range(count)] == [second.tensor(i) for i in range(count)]
    return [
        i
        for i in range(count)
        if first.constant(i) is not None
        and not np.array_equal(first.constant(i), second.constant(i))
    ]


def test_a_network_is_tuned_and_kept(flowers: Path, project: Path, snakemake: Snakemake, made):
    network = {"name": "small", "tflite": str(made / "classifier.tflite")}
    configure(project, backbone=network, fine_tune={"layers": 3})
    done = snakemake("--", MODEL)
    assert done.returncode == 0, done.stderr
    assert "The last 3 layers of the network were fine-tuned on" in done.stdout
    results = project / "results/flowers/small-fine_tuned_3"
    base = Model.load(project / "results/backbones/small/extractor.tflite")
    tuned = Model.load(results / "extractor.tflite")
    layers = [one for one in base.operators if "CONV_2D" in one.name][-3:]
    assert changed_tensors(base, tuned) == sorted(i for one in layers for i in one.inputs[1:])
    assert not (results / ".fine_tuning").exists()

    # What it was tuned on is judged nowhere.
    content = json.loads((results / "fine_tuning.json").read_text())
    tuned_on = column(results / "tuned_on.tsv", "sha256")
    judged = column(results / "optimum/predictions.tsv", "sha256")
    assert len(tuned_on) == content["photos"] and not tuned_on & judged
    evaluation = json.loads((results / "optimum/evaluation.json").read_text())
    assert evaluation["cross_validation"]["photos"] <= content["held_out"]
    assert "were fine-tuned on" in (results / "optimum/report.html").read_text()

    # An added photo is embedded and learned from, by the same network.
    shutil.copy(next(flowers.glob("rose/*")), project / "twin.jpg")
    with (project / "twin.jpg").open("ab") as file:
        file.write(b"another")
    (project / "twin.jpg").rename(flowers / "rose/new.jpg")
    done = snakemake("--", MODEL)
    assert done.returncode == 0, done.stderr
    assert {"embed", "train"} <= set(jobs_run(done))
    assert "fine_tune" not in jobs_run(done)
    # Labelling does without it.
    assert "fine_tune" not in jobs_run(snakemake("--dry-run", "--forceall", "--", "label"))
    listed = snakemake("--dry-run", "--config", "fine_tune={layers: 3, refresh: true}", "--", MODEL)
    assert {"fine_tune", "embed", "train"} <= set(jobs_run(listed))
    # What a device is given to learn from gives the same head.
    done = snakemake("--", "bundle")
    assert done.returncode == 0, done.stderr
    stored = StoredEmbeddings.load(project / "bundle/embeddings.npz")
    assert set(stored.seen) >= tuned_on
    stored.train(2).head.save(project / "again.npz")
    assert (project / "again.npz").read_bytes() == (results / "optimum/head.npz").read_bytes()
    # Without it, the network as it was is used again.
    done = snakemake("--config", "fine_tune={layers: 0}", "compare=[{fine_tune: {layers: 3}}]",
                     "--", "compare")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fine_tune" not in jobs_run(done)
    assert "small-fine_tuned_3" in done.stdout + done.stderr
    # The report of an entry to compare says how that entry is made again.
    done = snakemake("--config", "fine_tune={layers: 0}", "compare=[{fine_tune: {layers: 3}}]",
                     "--", str((results / "optimum/report.html").relative_to(project)))  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = html.unescape((results / "optimum/report.html").read_text())
    assert re.search(r"fine_tune=\{\W*layers\W+3\b", page)


def test_photos_that_it_was_tuned_on_are_judged_by_other_networks(
    flowers: Path, project: Path, snakemake: Snakemake, made
):
    configure(project, backbone=small_backbone(made), fine_tune={"layers": 3})
    done = snakemake("--", MODEL)
    assert done.returncode == 0, done.stderr
    results = next((project / "results/flowers").glob("*-fine_tuned_3"))
    model, head = (project / MODEL).read_bytes(), (results / "optimum/head.npz").read_bytes()
    tuned_on = column(results / "tuned_on.tsv", "sha256")
    before = json.loads((results / "optimum/evaluation.json").read_text())

    configure(project, fine_tune={"layers": 3, "nested": True})
    done = snakemake("--", MODEL)
    assert done.returncode == 0, done.stderr
    assert {"fine_tune_folds", "train", "evaluate"} <= set(jobs_run(done))
    assert not {"fine_tune", "embed"} & set(jobs_run(done))
    # The model is the same.
    assert (project / MODEL).read_bytes() == model
    assert (results / "optimum/head.npz").read_bytes() == head
    assert not (results / ".fine_tuning_folds").exists()
    # All photos are judged, and it is said by what.
    manifest = project / "results/flowers/manifest.tsv"
    assert column(results / "optimum/predictions.tsv", "sha256") == column(manifest, "sha256")
    evaluation = json.loads((results / "optimum/evaluation.json").read_text())
    assert evaluation["nested"] >= len(tuned_on) and before["nested"] == 0
    photos = evaluation["cross_validation"]["photos"]
    assert photos == before["cross_validation"]["photos"] + evaluation["nested"]
    page = (results / "optimum/report.html").read_text()
    for text in (done.stdout, page):
        assert "judged by a network and a layer that have not seen it" in text
    assert "leaves out the photos" not in page
    # Better than guessing, as everyone is, and not perfect, as on photos that it has seen.
    assert 0.5 < evaluation["cross_validation"]["accuracy"] < 1

    # A label that is found to be wrong does not have the networks tuned again, nor a photo less.
    moved = sorted(flowers.glob("rose/*"))[0]
    moved.rename(flowers / "tulip" / moved.name)
    sorted(flowers.glob("daisy/*"))[0].unlink()
    done = snakemake("--", MODEL)
    assert done.returncode == 0, done.stderr
    assert "train" in jobs_run(done)
    assert not {"fine_tune", "fine_tune_folds"} & set(jobs_run(done))
    assert column(results / "optimum/predictions.tsv", "sha256") == column(manifest, "sha256")
    # The bundle is given what training on the device repeats.
    done = snakemake("--", "bundle")
    assert done.returncode == 0, done.stderr
    stored = StoredEmbeddings.load(project / "bundle/embeddings.npz")
    counted = sum(count for _, count in stored.results.values())
    assert counted == len(stored.train(2).labelled)


def test_too_few_photos(flowers: Path, project: Path, snakemake: Snakemake, made):
    for path in flowers.glob("*/*[1-9].*"):
        path.unlink()
    configure(project, backbone=small_backbone(made), fine_tune={"layers": 3})
    assert_user_error(snakemake("--", MODEL), "Fine-tuning needs at least 50 photos", "layers: 0")


def test_weights_are_put_into_the_published_file(
    project: Path, snakemake: Snakemake, photos: Path, models: Path
):
    lay_photos(photos, project / "flowers", 35, ("daisy", "roses"))
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor"
    pair = {
        "name": "v1",
        "extractor": str(models / f"{name}.tflite"),
        "compiled": str(models / f"{name}_edgetpu.tflite"),
    }
    (project / "workflow/datasets.yaml").write_text("{}")
    configure(project, dataset="flowers", device="cpu", backbone=pair, compiler=NO_COMPILER)
    done = snakemake("--config", "fine_tune={layers: 1}", "--", EDGETPU)
    assert done.returncode == 0, done.stderr
    assert "rewrite" in jobs_run(done)
    tuned = project / "results/flowers/v1-fine_tuned_1"
    published = (project / "results/backbones/v1/extractor_edgetpu.tflite").read_bytes()
    written = (tuned / "extractor_edgetpu.tflite").read_bytes()
    different = np.flatnonzero(
        np.frombuffer(published, np.uint8) != np.frombuffer(written, np.uint8)
    )
    # The last layer is a 1x1 convolution from 1,024 to 1,024 channels, in groups of 64 outputs:
    # 64 biases of 4 bytes, then 4 inputs at a time of every output.
    compiled = Model.load(tuned / "extractor_edgetpu.tflite")
    (package,) = read_packages(compiled)
    parameters = b"".join(one.parameters for one in package.executables)
    size = 1024 * 1024 + 4 * 1024
    assert 0 < len(different) <= size and different.max() - different.min() < size
    groups = np.frombuffer(parameters[-size:], np.uint8).reshape(16, -1)
    weights = groups[:, 256:].reshape(16, 256, 64, 4).transpose(0, 2, 1, 3).reshape(-1)
    biases = np.ascontiguousarray(groups[:, :256]).reshape(-1)
    cpu = Model.load(tuned / "extractor.tflite")
    last = [one for one in cpu.operators if one.name == "CONV_2D"][-1]
    np.testing.assert_array_equal(weights, cpu.constant(last.inputs[1]))
    np.testing.assert_array_equal(biases, cpu.constant(last.inputs[2]))
