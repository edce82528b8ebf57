"""The sample, from its archive of photos to the report, without anything from outside."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import (
    ROOT,
    assert_user_error,
    copy_project,
    jobs_run,
    run_in,
    run_snakemake,
)
from tests.report_picture import take_picture

SETTINGS = ("--config", "dataset=sample", "backbone=sample", "device=cpu")
BACKBONE = "results/sample/sample"
RESULTS = f"{BACKBONE}/optimum"
REPORT = f"{RESULTS}/report.html"
PICTURE = f"{RESULTS}/confusion_matrix.png"
MANIFEST = "results/sample/manifest.tsv"


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def planted(what: str) -> dict[str, str]:
    """What is like real life in the sample: the truth of every photo, by the end of its path."""
    rows = read_table(ROOT / "sample" / "planted.tsv")
    return {row["path"]: row["truth"] for row in rows if what in row["what"]}


def in_class_folder(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    project = copy_project(tmp_path_factory.mktemp("demo"))
    done = run_snakemake(project, *SETTINGS, "--", REPORT, PICTURE)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done


def test_the_sample_is_learned_but_for_what_is_like_real_life(run):
    project, done = run
    assert "make_extractor" in jobs_run(done)
    evaluation = json.loads((project / RESULTS / "evaluation.json").read_text())
    assert 0.88 <= evaluation["cross_validation"]["accuracy"] <= 0.98
    assert evaluation["test"]["photos"] >= 30
    skipped = (project / BACKBONE / "skipped.tsv").read_text()
    assert skipped.count("\n") == 2
    assert "daisy/IMG_1122.jpg\tcannot be decoded" in skipped


def test_the_picture_in_the_documentation_is_of_this_report(run, tmp_path: Path):
    project, _ = run
    picture = tmp_path / "report.png"
    take_picture(project / REPORT, picture)
    assert picture.stat().st_size < 300_000
    with Image.open(picture) as taken, Image.open(ROOT / "docs/report.png") as shown:
        assert taken.width == shown.width == 1000
        # Fonts differ between machines; what the page holds does not.
        assert taken.height == pytest.approx(shown.height, rel=0.1)
        # The photos are colourful; the rest of the page is black, grey and blue on white.
        photos = taken.convert("HSV").crop((0, taken.height - 300, 1000, taken.height - 120))
        assert np.mean(np.asarray(photos)[:, :, 1] > 64) > 0.2


def test_the_report_finds_what_is_planted(run):
    project, _ = run
    suspects = read_table(project / RESULTS / "suspects.tsv")
    suggested = {in_class_folder(row["path"]): row["suggested"] for row in suspects}
    wrong = planted("wrong label")
    assert len(wrong) == 4
    assert {path: suggested.get(path) for path in wrong} == wrong
    # The surest come first.
    assert {in_class_folder(row["path"]) for row in suspects[:4]} == set(wrong)
    copies = read_table(project / RESULTS / "copies.tsv")
    groups = {in_class_folder(row["path"]): row["group"] for row in copies}
    originals = planted("copy")
    assert len(originals) == 3
    for copy, original in originals.items():
        assert groups[copy] == groups[original]
    page = (project / REPORT).read_text(encoding="utf-8")
    assert "daisy/IMG_1122.jpg" in page
    for path in (*wrong, *originals):
        assert path in page


def test_a_second_run_does_nothing(run):
    done = run_snakemake(run[0], *SETTINGS, "--", REPORT, PICTURE)
    assert jobs_run(done) == []


@pytest.mark.parametrize("output", [">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize("is_made", [True, False])
def test_a_summary_that_nobody_gets(run, output: str, is_made: bool):
    project, _ = run
    if not is_made:
        (project / REPORT).unlink()
    command = f"snakemake --cores 1 {' '.join(SETTINGS)} -- {REPORT} {output}"
    done = run_in(project, "bash", "-o", "pipefail", "-c", command)
    assert (project / REPORT).is_file()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (".smk" in done.stderr, "Error: " in done.stderr) == (False, output != "| true")


def test_switching_the_dataset_keeps_what_is_there(run, tmp_path: Path):
    project, _ = run
    photos = project / "resources/datasets/sample/photos"
    (tmp_path / "mine").mkdir()
    for name in ("daisy", "rose"):
        (tmp_path / "mine" / name).symlink_to(photos / name)
    mine = ("--config", f"dataset={tmp_path / 'mine'}", "backbone=sample", "device=cpu")
    done = run_snakemake(project, *mine, "--", "retrained_model.tflite")
    assert done.returncode == 0, done.stderr
    assert "make_extractor" not in jobs_run(done)
    assert (project / "label_map.txt").read_text() == "0 daisy\n1 rose\n"
    done = run_snakemake(project, *SETTINGS, "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver"]
    assert (project / "label_map.txt").read_text().count("\n") == 5
    done = run_snakemake(project, *mine, "--", "retrained_model.tflite")
    assert jobs_run(done) == ["deliver"]


def test_corrections_are_learned_without_embedding_anything(run):
    project, _ = run
    before = json.loads((project / RESULTS / "evaluation.json").read_text())
    truth = planted("wrong label")
    photos = {in_class_folder(row["path"]): row for row in read_table(project / MANIFEST)}
    lines = ["sha256\tclass\tpath\tnote"]
    lines += [f"{photos[path]['sha256']}\t{label}\t{path}\t" for path, label in truth.items()]
    kept, left_out = "rose/IMG_0069.jpg", "tulip/IMG_0990-edited.jpg"
    lines.append(f"{photos[kept]['sha256']}\trose\t{kept}\tconfirmed")
    lines.append(f"{photos[left_out]['sha256']}\t\t{left_out}\t")
    lines.append(f"{0:064}\trose\tgone.jpg\t")
    corrections = project / "corrections.tsv"
    corrections.write_text("\n".join(lines) + "\n")
    corrected = (*SETTINGS, "corrections=corrections.tsv")
    done = run_snakemake(project, *corrected, "--", REPORT)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = jobs_run(done)
    assert "embed" not in jobs
    assert {"index", "train", "serialize", "evaluate", "report"} <= set(jobs)
    rows = {in_class_folder(row["path"]): row for row in read_table(project / MANIFEST)}
    assert {path: rows[path]["class"] for path in truth} == truth
    assert left_out not in rows
    suspects = [in_class_folder(r["path"]) for r in read_table(project / RESULTS / "suspects.tsv")]
    assert not {*truth, kept} & set(suspects)
    after = json.loads((project / RESULTS / "evaluation.json").read_text())
    assert after["cross_validation"]["accuracy"] > before["cross_validation"]["accuracy"]
    page = (project / REPORT).read_text(encoding="utf-8")
    assert "4 relabelled, 1 confirmed, 1 left out and 1 missing" in page
    assert "6 corrections instead of 0" in page
    assert jobs_run(run_snakemake(project, *corrected, "--", REPORT)) == []
    corrections.write_text(corrections.read_text().replace(f"\trose\t{kept}", f"\troze\t{kept}"))
    done = run_snakemake(project, *corrected, "--", REPORT)
    assert_user_error(done, "corrections.tsv, line 6", "Did you mean rose?")
    done = run_snakemake(project, *SETTINGS, "--", REPORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_table(project / MANIFEST) == list(photos.values())
    assert json.loads((project / RESULTS / "evaluation.json").read_text())["test"] == before["test"]


def test_recipes_are_compared_on_the_same_photos(run):
    project, _ = run
    compared = (*SETTINGS, 'compare=[{"training": {"recipe": "coral"}}]')
    done = run_snakemake(project, *compared, "--", "compare")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((project / "results/sample/comparison.json").read_text())
    by_recipe = {row["recipe"]: row for row in rows}
    assert set(by_recipe) == {"optimum", "coral"}
    assert rows[0]["correct"] >= rows[1]["correct"]
    evaluation = json.loads((project / RESULTS / "evaluation.json").read_text())
    assert evaluation["recipe"] == "optimum"
    for row in rows:
        assert row["photos"] == evaluation["cross_validation"]["photos"]
        assert row["milliseconds"] > 0
    assert by_recipe["optimum"]["correct"] == evaluation["cross_validation"]["correct"]
    assert "may be chance" in done.stdout
    assert "coral" in (project / "results/sample/comparison.html").read_text()
    assert jobs_run(run_snakemake(project, *compared, "--", "compare")) == []
    assert jobs_run(run_snakemake(project, *SETTINGS, "--", REPORT)) == []
    wrong = (*SETTINGS, "compare=[{name: mine, tflite: config.yaml}]")
    assert_user_error(
        run_snakemake(project, *wrong, "--", "compare"), "config.yaml is not a TFLite"
    )
