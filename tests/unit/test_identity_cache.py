"""Which files are read again, and which are known from the last time."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.io import files

_HOUR = 3600 * 10**9
# Of one size, as photos of two burst shots may be.
_ONE, _OTHER = b"a photo of a rose", b"a photo of a dais"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, in order."""
    names = []
    sha256 = files.sha256

    def watched(path):
        names.append(os.path.basename(path))
        return sha256(path)

    monkeypatch.setattr(files, "sha256", watched)
    return names


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(_ONE)
    return path


def look(folder: Path, *paths: Path, keep: bool = False) -> list[str]:
    """What a process finds out about files that begins now, and ends with saving the cache."""
    cache = IdentityCache(folder / "cache.npz", keep)
    found = [cache.sha256(path) for path in paths]
    cache.save()
    return found


def test_a_file_that_stays_is_read_once(tmp_path: Path, photo: Path, read, hour_later):
    # By `printf 'a photo of a rose' | sha256sum`.
    expected = "9591d9e959fc9c4a79e76dc67b263c4a105abde4bc08e8d2f68ad011a848fdfb"
    for _ in range(3):
        assert look(tmp_path, photo) == [expected]
    assert read == ["photo.jpg"]


def overwrite_in_place(photo: Path) -> None:
    """Of the same size, and with the time of before: the change time alone tells."""
    before = photo.stat()
    with photo.open("r+b") as file:
        file.write(_OTHER)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = photo.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )


def replace_by_an_older_one(photo: Path) -> None:
    other = photo.with_name("other.jpg")
    other.write_bytes(_OTHER)
    os.utime(other, ns=(10**18, 10**18))
    other.replace(photo)


def replace_as_rsync_does(photo: Path) -> None:
    """By another file of the same size and time."""
    other = photo.with_name("other.jpg")
    other.write_bytes(_OTHER)
    shutil.copystat(photo, other)
    other.replace(photo)


def replace_by_a_link(photo: Path) -> None:
    other = photo.with_name("other.jpg")
    other.write_bytes(_OTHER)
    photo.unlink()
    photo.symlink_to(other)


@pytest.mark.parametrize(
    "change",
    [overwrite_in_place, replace_by_an_older_one, replace_as_rsync_does, replace_by_a_link],
)
def test_other_content_is_noticed(tmp_path: Path, photo: Path, hour_later, change):
    look(tmp_path, photo)
    change(photo)
    assert look(tmp_path, photo) == [files.sha256_of(_OTHER)]


def test_two_files_that_change_places_are_noticed(tmp_path: Path, photo: Path, hour_later):
    other = tmp_path / "other.jpg"
    other.write_bytes(_OTHER)
    os.utime(other, ns=(photo.stat().st_atime_ns, photo.stat().st_mtime_ns))
    first = look(tmp_path, photo, other)
    for old, new in (("photo.jpg", "x"), ("other.jpg", "photo.jpg"), ("x", "other.jpg")):
        (tmp_path / old).rename(tmp_path / new)
    assert look(tmp_path, photo, other) == first[::-1]


@pytest.mark.parametrize("field", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_a_difference_in_one_of_four_is_enough(tmp_path: Path, photo: Path, hour_later, field):
    class Status:
        def __init__(self, **changed: int):
            self.__dict__.update(
                {name: getattr(photo.stat(), name) for name in dir(os.stat_result)} | changed
            )

    look(tmp_path, photo)
    cache = IdentityCache(tmp_path / "cache.npz")
    assert cache.look_up(str(photo), Status()) is not None
    # A second earlier, so that it cannot be too young.
    difference = -(10**9) if "time" in field else -1
    other = Status(**{field: getattr(photo.stat(), field) + difference})
    assert cache.look_up(str(photo), other) is None
    # What is rather like these does not count: opening a photo to look at it changes nothing.
    assert cache.look_up(str(photo), Status(st_atime_ns=0, st_nlink=2, st_mode=0)) is not None


def test_a_file_written_a_moment_ago_is_read_until_it_is_settled(
    tmp_path: Path, photo: Path, read, monkeypatch
):
    """It may be written once more within what a file system takes for one moment."""
    written = photo.stat().st_ctime_ns
    for later, times_read in ((0, 1), (10**9, 2), (_HOUR, 3), (_HOUR + 1, 3), (2 * _HOUR, 3)):
        monkeypatch.setattr(time, "time_ns", lambda later=later: written + later)
        look(tmp_path, photo)
        assert len(read) == times_read


def test_a_young_file_stays_so_while_others_are_looked_at(tmp_path: Path, photo: Path, monkeypatch):
    """What was read too early to be sure of does not become sure by being written down again."""
    other = tmp_path / "other.jpg"
    other.write_bytes(_OTHER)
    status = photo.stat()
    monkeypatch.setattr(time, "time_ns", lambda: status.st_ctime_ns)
    look(tmp_path, photo, keep=True)
    # Written once more within the same moment.
    photo.write_bytes(_OTHER)
    monkeypatch.setattr(time, "time_ns", lambda: status.st_ctime_ns + _HOUR)
    look(tmp_path, other, keep=True)
    cache = IdentityCache(tmp_path / "cache.npz", keep=True)
    assert cache.look_up(str(photo), status) is None


def test_a_file_from_the_future_is_read_each_time(tmp_path: Path, photo: Path, read, monkeypatch):
    """As after the clock was set back."""
    before = photo.stat().st_ctime_ns - _HOUR
    monkeypatch.setattr(time, "time_ns", lambda: before)
    look(tmp_path, photo)
    written = (tmp_path / "cache.npz").stat().st_mtime_ns
    look(tmp_path, photo)
    assert read == ["photo.jpg"] * 2
    # And the cache is not written each time.
    assert (tmp_path / "cache.npz").stat().st_mtime_ns == written


def damages(content: bytes) -> list[bytes]:
    flipped = []
    for i in range(0, len(content)):
        for bit in (0, 3, 7):
            changed = bytearray(content)
            changed[i] ^= 1 << bit
            flipped.append(bytes(changed))
    cut = [content[:length] for length in range(0, len(content), 7)]
    return [b"", b"no cache", bytes(len(content)), *cut, *flipped]


def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, photo: Path, hour_later):
    (expected,) = look(tmp_path, photo)
    path = tmp_path / "cache.npz"
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        assert look(tmp_path, photo) == [expected]


def test_a_cache_of_something_else_is_as_good_as_none(tmp_path: Path, photo: Path, hour_later):
    (expected,) = look(tmp_path, photo)
    path = tmp_path / "cache.npz"
    with np.load(path) as arrays:
        good = dict(arrays)
    shorter = {"paths": good["paths"][:0]}, {"statuses": good["statuses"][:0]}
    pickled = {"verdicts": np.array([{"a": "pickle"}], object)}
    for changed in (*shorter, {"verdicts": good["verdicts"][:-1]}, pickled, {"read_at": "now"}):
        np.savez(path, **(good | changed))
        assert look(tmp_path, photo) == [expected]
    for name in good:
        np.savez(path, **{key: value for key, value in good.items() if key != name})
        assert look(tmp_path, photo) == [expected]


def entries(path: Path) -> set[str]:
    """The names in a cache."""
    with np.load(path) as arrays:
        return {os.path.basename(name).decode() for name in arrays["paths"].tobytes().split(b"\0")}


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_gone_is_forgotten_unless_it_is_to_be_kept(
    tmp_path: Path, photo: Path, hour_later, keep: bool
):
    other = tmp_path / "other.jpg"
    other.write_bytes(_OTHER)
    look(tmp_path, photo, other, keep=keep)
    assert entries(tmp_path / "cache.npz") == {"photo.jpg", "other.jpg", ""}
    look(tmp_path, photo, keep=keep)
    expected = {"photo.jpg", "other.jpg", ""} if keep else {"photo.jpg", ""}
    assert entries(tmp_path / "cache.npz") == expected


def test_a_kept_entry_is_good_later(tmp_path: Path, photo: Path, read, hour_later):
    other = tmp_path / "other.jpg"
    other.write_bytes(_OTHER)
    look(tmp_path, photo, keep=True)
    look(tmp_path, other, keep=True)
    look(tmp_path, photo, keep=True)
    assert read == ["photo.jpg", "other.jpg"]


def test_nothing_is_written_where_nothing_changed(tmp_path: Path, photo: Path, hour_later):
    cache = tmp_path / "cache.npz"
    for keep in (False, True):
        look(tmp_path, photo, keep=keep)
        inode = cache.stat().st_ino
        look(tmp_path, photo, keep=keep)
        assert cache.stat().st_ino == inode
    # Something was asked for that is known, and something else is gone.
    (tmp_path / "other.jpg").write_bytes(_OTHER)
    look(tmp_path, photo, tmp_path / "other.jpg")
    look(tmp_path, tmp_path / "other.jpg")
    assert entries(cache) == {"other.jpg", ""}


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, photo: Path):
    (tmp_path / "a file").touch()
    cache = IdentityCache(tmp_path / "a file" / "cache.npz")
    assert cache.sha256(photo) == files.sha256(photo)
    cache.save()
    (tmp_path / "folder" / "cache.npz").mkdir(parents=True)
    cache = IdentityCache(tmp_path / "folder" / "cache.npz")
    assert cache.sha256(photo) == files.sha256(photo)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        IdentityCache(tmp_path / "cache.npz").sha256(tmp_path / "missing.tflite")


def test_names_of_any_kind(tmp_path: Path, read, hour_later):
    names = ["with\nnewline.jpg", "tab\t.jpg", "ü ß.jpg"]
    # The file system of macOS takes names in UTF-8 only.
    names += [os.fsdecode(b"\xff.jpg")] if sys.platform != "darwin" else []
    for name in names:
        (tmp_path / name).write_text(name, errors="surrogateescape")
    paths = [tmp_path / name for name in names]
    assert look(tmp_path, *paths) == look(tmp_path, *paths)
    assert len(read) == len(names)


def add(folder: Path) -> None:
    (folder / "assets" / "more").write_bytes(b"more")


def move(folder: Path) -> None:
    (folder / "assets" / "labels").rename(folder / "labels")


def swap(folder: Path) -> None:
    one, other = folder / "model.pb", folder / "assets" / "labels"
    one_content, other_content = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_content)
    other.write_bytes(one_content)


def change(folder: Path) -> None:
    overwrite_in_place(folder / "model.pb")


def remove(folder: Path) -> None:
    (folder / "assets" / "labels").unlink()


@pytest.mark.parametrize("happens", [add, move, swap, change, remove])
def test_a_folder_s_digest_changes_with_what_is_in_it(
    tmp_path: Path, hour_later, happens: Callable[[Path], None]
):
    """A network in TensorFlow's format SavedModel is such a folder."""
    folder = tmp_path / "saved_model"
    (folder / "assets").mkdir(parents=True)
    (folder / "model.pb").write_bytes(_ONE)
    (folder / "assets" / "labels").write_bytes(b"rose\n")
    (before,) = look(tmp_path, folder)
    # Neither where it lies nor when it was written is part of it.
    shutil.copytree(folder, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "model.pb", ns=(10**18, 10**18))
    assert look(tmp_path, tmp_path / "copy", folder) == [before, before]
    happens(folder)
    assert look(tmp_path, folder) != [before]
