"""Runs that learn from photos without a label."""

import json
import shutil
from pathlib import Path

from edgetpu_retrain.head import Head
from tests.conftest import Snakemake, configure, jobs_run, lay_photos, small_backbone

PSEUDO = {"training": {"pseudo_labels": True}}


def test_photos_without_a_label_are_learned_from(
    project: Path, snakemake: Snakemake, sample_photos: Path, made: Path
):
    lay_photos(sample_photos, project / "sorted", 15)
    lay_photos(sample_photos, project / "all", 40)
    heap = project / "heap"
    heap.mkdir()
    for number, path in enumerate(sorted((project / "all").glob("*/*"))):
        if not (project / "sorted" / path.parent.name / path.name).exists():
            shutil.copy(path, heap / f"{number:03}{path.suffix}")
    spare = next(heap.iterdir())
    spare.rename(project / "spare.jpg")
    settings = {"dataset": "sorted", "unlabelled": "heap", "device": "cpu"}
    configure(project, **settings, backbone=small_backbone(made), compare=[PSEUDO])
    done = snakemake("--", "compare")
    assert done.returncode == 0, done.stderr
    results = project / "results/sorted/small"
    plain, taught = (results / name for name in ("optimum", "optimum-pseudo_labels=true"))
    record = Head.load(taught / "head.npz").training["pseudo_labels"]
    assert record["photos"] > 80 and record["sure"] > 0
    assert "pseudo_labels" not in Head.load(plain / "head.npz").training
    rows = json.loads((project / "results/sorted/comparison.json").read_text())
    assert "optimum-pseudo_labels=true" in json.dumps(rows)

    # The same model, now as the configured one; the summary and the report say what was done.
    configure(project, **PSEUDO, compare=[{"training": {"recipe": "optimum"}}])
    done = snakemake("--", "all", "bundle")
    assert done.returncode == 0, done.stderr
    assert not {"embed", "train"} & set(jobs_run(done))
    sentence = f"Pseudo-labels: {record['sure']} of {record['photos']} photos without a label"
    assert sentence in done.stdout + done.stderr
    assert sentence in (project / "report.html").read_text()

    # Other shards give the same bytes. Another photo changes this model, and not the other.
    head, other = (str((one / "head.npz").relative_to(project)) for one in (taught, plain))
    before = {path: (project / path).read_bytes() for path in (head, other)}
    (project / head).unlink()
    done = snakemake("--config", "shards=3", "--", head)
    assert done.returncode == 0, done.stderr
    assert (project / head).read_bytes() == before[head]
    shutil.move(project / "spare.jpg", heap / spare.name)
    done = snakemake("--", head, other)
    assert done.returncode == 0, done.stderr
    assert (project / other).read_bytes() == before[other]
    after = Head.load(project / head).training["pseudo_labels"]
    assert after["photos"] == record["photos"] + 1
