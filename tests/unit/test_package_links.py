"""A program's package may hold links, but none that leads outside, by whatever way."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import archive

PROGRAM = "usr/bin/program"
UP = [("x/y/z", None), ("x/y/up", "../..")]


def package(path: Path, entries: list[tuple[str, str | None]]) -> Path:
    """A .tar archive of links (with what they lead to), of folders (None), and of a program."""
    with tarfile.open(path, "w") as tar:
        for name, to in entries:
            info = tarfile.TarInfo(name)
            if to is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif to:
                info.type, info.linkname = tarfile.SYMTYPE, to
            info.size = 4 if to == "" else 0
            tar.addfile(info, io.BytesIO(b"evil"))
        info = tarfile.TarInfo(PROGRAM)
        info.size, info.mode = 4, 0o755
        tar.addfile(info, io.BytesIO(b"good"))
    return path


@pytest.mark.parametrize(
    "entries",
    [
        # "" is a file.
        [*UP, ("l1", "x/y/up"), ("l2", "l1/../victim"), ("l2/evil.txt", "")],
        [("l2", "l1/../victim"), *UP, ("l1", "x/y/up"), ("l2/evil.txt", "")],
        [*UP, ("l1", "x/y/up"), ("l2", "l1/../victim"), ("l2/evil/evil.txt", "")],
        [*UP, ("l1", "x/y/up"), ("l2", "l1/../victim/old.txt"), ("l2", "")],
        [*UP, ("l1", "x/y/up"), ("l2", "l1/../victim"), ("l2/evil", None)],
        [("l2", "l1/../victim"), *UP, ("l1", "x/y/up")],
        [("l1", ".."), ("l1/victim/evil.txt", "")],
        [("a", "b"), ("b", "a"), ("a/evil.txt", "")],
    ],
)
def test_links_of_links_lead_nowhere_else(tmp_path: Path, entries):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "old.txt").write_text("old")
    with pytest.raises(UserError, match=r"leads outside|is damaged"):
        archive.extract_program(package(tmp_path / "p.tar", entries), tmp_path / "new", PROGRAM)
    assert [path.name for path in victim.iterdir()] == ["old.txt"]
    assert (victim / "old.txt").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["p.tar", "victim"]


def test_links_inside_are_kept(tmp_path: Path):
    entries = [("usr/lib/1", None), ("usr/lib/current", "1"), ("usr/run", "bin/program")]
    entries += [*UP, ("back", "x/y/up/usr"), ("later", "not/there")]
    archive.extract_program(package(tmp_path / "p.tar", entries), tmp_path / "new", PROGRAM)
    assert (tmp_path / "new/usr/run").read_bytes() == b"good"
    assert (tmp_path / "new/back/bin/program").read_bytes() == b"good"
    assert os.readlink(tmp_path / "new/usr/lib/current") == "1"
    assert os.access(tmp_path / "new" / PROGRAM, os.X_OK)
