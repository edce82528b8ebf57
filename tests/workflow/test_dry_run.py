"""What a fresh clone would do: no data, no network, no job run."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain.backbone.compiler import PROGRAM, can_run_here
from tests.conftest import (
    ROOT,
    Snakemake,
    assert_user_error,
    copy_project,
    jobs_run,
    run_in,
    run_snakemake,
)

BACKBONES = yaml.safe_load((ROOT / "workflow/backbones.yaml").read_text())
DATASETS = yaml.safe_load((ROOT / "workflow/datasets.yaml").read_text())
# The compiler is downloaded where it runs and is not installed.
FETCHED = can_run_here() and shutil.which(PROGRAM) is None

ALWAYS = {
    "index": 1,
    "collect_skipped": 1,
    "make_extractor": 1,
    "train": 1,
    "serialize": 2,
    "evaluate": 1,
    "plot_confusion_matrix": 1,
    "report": 1,
    "deliver": 1,
    "deliver_edgetpu": 1,
}
PUBLISHED = {"fetch_backbone": 2, "take_compiled": 1}
COMPILED = {"compile": 1} | ({"fetch_compiler": 1} if FETCHED else {})
DOWNLOADED = {"fetch_dataset": 1, "extract_dataset": 1}
FLOWERS = DOWNLOADED | {"embed": 2}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return copy_project(tmp_path_factory.mktemp("clone"))


def dry_run(clone: Path, *settings: str, target: str = "retrained_model_edgetpu.tflite") -> Counter:
    config = ["--config", *settings] if settings else []
    done = run_snakemake(clone, "-n", *config, "--", target)
    assert done.returncode == 0, done.stderr
    return Counter(jobs_run(done))


def test_the_shipped_configuration(clone: Path):
    """Nothing is asked for by name: that is everything."""
    jobs = Counter(jobs_run(run_snakemake(clone, "-n")))
    assert jobs == Counter(ALWAYS | FLOWERS | PUBLISHED | {"all": 1})


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone(clone: Path, backbone):
    entry = BACKBONES[backbone]
    made = PUBLISHED if "extractor" in entry else COMPILED
    if isinstance(entry.get("tflite", entry.get("frozen_graph")), dict):
        made = made | {"fetch_backbone": 1}
    jobs = dry_run(clone, f"backbone={backbone}", "device=cpu")
    assert jobs == Counter(ALWAYS | FLOWERS | made)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset(clone: Path, dataset):
    made = {"extract_dataset": 1, "embed": 1} if "archive" in DATASETS[dataset] else FLOWERS
    assert dry_run(clone, f"dataset={dataset}", "device=cpu") == Counter(ALWAYS | made | PUBLISHED)


def lay_beginnings(folder: Path, **counts: int) -> Path:
    """Files that begin as photos do, so many a class."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            (folder / label / f"{i}.jpg").write_bytes(
                b"\xff\xd8\xff\xe0%d %s" % (i, label.encode())
            )
    return folder


def test_a_folder_an_archive_and_an_address(clone: Path, tmp_path: Path):
    folder = lay_beginnings(tmp_path / "photos", daisy=3000, rose=2000)
    archive = shutil.make_archive(str(folder), "tar", folder)
    for dataset, made in (
        # So many shards as there are photos for.
        (str(folder), {"embed": 4}),
        (archive, {"extract_dataset": 1, "embed": 4}),
        # How many are behind an address is not known.
        ("https://example.org/photos.zip", DOWNLOADED | {"embed": 1}),
    ):
        jobs = dry_run(clone, f"dataset={dataset}", "device=cpu")
        assert jobs == Counter(ALWAYS | made | PUBLISHED)


def test_the_cpu_model_needs_no_compiler(clone: Path):
    jobs = dry_run(clone, "backbone=sample", "device=cpu", target="retrained_model.tflite")
    assert "compile" not in jobs
    assert jobs["serialize"] == 1


def test_the_edge_tpu_embeds_with_the_compiled_twin(clone: Path):
    jobs = dry_run(clone, "backbone=sample", "device=usb:0", target="retrained_model.tflite")
    assert jobs["compile"] == 1
    assert jobs["serialize"] == 2


def test_the_number_of_shards(clone: Path):
    assert dry_run(clone, "shards=3", "device=cpu")["embed"] == 3


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("datset=flowers", ["'datset'", "Did you mean dataset", "training"]),
        ("dataset=flower", ["Did you mean flowers?", "flowers, sample"]),
        ("dataset=17", ["dataset is 17", "expected"]),
        ("dataset_sha256=12ab", ["dataset_sha256 is"]),
        ("backbone=mobilenet_v1", ["Did you mean mobilenet_v1_1.0_224", "efficientnet_edgetpu_s"]),
        ("backbone={name: mine}", ["config: backbone", "extractor"]),
        ("backbone={name: mine, extractor: none.tflite}", ["backbone.extractor", "none.tflite"]),
        ("backbone={name: m, frozen_graph: Snakefile}", ["config: backbone", "tensor"]),
        ("backbone={name: m, tflite: x, extractor: y}", ["give one of extractor, tflite"]),
        ("backbone={name: m, extractor: Snakefile, tensor: x}", ["no key 'tensor'", "mean, name"]),
        ("backbone={name: m, tflite: Snakefile, mean: 127}", ["std must be given together"]),
        ("resize=cubic", ["resize is 'cubic'; expected bilinear or nearest"]),
        ("backbone={name: m y, tflite: x}", ["config: backbone", "name is 'm y'", "letters"]),
        ("compiler={timeout: 0}", ["compiler.timeout is 0"]),
        ("device=gpu", ["device is 'gpu'", "usb:N"]),
        ("split={test: 1.5}", ["split.test is 1.5"]),
        ("split={test: 0.6, validation: 0.6}", ["split.validation", "less than 1"]),
        ("split={tests: 0.1}", ["'split.tests'", "Did you mean test"]),
        ("seed=first", ["seed is 'first'"]),
        ("shards=0", ["shards is 0"]),
        ("training={reg: nan}", ["training.reg is 'nan'"]),
        ("max_skipped=2", ["max_skipped is 2"]),
        ("training={learning_rate: fast}", ["training.learning_rate is 'fast'"]),
        ("training={iterations: 5}", ["'training.iterations'", "num_iter"]),
    ],
)
def test_a_wrong_configuration_is_one_clear_message(clone: Path, setting, parts):
    done = run_snakemake(clone, "-n", "--config", setting, "--", "retrained_model.tflite")
    assert_user_error(done, *parts)
    message = [line for line in done.stderr.splitlines() if line.startswith("Error: config")]
    assert len(message) == 1
    assert jobs_run(done) == []


def test_the_command_line_replaces_a_backbone_and_adds_to_other_mappings(
    snakemake: Snakemake, project: Path
):
    settings = (project / "config.yaml").read_text()
    mine = "backbone: {name: a, tflite: config.yaml, compiled: Snakefile}\n"
    settings = settings.replace("backbone: mobilenet_v1_1.0_224\n", mine)
    (project / "config.yaml").write_text(settings)
    done = snakemake(
        *("-n", "--config", "backbone={name: b, extractor: config.yaml}", "device=cpu"),
        *("compiler={allow_cpu_operators: true}", "training={recipe: coral, learning_rate: 1e-3}"),
        *("--", "retrained_model_edgetpu.tflite"),
    )
    assert done.returncode == 0, done.stderr
    assert "compile" in jobs_run(done)
    assert "results/backbones/b/extractor" in done.stdout
    assert "results/backbones/a/" not in done.stdout


def test_auto_is_the_cpu_where_nothing_compiled_can_be_had(clone: Path, tmp_path: Path):
    """On a machine with an Edge TPU, as a stand-in for PyCoral has it, but without a compiler."""
    package = tmp_path / "pycoral" / "utils"
    package.mkdir(parents=True)
    for name in ("../__init__.py", "__init__.py"):
        (package / name).touch()
    listing = "def list_edge_tpus():\n    return [{'type': 'usb', 'path': '/sys/x'}]\n"
    (package / "edgetpu.py").write_text(listing)
    for sources, compiled in (("compiler={path: Snakefile}", 1), ("backbone=sample", 0)):
        arguments = ["-n", "--config", "backbone=sample", sources]
        program = [sys.executable, "-m", "snakemake", "--cores", "1"]
        if not compiled:
            # As on a Raspberry Pi.
            code = "import platform, runpy, sys; platform.machine = lambda: 'aarch64';"
            code += "sys.argv[0] = 'snakemake'; runpy.run_module('snakemake', run_name='__main__')"
            program = [sys.executable, "-c", code, "--cores", "1"]
        done = run_in(clone, "env", f"PYTHONPATH={tmp_path}:{ROOT}", *program, *arguments)
        assert done.returncode == 0, done.stderr
        # Everything but what cannot be had.
        for rule in ("compile", "deliver_edgetpu"):
            assert jobs_run(done).count(rule) == compiled
        assert "deliver" in jobs_run(done)


def test_a_second_configuration_file_overrides_the_first(snakemake: Snakemake, project: Path):
    (project / "mine.yaml").write_text("dataset: sample\nbackbone: sample\ndevice: cpu\n")
    done = snakemake("-n", "--configfile", "mine.yaml", "--", "retrained_model.tflite")
    assert "fetch_dataset" not in jobs_run(done)
    assert "results/backbones/sample/extractor.tflite" in done.stdout


def test_a_backbone_on_the_command_line_replaces_that_of_a_file(
    snakemake: Snakemake, project: Path
):
    for name in ("file", "line"):
        (project / f"{name}.tflite").touch()
    (project / "mine.yaml").write_text("backbone: {name: x, tflite: file.tflite, tensor: t}\n")
    backbone = "backbone={name: y, extractor: line.tflite}"
    arguments = ("--configfile", "mine.yaml", "--config", "device=cpu", backbone)
    done = snakemake("-n", *arguments, "--", "retrained_model.tflite")
    assert done.returncode == 0, done.stderr
    assert "line.tflite" in done.stdout + done.stderr
    assert "file.tflite" not in done.stdout + done.stderr
