"""Backbones of every kind, by one line of configuration, on real photos."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain import tflite_model
from tests import stand_ins
from tests.conftest import ROOT, Snakemake, assert_user_error, jobs_run, run_in

BACKBONES = yaml.safe_load((ROOT / "workflow/backbones.yaml").read_text())
MODEL = "retrained_model.tflite"
EDGETPU = "retrained_model_edgetpu.tflite"


@pytest.fixture
def flowers(project: Path, photos: Path) -> None:
    """flowers/: 60 photos of each of three classes, and a configuration that names it."""
    for label in ("daisy", "roses", "tulips"):
        (project / "flowers" / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:60]:
            shutil.copy(path, project / "flowers" / label)
    config = yaml.safe_load((project / "config.yaml").read_text())
    # No source can be reached; a test that needs a compiler brings a stand-in.
    config["compiler"]["sources"] = [{"url": "http://127.0.0.1:1/none", "sha256": "0" * 64}]
    config |= {"dataset": "flowers", "device": "cpu", "shards": 2}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    # A folder goes by its name in the catalogue first.
    (project / "workflow/datasets.yaml").write_text("{}")


def accuracy(project: Path, name: str) -> float:
    return json.loads((project / f"results/flowers/{name}/evaluation.json").read_text())[
        "cross_validation"
    ]["accuracy"]


def test_every_kind_in_one_folder(flowers, project: Path, snakemake: Snakemake):
    """The dataset stage is shared, and going back recomputes nothing."""
    shared = "../shared/models"
    backbones = {
        "v2": f"{{name: v2, tflite: {shared}/mobilenet_v2_1.0_224_quant.tflite}}",
        "ptq": f"{{name: ptq, tflite: {shared}/tf2_mobilenet_v2_1.0_224_ptq.tflite}}",
        "graph": f"{{name: graph, frozen_graph: {shared}/mobilenet_v2_1.0_224_quant_frozen.pb,"
        " tensor: MobilenetV2/Logits/AvgPool, input: input, width: 1280}",
    }
    for i, (name, entry) in enumerate(backbones.items()):
        done = snakemake("--config", f"backbone={entry}", "--", MODEL)
        assert done.returncode == 0, done.stderr
        assert ("index_photos" in jobs_run(done)) == (i == 0)
        assert "truncate" in jobs_run(done)
        assert accuracy(project, name) > 0.7
    # Equal extractors give equal classifiers, whichever way they were cut.
    assert accuracy(project, "v2") == accuracy(project, "graph")
    (_,), (scores,) = tflite_model.signatures((project / MODEL).read_bytes())
    assert (scores.shape, scores.dtype) == ((1, 3), "uint8")
    for entry in backbones.values():
        done = snakemake("--config", f"backbone={entry}", "--", MODEL)
        assert jobs_run(done) == ["deliver"]


def test_compiling_and_bringing_in_what_was_compiled(
    flowers, project: Path, snakemake: Snakemake, tmp_path: Path, models: Path
):
    tflite = "tflite: ../shared/models/mobilenet_v1_0.25_128_quant.tflite"
    done = snakemake("--config", f"backbone={{name: small, {tflite}}}", "--", EDGETPU)
    assert_user_error(
        done, "No source of edgetpu_compiler gave it", "127.0.0.1:1", "compiled: PATH"
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
    assert next(iter(tflite_model.operator_versions(model))) == "edgetpu-custom-op"

    compiled = project / "mine_edgetpu.tflite"
    shutil.copy(project / "results/backbones/small0/extractor_edgetpu.tflite", compiled)
    entry = f"backbone={{name: brought, {tflite}, compiled: {compiled.name}}}"
    done = snakemake("--config", entry, "--", EDGETPU)
    assert done.returncode == 0, done.stderr
    assert "compile" not in jobs_run(done)
    assert (project / EDGETPU).read_bytes() == model


def test_a_compiled_file_that_is_none_is_refused(
    flowers, project: Path, snakemake: Snakemake, models: Path
):
    shared = "../shared/models"
    tflite = f"tflite: {shared}/mobilenet_v1_0.25_128_quant.tflite"
    for compiled, message in (
        ("mobilenet_v1_0.25_128_quant.tflite", "is not compiled for the Edge TPU"),
        (
            "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite",
            "has other inputs or outputs than",
        ),
    ):
        entry = f"{{name: x, {tflite}, compiled: {shared}/{compiled}}}"
        done = snakemake("--config", f"backbone={entry}", "--", EDGETPU)
        assert_user_error(done, message)
        assert not (project / EDGETPU).exists()


def test_a_compiled_file_for_a_backbone_of_the_catalogue(flowers, snakemake: Snakemake):
    compiled = "../shared/models/mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    entry = f"{{name: mobilenet_v1_1.0_224_quant, compiled: {compiled}}}"
    jobs = jobs_run(snakemake("-n", "--config", f"backbone={entry}", "--", EDGETPU))
    assert "truncate" in jobs
    assert "compile" not in jobs


def test_an_extractor_where_this_project_would_put_it(
    flowers, project: Path, snakemake: Snakemake, models: Path
):
    own = project / "results/backbones/own/extractor.tflite"
    own.parent.mkdir(parents=True)
    shutil.copy(models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite", own)
    entry = f"{{name: own, extractor: {own.relative_to(project)}}}"
    done = snakemake("--config", f"backbone={entry}", "--", MODEL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("tflite: bad.tflite", ["bad.tflite cannot be cut", "not a TFLite model"]),
        ("tflite: cut.tflite", ["cut.tflite cannot be cut", "damaged"]),
        (
            "tflite: ../shared/models/mobilenet_v2_1.0_224_quant.tflite, tensor: Pool",
            ["no operator in it writes a tensor 'Pool'", "SOFTMAX"],
        ),
        (
            "tflite: ../shared/models/mobilenet_v2_1.0_224_quant.tflite, width: 7",
            ["1280 wide", "says 7"],
        ),
        ("frozen_graph: bad.tflite, tensor: x", ["bad.tflite cannot be read as a frozen"]),
        (
            "frozen_graph: sample/mobilenet_v1_0.25_96_quant_frozen.pb, tensor: Pool",
            ["holds no node 'Pool'", "MobilenetV1/Logits/AvgPool_1a/AvgPool"],
        ),
    ],
)
def test_mistakes_are_one_clear_sentence(
    project: Path, snakemake: Snakemake, models: Path, entry, parts
):
    (project / "bad.tflite").write_text("no model")
    whole = (models / "mobilenet_v2_1.0_224_quant.tflite").read_bytes()
    (project / "cut.tflite").write_bytes(whole[:1_000_000])
    target = "results/backbones/x/extractor.tflite"
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
            if not isinstance(source, dict):
                continue
            url = source["url"] if isinstance(source["url"], str) else source["url"][0]
            stem = re.sub(r"(_edgetpu)?\.(tflite|tgz)$", "", url.rpartition("/")[2])
            checksum = source.get("sha256") or source["git_blob"]
            lines = [line for line in facts.splitlines() if stem in line and checksum in line]
            assert lines, f"{name}: {key}"


def test_the_table_of_backbones(project: Path):
    done = run_in(project, sys.executable, "scripts/show_backbones.py")
    assert all(name in done.stdout for name in BACKBONES)
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert re.search(r"224 px +1024 +4\.2 M +no ", rows["mobilenet_v1_1.0_224"])
    assert re.search(r"224 px +1280 +3\.5 M +yes ", rows["mobilenet_v2_1.0_224_quant"])
