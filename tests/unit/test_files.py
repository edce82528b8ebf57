"""Files are whole under their names, and one that has lost its end is told from a whole one."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain import files
from edgetpu_retrain.head import write_label_map


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


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """Files of every kind that is judged."""
    npz, png = io.BytesIO(), io.BytesIO()
    np.savez(npz, vectors=np.arange(100))
    Image.effect_noise((8, 8), 50).save(png, "png")
    write_label_map(["daisy", "rose"], tmp_path / "label_map.txt")
    return {
        "a.npz": npz.getvalue(),
        "a.png": png.getvalue(),
        "a.tsv": b"path\tclass\ndaisy/1.jpg\tdaisy\n",
        "a.json": json.dumps({"accuracy": 0.5}, indent=1).encode(),
        "a.html": b"<html>\n<body>A page.</body>\n</html>",
        "label_map.txt": (tmp_path / "label_map.txt").read_bytes(),
        # A classifier, with its labels behind the model.
        "a.tflite": b"\x1c\0\0\0TFL3" + bytes(100) + npz.getvalue(),
    }


def test_what_has_lost_its_end(whole, tmp_path: Path):
    for name, content in whole.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert not files.is_cut_short(path), name
        missed = []
        for length in range(len(content)):
            path.write_bytes(content[:length])
            if not files.is_cut_short(path):
                missed.append(length)
        # A table of fewer lines is not told from a whole one.
        lines = [i for i in range(len(content)) if content[:i].endswith(b"\n")]
        assert missed == (lines if path.suffix in (".tsv", ".txt") else []), name
    assert not files.is_cut_short(tmp_path / "missing.npz")


def test_counting_goes_on_after_a_note_was_lost(tmp_path: Path):
    note = tmp_path / "note"
    assert files.counted(note) == 0
    files.count_up(note)
    files.count_up(note)
    assert files.counted(note) == 2
    note.write_bytes(b"")
    files.count_up(note)
    assert files.counted(note) == 1
