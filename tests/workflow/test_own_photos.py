"""A folder of one's own photos: broken ones, more of them, and runs that are cut short."""

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

from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from tests.conftest import (
    Snakemake,
    assert_user_error,
    configure,
    jobs_run,
    lay_photos,
    small_backbone,
)

MODEL = "small"
TARGET = "retrained_model_edgetpu.tflite"


@pytest.fixture
def own(project: Path, sample_photos: Path, made: Path) -> Path:
    """photos/: 25 daisies and 25 roses, and a configuration that names it."""
    lay_photos(sample_photos, project / "photos", 25, ("daisy", "rose"))
    configure(project, dataset="photos", backbone=small_backbone(made), device="cpu", shards=2)
    return project / "photos"


def skipped(project: Path) -> dict[str, str]:
    listed = manifest.read_skipped(project / f"results/photos/{MODEL}/skipped.tsv")
    return {Path(photo.path).name: photo.reason for photo in listed}


def embedded(project: Path) -> dict[str, np.ndarray]:
    """The vectors of all photos, by identity."""
    found = {}
    for path in sorted((project / f"results/photos/{MODEL}/embeddings").glob("*.npz")):
        shard = Embeddings.load(path)
        found |= zip(shard.photos.astype(str).tolist(), shard.embeddings.astype(int), strict=True)
    return found


def test_photos_of_every_sort(own: Path, project: Path, snakemake: Snakemake, sample_photos: Path):
    real = sorted((sample_photos / "daisy").iterdir())[30:40]
    picture = Image.open(real[0])
    odd = own / "daisy" / "Garten im Süden"
    odd.mkdir()
    picture.convert("CMYK").save(odd / "cmyk ä.jpg")
    Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257).save(odd / "16 bit.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(odd / "phone.jpg", exif=exif, quality=95)
    picture.convert("P").save(odd / "palette.gif")
    (own / "daisy" / "truncated.jpg").write_bytes(real[1].read_bytes()[:2000])
    (own / "daisy" / "empty.jpg").touch()
    (own / "rose" / "text.jpg").write_text("these are not roses")
    (own / "rose" / "Thumbs.db").write_bytes(b"\0" * 99)
    (own / "rose" / "notes.txt").write_text("a note")
    done = snakemake(TARGET)
    assert done.returncode == 0, done.stderr
    assert "3 photos skipped, listed in" in done.stdout + done.stderr
    reasons = skipped(project)
    assert sorted(reasons) == ["empty.jpg", "text.jpg", "truncated.jpg"]
    assert "empty" in reasons["empty.jpg"]
    assert "not an image" in reasons["text.jpg"]
    assert "truncated" in reasons["truncated.jpg"]
    # The phone photo, stored turned, is the upright picture up to JPEG's losses.
    rows = embedded(project)
    assert len(rows) == 54
    turned = rows[files.sha256(odd / "phone.jpg")]
    same = rows[files.sha256(odd / "cmyk ä.jpg")]
    other = rows[files.sha256(min((own / "rose").glob("*.jpg")))]
    assert np.abs(turned - same).mean() < 0.5 * np.abs(turned - other).mean()


def test_adding_and_removing_photos(
    own: Path, project: Path, snakemake: Snakemake, sample_photos: Path
):
    snakemake(TARGET)
    assert jobs_run(snakemake(TARGET)) == []
    before = embedded(project)
    new = shutil.copy(sorted((sample_photos / "rose").iterdir())[50], own / "rose" / "new one.jpg")
    done = snakemake(TARGET)
    assert jobs_run(done).count("embed") == 1
    assert {"index", "train", "evaluate", "deliver"} <= set(jobs_run(done))
    assert "Embeddings: 1 computed" in done.stdout + done.stderr
    after = embedded(project)
    assert set(after) == {*before, files.sha256(new)}
    assert jobs_run(snakemake(TARGET)) == []
    Path(new).unlink()
    assert "Embeddings: 0 computed" in (done := snakemake(TARGET)).stdout + done.stderr
    assert set(embedded(project)) == set(before)


def test_too_many_broken_photos(own: Path, project: Path, snakemake: Snakemake):
    """What is not a photo by its first bytes is said before any is embedded."""
    for i in range(9):
        (own / "rose" / f"broken{i}.jpg").write_bytes(b"\xff\xd8 broken")
    done = snakemake(TARGET)
    assert_user_error(done, "9 of 59 photos", "rose/broken0.jpg", "max_skipped")
    assert "embed" not in jobs_run(done)
    assert snakemake("--config", "max_skipped=0.3", "--", TARGET).returncode == 0
    assert len(skipped(project)) == 9


def test_too_many_photos_that_cannot_be_decoded(own: Path, project: Path, snakemake: Snakemake):
    """They are found where they are decoded, and counted before the layer is trained."""
    paths = sorted((own / "rose").iterdir())
    for i in range(9):
        (own / "rose" / f"broken{i}.jpg").write_bytes(paths[i].read_bytes()[: 1000 + i])
    (own / "daisy" / "empty.jpg").touch()
    done = snakemake(TARGET)
    assert_user_error(done, "10 of 60 photos", "daisy/empty.jpg", "broken", "max_skipped")
    assert not list(project.glob(f"results/photos/{MODEL}/*/head.npz"))
    assert len(skipped(project)) == 10
    done = snakemake("--config", "max_skipped=0.3", "--", TARGET)
    assert done.returncode == 0, done.stderr
    assert "embed" not in jobs_run(done)


def test_a_class_that_is_too_small(own: Path, snakemake: Snakemake):
    (own / "tulip").mkdir()
    done = snakemake(TARGET)
    assert_user_error(done, "'tulip' has 0", "at least 3 photos")


def test_a_class_of_which_too_few_can_be_decoded(own: Path, snakemake: Snakemake):
    (own / "tulip").mkdir()
    for i, path in enumerate(sorted((own / "rose").iterdir())[:4]):
        content = path.read_bytes()
        (own / "tulip" / path.name).write_bytes(content[:1000] if i < 2 else content)
    done = snakemake(TARGET)
    assert_user_error(done, "'tulip' has 2 (2 photos could not be read", "small/skipped.tsv")


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


def test_names_with_braces(own: Path, project: Path, snakemake: Snakemake):
    own.rename(project / "we{i}rd")
    done = snakemake("--config", "dataset=we{i}rd", "--", TARGET)
    assert done.returncode == 0, done.stderr
    shutil.make_archive(str(project / "a{b}"), "zip", project / "we{i}rd")
    done = snakemake("--config", "dataset=a{b}.zip", "--", TARGET)
    assert_user_error(done, "dataset is 'a{b}.zip'", "Rename it")


def test_an_edge_tpu_that_is_not_there(own: Path, snakemake: Snakemake):
    done = snakemake("--config", "device=usb:3", "--", TARGET)
    assert_user_error(done, "The Edge TPU 'usb:3' cannot be used", "Likely causes")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])  # Ctrl-C, a power cut
def test_a_run_that_is_killed_goes_on(own: Path, project: Path, snakemake: Snakemake, by):
    configure(project, shards=8)
    command = [Path(sys.executable).with_name("snakemake"), "--cores", "2", TARGET]
    process = subprocess.Popen(
        command, cwd=project, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        # A shell's background jobs, and what they start, ignore SIGINT.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    folder = project / f"results/photos/{MODEL}/embeddings"
    deadline = time.monotonic() + 240
    # Two jobs at a time: of four files, two or more are of jobs that had ended.
    while len(list(folder.glob("*.npz"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, by)
    process.wait(timeout=60)
    assert len(list(folder.glob("*.npz"))) >= 4
    assert not (project / TARGET).exists()
    # A dry run in between harms nothing, and needs no --unlock either.
    look = snakemake("-n", "--", TARGET)
    assert look.returncode == 0, look.stderr
    assert "train" in jobs_run(look)
    again = snakemake(TARGET)
    assert again.returncode == 0, again.stderr
    assert jobs_run(again).count("embed") <= 8 - 2
    assert len(embedded(project)) == 50
    training = json.loads(str(np.load(folder.parent / "optimum/head.npz")["training"]))
    photos = manifest.read(project / "results/photos/manifest.tsv")
    assert training["photos"] == sum(photo.split != "test" for photo in photos)
