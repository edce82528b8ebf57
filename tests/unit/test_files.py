"""Files are whole under their names, or not there."""

import os
from pathlib import Path

import pytest

from edgetpu_retrain.io import files


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch):
    done = []
    replace = os.replace

    def rename(old, new):
        done.append("renamed")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size))
    monkeypatch.setattr(os, "replace", rename)
    with files.replacing(tmp_path / "photo") as temporary:
        temporary.write_bytes(b"12345")
    assert done == [5, "renamed"]


def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path):
    for make in (Path.touch, Path.mkdir):
        (tmp_path / "kept").write_text("before")
        with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "kept") as temporary:
            make(temporary)
            raise ZeroDivisionError
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]
        assert (tmp_path / "kept").read_text() == "before"


def test_what_a_killed_process_left_goes(tmp_path: Path):
    (tmp_path / ".[model].tflite.123.part").mkdir()
    (tmp_path / ".[model].tflite.124.part").touch()
    others = [tmp_path / ".m.tflite.123.part", tmp_path / ".[model].tflite"]
    for path in others:
        path.touch()
    with files.replacing(tmp_path / "[model].tflite") as temporary:
        temporary.touch()
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "[model].tflite"])


def test_a_folder_replaces_a_folder_as_a_whole(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "old").touch()
    with files.replacing(tmp_path / "photos") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["new"]


def test_identities_are_those_of_other_programs(tmp_path: Path):
    """By `printf hello | sha256sum`, `md5sum` and `git hash-object --stdin`."""
    path = tmp_path / "greeting"
    path.write_bytes(b"hello")
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert files.sha256(path) == files.sha256_of(b"hello") == sha256
    assert files.md5(path) == "5d41402abc4b2a76b9719d911017c592"
    assert files.git_blob_id(path) == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
