"""Files that are no photos, folders that are links, and names that are hard to write down."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.backbone import compiler
from edgetpu_retrain.config.settings import Compiler
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.photos.decode import PhotoError, read_file
from tests.conftest import ROOT
from tests.indexing import scan_folder, write_index

NAMES = ["tab\there.png", "cr\rname.png", "crlf\r\nname.png", "nl\nname.png", '"quote.png']


@pytest.fixture
def root(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


def test_pipes_and_sockets_are_left_out_and_never_read(root: Path, monkeypatch):
    os.mkfifo(root / "a" / "pipe.jpg")
    os.mkfifo(root / "a" / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        # Their paths are short.
        monkeypatch.chdir(root / "a")
        bound.bind("socket.png")
    found = write_index(root, validation=0, test=0)
    assert len(found.photos) == 24
    assert {(Path(p.path).name, p.reason) for p in found.skipped} == {
        ("pipe.jpg", "not a regular file"),
        ("socket.png", "not a regular file"),
    }
    with pytest.raises(PhotoError, match="not a regular file"):
        read_file(root / "a" / "pipe.jpg")


def test_names_with_tabs_and_carriage_returns_are_kept(root: Path):
    for i, name in enumerate(NAMES):
        (root / "a" / f"{i}.png").rename(root / "a" / name)
    os.rename(root / "b" / "0.png", os.fsencode(root / "b") + b"/not \xff utf-8.png")
    found = write_index(root, validation=0, test=0)
    (shard,) = found.shards.values()
    assert set(shard.values()) == {photo.path for photo in found.photos}
    assert len(shard) == 24
    assert all(Path(path).is_file() for path in shard.values())


def test_a_class_folder_may_be_a_link(root: Path, tmp_path: Path):
    (root / "b").rename(tmp_path / "elsewhere")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "loop").symlink_to(root / "b")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    found = write_index(root, validation=0, test=0)
    assert [photo.label for photo in found.photos].count("b") == 12
    assert {photo.label for photo in found.photos} == {"a", "b"}


def test_an_empty_class_folder_added_later_is_noticed(root: Path):
    before = scan_folder(root).digests(1)
    (root / "c").mkdir()
    assert scan_folder(root).digests(1).everything != before.everything
    with pytest.raises(UserError, match="'c' has 0"):
        write_index(root, validation=0, test=0)


def test_a_compiler_in_the_home_folder(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Compiler(path="~/coral/edgetpu_compiler")
    assert compiler.find(settings, "x") == str(tmp_path / "coral/edgetpu_compiler")


def test_what_a_run_makes_is_not_for_the_repository():
    made = ["report.html", "retrained_model.tflite", "label_map.txt", "bundle.zip", "results/x"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    done = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == made


def test_classifying_waits_for_no_pipe(root: Path, made: Path):
    os.mkfifo(root / "a" / "pipe.jpg")
    command = [sys.executable, ROOT / "scripts/classify_image.py", "--input", root / "a"]
    command += ["--model", made / "classifier.tflite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "pipe.jpg: not a regular file" in done.stderr
    assert done.stdout.count(".png\n") == 12


def test_links_to_themselves_and_folders_without_permission_are_listed(root: Path, monkeypatch):
    (root / "a" / "loop.png").symlink_to("loop.png")
    (root / "a" / "broken.png").symlink_to("gone.png")
    (root / "b" / "closed").mkdir()
    (root / "circle").symlink_to("circle")
    (root / "loop.jpg").symlink_to("loop.jpg")
    scandir = os.scandir

    def refuse(path):
        # A stand-in: tests may run as a user who is allowed to read everything.
        if os.fspath(path) == str(root / "b" / "closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = write_index(root, validation=0, test=0)
    assert len(found.photos) == 24
    assert {(Path(p.path).name, p.reason) for p in found.skipped} == {
        ("loop.png", f"cannot be opened: {os.strerror(errno.ELOOP)}"),
        ("closed", "cannot be opened: Permission denied"),
    }
