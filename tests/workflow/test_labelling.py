"""Runs with photos that are not sorted: labels in the file do what folders do."""

import hashlib
import json
import shutil
from pathlib import Path

from tests.conftest import (
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    small_backbone,
)

HEADER = "sha256\tclass\tpath\tnote\n"
HEAD = "small/optimum/head.npz"


def test_labels_in_the_file_do_what_folders_do(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path
):
    lay_photos(sample_photos, project / "sorted", 12)
    heap = project / "clips/birds/train"
    heap.mkdir(parents=True)
    lines = []
    for path in sorted((project / "sorted").glob("*/*")):
        shutil.copy(path, heap / f"{len(lines):03}{path.suffix}")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{sha256}\t{path.parent.name}\t\t\n")
    backbone = small_backbone(made)
    configure(
        project, dataset=None, unlabelled="clips/birds/train", backbone=backbone, device="cpu"
    )

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
    done = snakemake("--", "retrained_model.tflite")
    assert done.returncode == 0, done.stderr
    assert not {"embed", "label", "make_extractor"} & set(jobs_run(done))
    assert "label" not in jobs_run(snakemake("--", "label"))

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
