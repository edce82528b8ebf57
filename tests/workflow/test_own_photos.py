"""A folder of one's own photos: broken ones, more of them, and runs that are cut short."""

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import dataset, files
from edgetpu_retrain.embeddings import Embeddings
from tests.conftest import Snakemake, assert_user_error, jobs_run

MODEL = "mobilenet_v1_1.0_224"
TARGET = "retrained_model_edgetpu.tflite"
AFTER_A_SHARD = ["deliver", "deliver_edgetpu", "evaluate", "serialize", "serialize", "train"]


@pytest.fixture
def own(project: Path, photos: Path) -> Path:
    """photos/: 25 daisies and 25 roses, and a configuration that names it."""
    for label in ("daisy", "roses"):
        (project / "photos" / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:25]:
            shutil.copy(path, project / "photos" / label)
    shutil.copy(project / "tests/config/flowers.yaml", project / "config.yaml")
    settings = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(
        settings.replace("../shared/data/flower_photos_1000.tgz", "photos")
    )
    return project / "photos"


def skipped(project: Path) -> dict[str, str]:
    with (project / "results/photos/skipped.tsv").open(newline="") as file:
        return {
            Path(row["path"]).name: row["reason"] for row in csv.DictReader(file, delimiter="\t")
        }


def embedded(project: Path) -> Embeddings:
    paths = sorted((project / f"results/photos/{MODEL}/embeddings").glob("*.npz"))
    return Embeddings.load_all(list(paths))


def test_photos_of_every_sort(own: Path, project: Path, snakemake: Snakemake, photos: Path):
    real = sorted((photos / "daisy").iterdir())[30:40]
    picture = Image.open(real[0])
    odd = own / "daisy" / "Garten im Süden"
    odd.mkdir()
    picture.convert("CMYK").save(odd / "cmyk ä.jpg")
    Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257).save(odd / "16 bit.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(odd / "phone.jpg", exif=exif, quality=95)
    picture.convert("P").save(odd / "palette.gif")
    (own / "daisy" / "truncated.jpg").write_bytes(real[1].read_bytes()[:9000])
    (own / "daisy" / "empty.jpg").touch()
    (own / "roses" / "text.jpg").write_text("these are not roses")
    (own / "roses" / "Thumbs.db").write_bytes(b"\0" * 99)
    (own / "roses" / "notes.txt").write_text("a note")
    done = snakemake(TARGET)
    assert done.returncode == 0, done.stderr
    assert "54 photos in 2 classes, 3 skipped" in done.stdout + done.stderr
    reasons = skipped(project)
    assert sorted(reasons) == ["empty.jpg", "text.jpg", "truncated.jpg"]
    assert "empty" in reasons["empty.jpg"]
    assert "truncated" in reasons["truncated.jpg"]
    # The phone photo, stored turned, is the upright picture up to JPEG's losses.
    result = embedded(project)
    rows = {
        identity: row.astype(int)
        for identity, row in zip(result.photos.tolist(), result.embeddings, strict=True)
    }
    turned = rows[files.sha256(odd / "phone.jpg")]
    same = rows[files.sha256(odd / "cmyk ä.jpg")]
    other = rows[files.sha256(own / "roses" / sorted(p.name for p in (own / "roses").iterdir())[0])]
    assert np.abs(turned - same).mean() < 0.5 * np.abs(turned - other).mean()


def test_adding_and_removing_photos(own: Path, project: Path, snakemake: Snakemake, photos: Path):
    snakemake(TARGET)
    assert jobs_run(snakemake(TARGET)) == []
    before = embedded(project)
    new = shutil.copy(sorted((photos / "roses").iterdir())[50], own / "roses" / "new one.jpg")
    done = snakemake(TARGET)
    assert jobs_run(done) == sorted([*AFTER_A_SHARD, "embed", "index_photos"])
    assert "1 photos embedded" in done.stdout + done.stderr
    after = embedded(project)
    assert set(after.photos) == {*before.photos, files.sha256(new)}
    assert jobs_run(snakemake(TARGET)) == []
    Path(new).unlink()
    assert "embed" in jobs_run(snakemake(TARGET))
    assert embedded(project).photos.tolist() == before.photos.tolist()


def test_too_many_broken_photos(own: Path, project: Path, snakemake: Snakemake):
    for i in range(9):
        (own / "roses" / f"broken{i}.jpg").write_bytes(b"\xff\xd8 broken")
    done = snakemake(TARGET)
    assert_user_error(done, "9 of 59 photos", "roses/broken0.jpg", "max_skipped")
    assert snakemake("--config", "max_skipped=0.3", "--", TARGET).returncode == 0
    assert len(skipped(project)) == 9


def test_a_class_that_is_too_small(own: Path, snakemake: Snakemake):
    (own / "tulips").mkdir()
    done = snakemake(TARGET)
    assert_user_error(done, "'tulips' has 0", "at least 3 photos")


def test_a_wrong_checksum(own: Path, project: Path, snakemake: Snakemake):
    shutil.make_archive(str(project / "mine"), "zip", own)
    arguments = ("dataset=mine.zip", f"dataset_sha256='{'a' * 64}'")
    done = snakemake("--config", *arguments, "--", TARGET)
    assert_user_error(done, "SHA-256", "a" * 64)
    assert not (project / "resources/datasets/mine/photos").exists()
    good = files.sha256(project / "mine.zip")
    assert (
        snakemake("--config", arguments[0], f"dataset_sha256={good}", "--", TARGET).returncode == 0
    )


def test_training_that_diverges(own: Path, snakemake: Snakemake):
    done = snakemake("--config", "training={learning_rate: 1e38}", "--", TARGET)
    assert_user_error(done, "Training diverged", "lower training.learning_rate")


def test_names_with_braces(own: Path, project: Path, snakemake: Snakemake):
    own.rename(project / "we{i}rd")
    done = snakemake("--config", "dataset=we{i}rd", "--", TARGET)
    assert done.returncode == 0, done.stderr
    shutil.make_archive(str(project / "a{b}"), "zip", project / "we{i}rd")
    done = snakemake("--config", "dataset=a{b}.zip", "--", TARGET)
    assert_user_error(done, "dataset is 'a{b}.zip'", "Rename it")


def test_another_number_of_shards_gives_the_same_model(
    own: Path, project: Path, snakemake: Snakemake
):
    model = project / TARGET
    assert snakemake(TARGET).returncode == 0
    first = model.read_bytes()
    # The third of these runs finds one manifest and all that was made of it missing.
    for shards in (4, 6, "6.0", 2):
        if shards == "6.0":
            (project / "results/photos/shards/03.tsv").unlink()
            shutil.rmtree(project / f"results/photos/{MODEL}")
        model.unlink()
        done = snakemake("--config", f"shards={shards}", "--", TARGET)
        assert done.returncode == 0, done.stderr
        head = np.load(project / f"results/photos/{MODEL}/head.npz")
        assert json.loads(str(head["training"]))["photos"] == sum(
            photo.split == "train"
            for path in (project / "results/photos/shards").glob("*.tsv")
            if int(path.stem) < float(shards)
            for photo in dataset.read_shard(path)
        )
        assert model.read_bytes() == first
        again = snakemake("--config", f"shards={shards}", "--", TARGET)
        assert "Nothing to be done" in again.stdout + again.stderr


def test_an_edge_tpu_that_is_not_there(own: Path, snakemake: Snakemake):
    done = snakemake("--config", "device=usb:3", "--", TARGET)
    assert_user_error(done, "The Edge TPU 'usb:3' cannot be used", "Likely causes")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])  # Ctrl-C, a power cut
def test_a_run_that_is_killed_goes_on(own: Path, project: Path, snakemake: Snakemake, by):
    command = [Path(sys.executable).with_name("snakemake"), "--cores", "2", TARGET]
    process = subprocess.Popen(
        command, cwd=project, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        # A shell's background jobs, and what they start, ignore SIGINT.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    folder = project / f"results/photos/{MODEL}/embeddings"
    deadline = time.monotonic() + 120
    # Two jobs at a time: of four files, two or more are of jobs that had ended.
    while len(list(folder.glob("*.npz"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, by)
    process.wait(timeout=60)
    assert len(list(folder.glob("*.npz"))) >= 4
    assert not (project / TARGET).exists()
    again = snakemake(TARGET)
    assert again.returncode == 0, again.stderr
    assert jobs_run(again).count("embed") <= 8 - 2
    assert len(dataset.read_shard(project / "results/photos/shards/00.tsv")) > 0
    assert len(embedded(project).photos) == 50
