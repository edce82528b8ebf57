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


def run(project: Path, dataset: str, *targets: str):
    done = run_snakemake(project, "--config", f"dataset={dataset}", "--", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def label_map(project: Path) -> str:
    return (project / "label_map.txt").read_text()


def test_what_is_at_the_top_is_of_one_run(project: Path):
    done = run(project, "garden", EDGETPU, "bundle")
    assert label_map(project) == "0 rose\n1 tulip\n"
    own = project / "results/garden/v1/optimum"
    for name in (CPU, EDGETPU, "report.html"):
        assert (project / name).read_bytes() == (own / name).read_bytes()
        assert name in done.stdout
    # The twin of this same run stays, also where only the CPU's file is made anew.
    (project / CPU).unlink()
    assert jobs_run(run(project, "garden", CPU)) == ["deliver"]
    assert (project / EDGETPU).exists()

    (project / "bundle/mine.txt").touch()
    done = run(project, "meadow", CPU)
    assert label_map(project) == "0 daisy\n1 dandelion\n"
    assert not (project / EDGETPU).exists()
    assert [path.name for path in (project / "bundle").iterdir()] == ["mine.txt"]
    [removed] = [line for line in done.stderr.splitlines() if line.startswith("Removed files")]
    assert {EDGETPU, "bundle.zip", "bundle/README.md"} <= set(removed.split(": ")[1].split(", "))
    # A bundle comes with the model that is in it.
    listed = run_snakemake(project, "-n", "--config", "dataset=garden", "--", "bundle")
    assert {"deliver", "bundle"} <= set(jobs_run(listed))


def test_a_run_that_had_nothing_to_do_ends_with_the_summary_too(project: Path):
    run(project, "meadow")
    done = run(project, "meadow")
    assert jobs_run(done) == []
    evaluation = json.loads((project / "results/meadow/v1/optimum/evaluation.json").read_text())
    accuracy = f"{evaluation['cross_validation']['accuracy']:.1%}"
    for text in (CPU, "label_map.txt", accuracy, "95% interval", "classify_image.py"):
        assert text in done.stdout
    (project / "label_map.txt").unlink()
    assert run(project, "meadow").stdout == done.stdout
    dry = run_snakemake(project, "-n", "--config", "dataset=meadow")
    assert "Accuracy" not in dry.stdout


def test_results_deleted_by_hand_are_made_again(project: Path):
    run(project, "meadow")
    for deleted, made in (
        ("meadow", ["index", "embed", "evaluate", "train", "serialize"]),
        ("meadow/v1/optimum/confusion_matrix.png", ["plot_confusion_matrix"]),
        ("meadow/v1/embeddings/0001-of-0002.npz", ["embed"]),
        ("meadow/shards/0000-of-0002.tsv", ["index"]),
        ("backbones/v1/extractor.tflite", ["make_extractor"]),
        ("../report.html", ["deliver"]),
    ):
        (project / "results" / deleted).rename(project / "away")
        listed = run_snakemake(project, "-n", "--config", "dataset=meadow")
        assert set(made) <= set(jobs_run(listed)), deleted
        # Back in its place, nothing is missed.
        (project / "away").rename(project / "results" / deleted)
    assert jobs_run(run(project, "meadow")) == []

    shutil.rmtree(project / "results/meadow")
    # What is asked for by name is there, and current.
    done = run(project, "meadow", CPU)
    assert jobs_run(done) == []
    assert "The results in results/meadow/v1/optimum are gone." in done.stdout
    run(project, "meadow")
    assert (project / "results/meadow/v1/optimum/evaluation.json").exists()
    assert jobs_run(run(project, "meadow")) == []


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
