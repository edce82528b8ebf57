"""Runs with photos that are not sorted: labels in the file do what folders do."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from tests.conftest import (
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    small_backbone,
)
from tests.workflow.test_kills import jobs_of, scripts_of, start

HEADER = "sha256\tclass\tpath\tnote\n"
HEAD = "small/optimum/head.npz"


def kill_while(rule: str, project: Path) -> None:
    """Kills a run and its jobs while a job of the rule runs."""
    run = start(project)
    while rule not in scripts_of(jobs_of(run)):
        assert run.poll() is None
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_labels_in_the_file_do_what_folders_do(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path
):
    lay_photos(sample_photos, project / "sorted", 12)
    heap = project / "clips/birds/train"
    heap.mkdir(parents=True)
    lines = []
    # A photo of each class stays without a label.
    lay_photos(sample_photos, project / "all", 13)
    for number, path in enumerate(sorted((project / "all").glob("*/*"))):
        shutil.copy(path, heap / f"{number:03}{path.suffix}")
        if (project / "sorted" / path.parent.name / path.name).exists():
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{sha256}\t{path.parent.name}\t\t\n")
    backbone = small_backbone(made)
    configure(
        project, dataset=None, unlabelled="clips/birds/train", backbone=backbone, device="cpu",
        compare=[{"training": {"recipe": "imprinting"}}],
    )  # fmt: skip

    # Everything for the page is there before any label.
    first = snakemake("--", "label")
    assert first.returncode == 0, first.stderr
    sources = json.loads((project / "results/labelling.json").read_text())
    assert sources["dataset"] == "birds"
    assert Path(sources["labels"]) == project / "corrections.tsv"
    assert (project / sources["groups"]).is_file()
    assert_user_error(snakemake("--", "retrained_model.tflite"), "At least 2 classes", "label.py")

    # Labels change neither embeddings nor what the page needs.
    (project / "corrections.tsv").write_text(HEADER + "".join(lines))
    kill_while("train", project)
    done = snakemake("--", "bundle", "compare")
    assert done.returncode == 0, done.stderr
    assert not {"embed", "label", "make_extractor"} & set(jobs_run(done))
    assert "label" not in jobs_run(snakemake("--", "label"))
    assert "5 photos have no label yet" in (project / "report.html").read_text()
    labels = [line.split() for line in (project / "bundle/labels.txt").read_text().splitlines()]
    assert [name for _, name in labels] == sorted(p.name for p in (project / "sorted").iterdir())

    exported = snakemake("--", "export")
    assert exported.returncode == 0, exported.stderr
    labelled = project / "results/birds/labelled"
    # Snakemake puts a hidden file there.
    assert sorted(path.name for path in labelled.glob("[!.]*")) == sorted(
        path.name for path in (project / "sorted").iterdir()
    )

    # The same photos in folders, by themselves and as they were exported; and in an archive.
    shutil.copytree(labelled, project / "exported")
    shutil.make_archive(str(project / "packed"), "zip", heap)
    (project / "none").mkdir()
    for name, settings in (
        ("sorted", {"dataset": "sorted", "unlabelled": None}),
        ("exported", {"dataset": "exported", "unlabelled": None}),
        ("packed", {"dataset": None, "unlabelled": ["packed.zip", "none"]}),
    ):
        configure(project, **settings)
        other = snakemake("--", f"results/{name}/{HEAD}")
        assert other.returncode == 0, other.stderr
        assert ("extract_dataset" in jobs_run(other)) == (name == "packed")
        head = project / f"results/{name}/{HEAD}"
        assert head.read_bytes() == (project / f"results/birds/{HEAD}").read_bytes()
    assert not jobs_run(snakemake("--", f"results/packed/{HEAD}"))
