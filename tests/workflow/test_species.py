"""Classes that a network knows by name: what the command says, and the report after it."""

import html
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import (
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    run_in,
    small_backbone,
)

SCRIPT = "scripts/show_backbones.py"
BIRDS, INSECTS, PLANTS = (
    f"mobilenet_v2_1.0_224_inat_{name}_quant" for name in ("bird", "insect", "plant")
)
LISTS = "resources/labels"


@pytest.fixture
def published(project: Path, models: Path, serve) -> dict[str, bytes]:
    """The lists of labels on a server in place of the public one: the real one of birds."""
    files = {
        "/inat_bird_labels.txt": (models / "inat_bird_labels.txt").read_bytes(),
        "/inat_insect_labels.txt": b"Musca domestica (House Fly)\nbackground\nApis mellifera ()\n",
    }
    address, _ = serve(files)
    catalogue = project / "workflow/backbones.yaml"
    text = re.sub(r"https://\S+/(?=inat_\w+_labels)", f"{address}/", catalogue.read_text())
    catalogue.write_text(text)
    assert text.count(address) == 3
    return files


def show(project: Path, *classes: str):
    return run_in(project, "python", SCRIPT, "--for", *classes)


def test_the_command_says_which_network_knows_the_classes(project: Path, published):
    published["/inat_plant_labels.txt"] = b"Bellis perennis (Common Daisy)\n"
    classes = ("robin", "Turdus merula", "house_sparrow", "flies")
    done = show(project, *classes)
    assert done.returncode == 0, done.stderr
    known = [
        f"{BIRDS} knows 3 of 4 by name: robin, Turdus merula, house_sparrow.",
        f"{INSECTS} knows 1 of 4 by name: flies.",
        f"{PLANTS} knows none of 4 by name.",
    ]
    assert done.stdout.splitlines()[:3] == known
    assert "add it to compare in config.yaml" in done.stdout
    # Once is enough; a list of a model's classes stands for them.
    published.clear()
    (project / "label_map.txt").write_text("0 daisy\n1 robin\n")
    done = show(project, "label_map.txt")
    assert done.stdout.splitlines()[:3] == [
        f"{BIRDS} knows 1 of 2 by name: robin.",
        f"{PLANTS} knows 1 of 2 by name: daisy.",
        f"{INSECTS} knows none of 2 by name.",
    ]
    assert done.stderr == ""
    assert_user_error(show(project, "results/label_map.txt"), "no file results/label_map.txt")


def test_a_list_that_cannot_be_had_is_named(project: Path, published):
    published["/inat_bird_labels.txt"] += b"\n"
    published["/inat_plant_labels.txt"] = b"<html>Log in</html>"
    done = show(project, "robin", "fly")
    assert_user_error(done, "its git blob id is", "not a list of labels", f"{LISTS}/{BIRDS}.txt")
    assert done.stdout.startswith(f"{INSECTS} knows 1 of 2 by name: fly.")
    assert [path.name for path in (project / LISTS).iterdir()] == [f"{INSECTS}.txt"]


def test_the_report_names_the_network(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path, published
):
    """Offline, it gives the command; when that has been run, the next report knows."""
    lay_photos(sample_photos, project / "garden", 24, ("daisy", "rose", "tulip"))
    names = {"daisy": "Turdus merula", "rose": "european_robin", "tulip": "bolt"}
    for folder, name in names.items():
        (project / "garden" / folder).rename(project / "garden" / name)
    # Some wrong labels: there is no advice on another network where nothing is left to gain.
    for path in sorted((project / "garden/bolt").iterdir())[:2]:
        path.rename(project / "garden/Turdus merula" / path.name)
    configure(project, dataset="garden", backbone=small_backbone(made), device="cpu")
    page = project / "report.html"
    assert snakemake("--", page.name).returncode == 0
    [command] = re.findall(r"`(\S*python \S+ --for [^`]+)` says which", page.read_text())
    assert BIRDS not in page.read_text()
    assert not (project / LISTS).exists()
    assert jobs_run(snakemake("--", page.name)) == []

    assert "knows 2 of 3" in run_in(project, *shlex.split(html.unescape(command))).stdout
    assert jobs_run(snakemake("--", page.name)) == ["deliver", "report"]
    text = html.unescape(page.read_text())
    assert f"{BIRDS} knows Turdus merula and european_robin by name (2 of 3 classes)." in text
    assert jobs_run(snakemake("--", page.name)) == []
    # A damaged list is none, and no reason for a report to fail.
    (project / LISTS / f"{BIRDS}.txt").write_bytes(b"\xff")
    assert jobs_run(snakemake("--", page.name)) == ["deliver", "report"]
    assert BIRDS not in page.read_text()
