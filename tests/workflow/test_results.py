"""What is at the top after runs of several datasets, what was deleted by hand, and the ending."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import (
    assert_user_error,
    copy_project,
    jobs_run,
    lay_photos,
    run_snakemake,
    small_backbone,
)

CPU, EDGETPU = "retrained_model.tflite", "retrained_model_edgetpu.tflite"


@pytest.fixture(scope="module")
def project(tmp_path_factory, sample_photos: Path, made: Path) -> Path:
    """Two folders of photos, garden/ and meadow/, of two classes each, and a configuration."""
    project = copy_project(tmp_path_factory.mktemp("results"))
    lay_photos(sample_photos, project / "garden", 6, ("rose", "tulip"))
    lay_photos(sample_photos, project / "meadow", 6, ("daisy", "dandelion"))
    backbone = small_backbone(made) | {"name": "v1"}
    config = {"dataset": "garden", "backbone": backbone, "device": "cpu", "shards": 2}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    return project


def run(project: Path, dataset: str, target: str):
    done = run_snakemake(project, "--config", f"dataset={dataset}", "--", target)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def label_map(project: Path) -> str:
    return (project / "label_map.txt").read_text()


def test_what_is_at_the_top_is_of_one_run(project: Path):
    run(project, "garden", EDGETPU)
    assert label_map(project) == "0 rose\n1 tulip\n"
    # The twin of this same run stays, also where only the CPU's file is made anew.
    (project / CPU).unlink()
    done = run(project, "garden", CPU)
    assert jobs_run(done) == ["deliver"]
    assert (project / EDGETPU).exists()

    run(project, "garden", "bundle")
    done = run(project, "meadow", CPU)
    assert label_map(project) == "0 daisy\n1 dandelion\n"
    assert not (project / EDGETPU).exists()
    removed = f"Removed, since it was of an earlier run: {EDGETPU}, bundle, bundle.zip"
    assert removed in done.stdout + done.stderr
    assert not (project / "bundle").exists()

    run(project, "garden", EDGETPU)
    assert label_map(project) == "0 rose\n1 tulip\n"
    own = project / "results/garden/v1"
    assert (project / EDGETPU).read_bytes() == (own / EDGETPU).read_bytes()
    assert (project / CPU).read_bytes() == (own / CPU).read_bytes()


def test_every_run_ends_with_the_same_summary(project: Path):
    run(project, "garden", EDGETPU)
    done = run(project, "garden", EDGETPU)
    assert jobs_run(done) == []
    evaluation = json.loads((project / "results/garden/v1/evaluation.json").read_text())
    result = evaluation["test"]
    accuracy = f"{result['accuracy']:.1%}"
    for text in (CPU, EDGETPU, "label_map.txt", accuracy, "95 % interval", "classify_image.py"):
        assert text in done.stdout
    (project / "label_map.txt").unlink()
    assert run(project, "garden", EDGETPU).stdout == done.stdout
    dry = run_snakemake(project, "-n", "--config", "dataset=garden", "--", EDGETPU)
    assert "Accuracy" not in dry.stdout


def test_results_deleted_by_hand_are_made_again(project: Path):
    run(project, "garden", EDGETPU)
    for deleted, made in (
        ("garden", ["index", "embed", "evaluate", "train", "serialize"]),
        ("garden/v1/confusion_matrix.png", ["evaluate"]),
        ("garden/v1/embeddings/0001-of-0002.npz", ["embed"]),
        ("garden/shards/0000-of-0002.tsv", ["index"]),
        ("garden/v1/retrained_model_edgetpu.tflite", ["serialize"]),
        ("backbones/v1/extractor_edgetpu.tflite", ["take_compiled"]),
    ):
        (project / "results" / deleted).rename(project / "away")
        listed = run_snakemake(project, "-n", "--config", "dataset=garden", "--", EDGETPU)
        assert set(made) <= set(jobs_run(listed)), deleted
        (project / "away").rename(project / "results" / deleted)
        # Back in its place, nothing is missed.
    assert jobs_run(run(project, "garden", EDGETPU)) == []

    shutil.rmtree(project / "results/garden")
    run(project, "garden", EDGETPU)
    assert (project / "results/garden/v1/evaluation.json").exists()
    assert jobs_run(run(project, "garden", EDGETPU)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--configfile", "mine.yaml", CPU),
            f"snakemake --cores 2 --configfile mine.yaml -- {CPU}",
        ),
        (("--config", "seed=1", CPU), f"snakemake --cores 2 --config seed=1 -- {CPU}"),
        (("--configfile", "twice.yaml", "--", CPU), "twice.yaml, line 2: the key 'seed'"),
    ],
)
def test_mistakes_in_a_command_get_a_sentence(tmp_path: Path, arguments, message: str):
    project = copy_project(tmp_path)
    (project / "mine.yaml").write_text("seed: 1\n")
    (project / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (project / CPU).write_bytes(b"\xff\xfe")
    assert_user_error(run_snakemake(project, *arguments), message)


def test_a_mistake_in_config_yaml_gets_a_sentence(tmp_path: Path):
    project = copy_project(tmp_path)
    with (project / "config.yaml").open("a") as file:
        file.write("split:\n\ttest: 0.2\n")
    assert_user_error(run_snakemake(project, "-n"), "config.yaml, line", "a tab")
