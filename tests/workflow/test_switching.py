"""What stands at the top is of the configuration, whatever was run in the folder before."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import (
    Snakemake,
    configure,
    jobs_run,
    lay_photos,
    run_snakemake,
    small_backbone,
)

TARGET = "retrained_model.tflite"


def lay_sources(project: Path, photos: Path) -> None:
    """Two archives and two folders of other photos each; one of either shares its name."""
    for i, name in enumerate(("one.zip", "two.zip", "folder", "deeper/one")):
        folder = project / name.removesuffix(".zip")
        for label in ("daisy", "rose"):
            (folder / label).mkdir(parents=True)
            for path in sorted((photos / label).iterdir())[10 * i : 10 * (i + 1)]:
                shutil.copy(path, folder / label)
        if name.endswith(".zip"):
            shutil.make_archive(str(folder), "zip", folder)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def expected(sample_photos: Path, made: Path, tmp_path_factory) -> dict[str, bytes]:
    """The model that a fresh folder makes of each source."""
    from tests.conftest import copy_project

    models = {}
    project = copy_project(tmp_path_factory.mktemp("expected"))
    lay_sources(project, sample_photos)
    configure(project, backbone=small_backbone(made), device="cpu")
    for name in ("one.zip", "two.zip", "folder", "deeper/one"):
        for path in ("results", "resources", ".snakemake", TARGET):
            if (project / path).is_dir():
                shutil.rmtree(project / path)
            else:
                (project / path).unlink(missing_ok=True)
        done = run_snakemake(project, "--config", f"dataset={name}", "--", TARGET)
        assert done.returncode == 0, done.stdout + done.stderr
        models[name] = (project / TARGET).read_bytes()
    assert len(set(models.values())) == 4
    return models


def test_every_order_of_data_sets(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path, expected
):
    """Each of the four follows each of the others; a dry run before says that something is due."""
    lay_sources(project, sample_photos)
    configure(project, backbone=small_backbone(made), device="cpu")
    # A walk along every arrow between the four.
    order = ["one.zip"]
    arrows = set(itertools.permutations(expected, 2))
    while arrows:
        following = [b for a, b in sorted(arrows) if a == order[-1]] or [sorted(arrows)[0][0]]
        arrows.discard((order[-1], following[0]))
        order.append(following[0])
    for before, name in zip([None, *order], order, strict=False):
        arguments = ("--config", f"dataset={name}", "--", TARGET)
        assert "deliver" in jobs_run(snakemake("-n", *arguments)), (before, name)
        done = snakemake(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (project / TARGET).read_bytes() == expected[name], (before, name)
        page = (project / "report.html").read_text()
        assert name in page
    assert jobs_run(snakemake("-n", *arguments)) == []


def test_backbones_and_recipes(project: Path, snakemake: Snakemake, sample_photos: Path, made):
    """Going back to a recipe delivers it, and trains nothing."""
    lay_photos(sample_photos, project / "photos", 10, ("daisy", "rose"))
    small = small_backbone(made)
    configure(project, dataset="photos", backbone=small, device="cpu")
    other = json.dumps(small | {"name": "other"})
    choices = [
        "training={recipe: coral}",
        "training={recipe: coral, reg: 0.1}",
        f"backbone={other}",
    ]
    models = {}
    for choice in [*choices, *reversed(choices)]:
        done = snakemake("--config", choice, "--", TARGET)
        assert done.returncode == 0, done.stdout + done.stderr
        model = (project / TARGET).read_bytes()
        if choice in models:
            assert jobs_run(done) in ([], ["deliver"])
            assert model == models[choice]
        models[choice] = model
    assert len({models[choice] for choice in choices}) == 3


def test_what_was_delivered_for_another_model_goes(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path
):
    """The twin, the bundle and Frigate's folder, but nothing that the user laid beside them."""
    for i, name in enumerate(("first", "second")):
        lay_photos(sample_photos, project / name, 10 + i, ("daisy", "rose"))
    configure(project, dataset="first", backbone=small_backbone(made), device="cpu")
    done = snakemake("retrained_model_edgetpu.tflite", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    (project / "bundle" / "notes.txt").write_text("mine")
    (project / "bundle" / "README.md").write_text("mine, too")
    (project / "retrained_model_of_march.tflite").write_bytes(b"mine")
    done = snakemake("--config", "dataset=second", "--", TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "belong to another model: bundle/" in done.stdout + done.stderr
    assert not (project / "retrained_model_edgetpu.tflite").exists()
    assert not (project / "bundle.zip").exists()
    assert sorted(path.name for path in (project / "bundle").iterdir()) == [
        "README.md",
        "notes.txt",
    ]
    assert (project / "retrained_model_of_march.tflite").read_bytes() == b"mine"
    done = snakemake("retrained_model_edgetpu.tflite", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "bundle" / "notes.txt").read_text() == "mine"
    assert (project / "bundle/model.tflite").read_bytes() == (project / TARGET).read_bytes()


def test_the_default_target_is_the_whole_delivery(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path
):
    """Without a target and without --; also after the results were deleted."""
    lay_photos(sample_photos, project / "photos", 10, ("daisy", "rose"))
    configure(project, backbone=small_backbone(made), device="cpu")
    command = ("--config", "dataset=photos")
    done = snakemake(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    names = ("retrained_model_edgetpu.tflite", TARGET, "label_map.txt", "report.html")
    contents = {name: (project / name).read_bytes() for name in names[:3]}
    results = project / "results/photos/small/optimum"
    assert {"evaluation.json", "confusion_matrix.png"} <= {path.name for path in results.iterdir()}
    assert jobs_run(snakemake(*command)) == []
    shutil.rmtree(project / "results/photos")
    done = snakemake(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (results / "evaluation.json").exists()
    assert {name: (project / name).read_bytes() for name in contents} == contents
    (results.parent / "embeddings/0000-of-0001.npz").unlink()
    done = snakemake(*command)
    assert "Embeddings: 0 computed, 20 reused" in done.stdout + done.stderr
    assert jobs_run(snakemake(*command)) == []


def test_archives_of_the_same_name_at_two_urls(
    project: Path, snakemake: Snakemake, serve, sample_photos: Path, tmp_path: Path
):
    """Neither is taken for the other, and what the second replaces is said."""
    archives = {}
    for name, label in (("a", "rose"), ("b", "daisy")):
        lay_photos(sample_photos, tmp_path / name, count=3, labels=[label, "tulip"])
        packed = shutil.make_archive(str(tmp_path / name), "zip", tmp_path / name)
        archives[f"/{name}/garden.zip"] = Path(packed).read_bytes()
    address, _ = serve(archives)
    manifest = "results/garden/manifest.tsv"
    replaced = "another archive with this name"
    first, second = (f"dataset={address}/{name}/garden.zip" for name in "ab")
    for dataset, label, warned in (
        (first, "rose", False),
        (second, "daisy", True),
        (second, "daisy", False),
    ):
        done = snakemake("--config", dataset, "backbone=sample", "device=cpu", "--", manifest)
        assert done.returncode == 0, done.stderr
        classes = {line.split("\t")[1] for line in (project / manifest).read_text().splitlines()}
        assert classes & {"rose", "daisy"} == {label}
        assert (replaced in done.stderr) == warned
        assert (f"{first.removeprefix('dataset=')}, are replaced" in done.stderr) == warned
