"""Backbones of every kind, by one line of configuration."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain.tflite.model import Model
from tests import stand_ins
from tests.conftest import (
    ROOT,
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    run_in,
)
from tests.make_models import FROZEN_GRAPH

BACKBONES = yaml.safe_load((ROOT / "workflow/backbones.yaml").read_text())
MODEL = "retrained_model.tflite"
EDGETPU = "retrained_model_edgetpu.tflite"
POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"
# No source can be reached; a test that needs a compiler brings a stand-in.
SETTINGS = {
    "dataset": "flowers",
    "device": "cpu",
    "shards": 2,
    "compiler": {"sources": [{"url": "http://127.0.0.1:1/none", "sha256": "0" * 64}]},
}


@pytest.fixture
def flowers(project: Path, sample_photos: Path) -> None:
    """flowers/: 20 photos of each of three classes, and a configuration that names it."""
    lay_photos(sample_photos, project / "flowers", 20, ("daisy", "rose", "tulip"))
    configure(project, **SETTINGS)
    # A folder goes by its name in the catalogue first.
    (project / "workflow/datasets.yaml").write_text("{}")


def accuracy(project: Path, name: str) -> float:
    evaluation = json.loads(
        (project / f"results/flowers/{name}/optimum/evaluation.json").read_text()
    )
    return evaluation["cross_validation"]["accuracy"]


def check_kinds(project: Path, snakemake: Snakemake, backbones: dict[str, str]) -> None:
    """Runs one backbone after the other; the photos are indexed once, and going back is free.

    Args:
        project: the working folder.
        snakemake: runs Snakemake in it.
        backbones: entries of the configuration, by name.
    """
    for i, (name, entry) in enumerate(backbones.items()):
        done = snakemake("--config", f"backbone={entry}", "--", MODEL)
        assert done.returncode == 0, done.stderr
        assert ("index" in jobs_run(done)) == (i == 0)
        assert "make_extractor" in jobs_run(done)
        assert accuracy(project, name) > 0.7
    (scores,) = Model.load(project / MODEL).outputs
    assert (scores.shape, scores.dtype) == ((1, 3), "uint8")
    first = next(iter(backbones.values()))
    done = snakemake("--config", f"backbone={first}", "--", MODEL)
    assert jobs_run(done) == ["deliver"]


def test_every_kind_in_one_folder(flowers, project: Path, snakemake: Snakemake, made: Path):
    backbones = {
        "cut": f"{{name: cut, tflite: {made}/classifier.tflite}}",
        "ptq": f"{{name: ptq, tflite: {made}/int8.tflite}}",
        "graph": f"{{name: graph, frozen_graph: {FROZEN_GRAPH}, tensor: {POOL}, width: 256}}",
        "scaled": f"{{name: scaled, extractor: {made}/scaled.tflite, mean: 128, std: 128}}",
    }
    check_kinds(project, snakemake, backbones)
    # Equal extractors give equal classifiers, whichever way they were cut.
    assert accuracy(project, "cut") == accuracy(project, "graph")
    scaled = Model.load(project / "results/flowers/scaled/optimum/retrained_model.tflite")
    assert scaled.operators[0].name == "QUANTIZE"


def test_every_kind_of_published_network(
    project: Path, snakemake: Snakemake, photos: Path, models: Path
):
    lay_photos(photos, project / "flowers", 40, ("daisy", "roses", "tulips"))
    configure(project, **SETTINGS)
    (project / "workflow/datasets.yaml").write_text("{}")
    backbones = {
        "v2": f"{{name: v2, tflite: {models}/mobilenet_v2_1.0_224_quant.tflite}}",
        "ptq": f"{{name: ptq, tflite: {models}/tf2_mobilenet_v2_1.0_224_ptq.tflite}}",
        "graph": f"{{name: graph, frozen_graph: {models}/mobilenet_v2_1.0_224_quant_frozen.pb,"
        " tensor: MobilenetV2/Logits/AvgPool, input: input, width: 1280}",
    }
    check_kinds(project, snakemake, backbones)
    assert accuracy(project, "v2") == accuracy(project, "graph")


def test_compiling_and_bringing_in_what_was_compiled(
    flowers, project: Path, snakemake: Snakemake, tmp_path: Path, made: Path
):
    tflite = f"tflite: {made}/classifier.tflite"
    done = snakemake("--config", f"backbone={{name: small, {tflite}}}", "--", EDGETPU)
    assert_user_error(
        done, "edgetpu_compiler could not be downloaded", "127.0.0.1:1", "compiled: PATH"
    )
    assert not (project / EDGETPU).exists()
    done = snakemake("--config", f"backbone={{name: small, {tflite}}}", "--", MODEL)
    assert done.returncode == 0, done.stderr

    program = stand_ins.edgetpu_compiler(tmp_path / "bin")
    for found in ({"path": program.parent}, {}):
        setting = [] if found else [f"compiler={{path: {program}}}"]
        entry = f"backbone={{name: small{len(found)}, {tflite}}}"
        done = snakemake("--config", entry, *setting, "--", EDGETPU, **found)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(
            (project / f"results/backbones/small{len(found)}/compilation.json").read_text()
        )
        assert report["operators_mapped"] == 28
    model = (project / EDGETPU).read_bytes()
    assert Model.load(project / EDGETPU).operators[0].name == "edgetpu-custom-op"

    compiled = project / "mine_edgetpu.tflite"
    shutil.copy(project / "results/backbones/small0/extractor_edgetpu.tflite", compiled)
    entry = f"backbone={{name: brought, {tflite}, compiled: {compiled.name}}}"
    done = snakemake("--config", entry, "--", EDGETPU)
    assert done.returncode == 0, done.stderr
    assert "compile" not in jobs_run(done)
    assert (project / EDGETPU).read_bytes() == model


def test_a_compiled_file_that_does_not_fit_is_refused(
    flowers, project: Path, snakemake: Snakemake, made: Path
):
    for compiled, message in (
        ("extractor.tflite", "is not compiled for the Edge TPU"),
        ("scaled_edgetpu.tflite", "differs in input, output or quantization"),
    ):
        entry = f"{{name: x, tflite: {made}/classifier.tflite, compiled: {made}/{compiled}}}"
        done = snakemake("--config", f"backbone={entry}", "--", EDGETPU)
        assert_user_error(done, message)
        assert not (project / EDGETPU).exists()


def test_a_compiled_file_for_a_backbone_of_the_catalogue(flowers, snakemake: Snakemake, made: Path):
    compiled = f"compiled: {made}/extractor_edgetpu.tflite"
    entry = f"{{name: mobilenet_v1_1.0_224_quant, {compiled}}}"
    jobs = jobs_run(snakemake("-n", "--config", f"backbone={entry}", "--", EDGETPU))
    assert {"make_extractor", "take_compiled"} <= set(jobs)
    assert "compile" not in jobs


def test_an_extractor_where_this_project_would_put_it(
    flowers, project: Path, snakemake: Snakemake, made: Path
):
    """The file is the rule's input and output at once: that is said, or it is left as it is."""
    own = project / "results/backbones/own/extractor.tflite"
    own.parent.mkdir(parents=True)
    shutil.copy(made / "extractor.tflite", own)
    entry = f"{{name: own, extractor: {own.relative_to(project)}}}"
    done = snakemake("--config", f"backbone={entry}", "--", MODEL)
    if done.returncode:
        assert_user_error(done, "own/extractor.tflite")
    assert own.read_bytes() == (made / "extractor.tflite").read_bytes()


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("tflite: bad.tflite", ["bad.tflite is not a TFLite model"]),
        ("tflite: cut.tflite", ["cut.tflite is a damaged"]),
        ("tflite: MADE/classifier.tflite, tensor: Pool", ["the output 'Pool'", "SOFTMAX"]),
        ("tflite: MADE/classifier.tflite, width: 7", ["256 values", "width is 7"]),
        ("extractor: MADE/classifier.tflite", ["is a whole classifier", "Give it as tflite"]),
        ("frozen_graph: bad.tflite, tensor: x", ["bad.tflite cannot be read as a frozen"]),
        (f"frozen_graph: {FROZEN_GRAPH}, tensor: Pool", ["has no node 'Pool'", POOL]),
    ],
)
def test_mistakes_are_one_clear_sentence(
    project: Path, snakemake: Snakemake, made: Path, entry, parts
):
    (project / "bad.tflite").write_text("no model")
    whole = (made / "classifier.tflite").read_bytes()
    (project / "cut.tflite").write_bytes(whole[:100_000])
    target = "results/backbones/x/extractor.tflite"
    entry = entry.replace("MADE", str(made))
    done = snakemake("--config", f"backbone={{name: x, {entry}}}", "--", target)
    assert_user_error(done, *parts)
    assert not (project / target).exists()


def test_a_wrong_checksum_of_a_download(project: Path, snakemake: Snakemake, serve):
    address, _ = serve({"/x.tflite": b"something else"})
    entry = f"{{name: x, tflite: {{url: {address}/x.tflite, git_blob: '{'0' * 40}'}}}}"
    done = snakemake("--config", f"backbone={entry}", "--", MODEL)
    assert_user_error(done, "its git blob id is", "expected 0000")
    assert not list((project / "resources").rglob("*.tflite"))


def test_the_catalogue_says_what_the_facts_say(shared: Path):
    """Every checksum in the catalogue stands in the facts, beside the name of its file."""
    facts = (shared / "reference" / "coral.md").read_text()
    for name, entry in BACKBONES.items():
        for key in ("extractor", "compiled", "tflite", "frozen_graph"):
            source = entry.get(key)
            # The facts name these files without their checksums.
            if not isinstance(source, dict) or "_inat_" in name or "_0.25_" in name:
                continue
            url = source["url"] if isinstance(source["url"], str) else source["url"][0]
            stem = re.sub(r"(_edgetpu)?\.(tflite|tgz)$", "", url.rpartition("/")[2])
            checksum = source.get("sha256") or source["git_blob"]
            lines = [line for line in facts.splitlines() if stem in line and checksum in line]
            assert lines, f"{name}: {key}"


def test_the_table_of_backbones(project: Path):
    done = run_in(project, sys.executable, "scripts/show_backbones.py")
    assert all(name in done.stdout for name in BACKBONES)
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert re.search(r"224 px +1024 +4\.2 M +no ", rows["mobilenet_v1_1.0_224"])
    assert re.search(r"224 px +1280 +3\.5 M +yes ", rows["mobilenet_v2_1.0_224_quant"])
