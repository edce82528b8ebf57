"""The table of photos: where each is, its class, its split and its identity."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from edgetpu_retrain import files, tables

SPLITS = ("train", "validation", "test")
_MIN_PHOTOS_FOR_EVERY_SPLIT = 10
# Some ten seconds of work to half a minute per core, against half a second for a job's start.
_PHOTOS_PER_SHARD = 2048
_COLUMNS = ("path", "class", "split", "sha256")
_SHARD_COLUMNS = ("sha256", "path")
_SKIPPED_COLUMNS = ("path", "reason")
_IDENTITY_COLUMNS = ("path", "bytes", "modified_ns", "sha256")

# path -> (size in bytes, modification time in ns, SHA-256)
Identities = dict[str, tuple[int, int, str]]


@dataclass(frozen=True, order=True)
class Photo:
    """One line of a manifest.

    Attributes:
        path: where the file is.
        label: the name of its class.
        split: train, validation or test.
        sha256: its identity, the SHA-256 of its bytes in hexadecimal.
    """

    path: str
    label: str
    split: str
    sha256: str


@dataclass(frozen=True, order=True)
class Skipped:
    """A photo that was left out, and why."""

    path: str
    reason: str


def position(sha256: str) -> float:
    """Returns where an identity lies in [0, 1): its first 64 bits as a fraction.

    >>> position("80" + 62 * "0")
    0.5
    """
    return int(sha256[:16], 16) / 2**64


def assign_splits(
    photos: Iterable[tuple[str, str]], validation: float, test: float
) -> dict[str, str]:
    """Returns the split of every identity.

    A photo whose `position` is below `test` is for testing, below `test` + `validation` for
    validation, else for training. So adding photos moves no other, with one exception: a class of
    ten or more photos that would have none in a split gives it the nearest photo of another one.

    Args:
        photos: (identity, class) of every photo.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).

    >>> low, high = "00" * 32, "ff" * 32
    >>> assign_splits([(low, "daisy"), (high, "rose")], validation=0.1, test=0.1)[high]
    'train'
    """
    by_class: dict[str, set[str]] = {}
    for sha256, label in photos:
        by_class.setdefault(label, set()).add(sha256)
    splits = {
        sha256: _natural_split(position(sha256), validation, test)
        for identities in by_class.values()
        for sha256 in identities
    }
    wanted = [name for name, share in (("test", test), ("validation", validation)) if share > 0]
    for _, identities in sorted(by_class.items()):
        if len(identities) >= _MIN_PHOTOS_FOR_EVERY_SPLIT:
            for name in (*wanted, "train"):
                _fill(name, sorted(identities), splits)
    return splits


def _fill(name: str, identities: Sequence[str], splits: dict[str, str]) -> None:
    """Gives a split one of a class's photos where it has none; `identities` are sorted."""
    counts = Counter(splits[sha256] for sha256 in identities)
    if not counts[name]:
        donors = [sha256 for sha256 in identities if counts[splits[sha256]] > 1]
        if name == "train":
            donors.reverse()
        # Validation lies between the other two.
        donors.sort(key=lambda sha256: splits[sha256] == "test")
        splits[donors[0]] = name


def _natural_split(where: float, validation: float, test: float) -> str:
    if where < test:
        return "test"
    return "validation" if where < test + validation else "train"


def choose_shards(photos: int, current: int | None = None) -> int:
    """Returns into how many shards so many photos are divided.

    Args:
        photos: how many there are.
        current: into how many shards they are divided already. Since another number rewrites them
            all, it stays as long as shards are neither much too large nor much too small.

    >>> choose_shards(2000), choose_shards(100_000), choose_shards(2500, current=1)
    (1, 64, 1)
    """
    if current:
        fewest = 0 if current == 1 else current * _PHOTOS_PER_SHARD / 4
        if fewest <= photos <= 2 * current * _PHOTOS_PER_SHARD:
            return current
    wanted = math.ceil(photos / _PHOTOS_PER_SHARD)
    return 1 << max(wanted - 1, 0).bit_length()


def count_shards(paths: Iterable[str | Path]) -> int | None:
    """Returns how many shards there are by the names of their files; None without files.

    >>> count_shards(["shards/0001-of-0004.tsv"])
    4
    """
    counts = Counter(_parse_shard(Path(path).stem)[1] for path in paths)
    # Of two numbers a run was ended while it replaced one by the other.
    return counts.most_common(1)[0][0] if counts else None


def shard_names(count: int) -> list[str]:
    """Returns the names of `count` shards, as in ``0003-of-0008``."""
    return [f"{i:04d}-of-{count:04d}" for i in range(count)]


def shard_of(sha256: str, count: int) -> int:
    """Returns the shard of an identity, in [0, count), from bits that its split does not use.

    A shard is a range of these bits, so that after a change of `count` the photos of a new shard
    lie in few of the old ones.
    """
    return int(sha256[16:32], 16) * count >> 64


def overlapping(name: str, others: Iterable[str]) -> list[str]:
    """Returns those of the shards `others`, of any count, that may share photos with shard `name`.

    >>> overlapping("0001-of-0002", ["0000-of-0004", "0002-of-0004", "0002-of-0003"])
    ['0002-of-0004', '0002-of-0003']
    """
    first, count = _parse_shard(name)
    found = []
    for other in others:
        i, n = _parse_shard(other)
        if i * count < (first + 1) * n and first * n < (i + 1) * count:
            found.append(other)
    return found


def _parse_shard(name: str) -> tuple[int, int]:
    number, _, count = name.partition("-of-")
    return int(number), int(count)


def remove_other_shards(kept: Iterable[str | Path]) -> None:
    """Removes, beside the files of all shards, those of another number of shards."""
    paths = [Path(path) for path in kept]
    for path in set(paths[0].parent.glob(f"*-of-*{paths[0].suffix}")).difference(paths):
        path.unlink()


def write(photos: Iterable[Photo], path: str | Path) -> None:
    """Writes a manifest; a file whose content stays is not touched."""
    files.write_if_changed(path, tables.to_tsv(_COLUMNS, map(astuple, photos)))


def read(path: str | Path) -> Iterator[Photo]:
    """Yields the photos of a manifest, one line of it in memory at a time.

    Raises:
        UserError: it is damaged; photos before the damage have been yielded.
    """
    return (Photo(*row) for row in tables.read(path, _COLUMNS))


def write_shards(photos: Iterable[Photo], paths: Sequence[str | Path]) -> None:
    """Writes for each shard the identities of its photos, in order, with a path of each.

    A file whose identities stay keeps its modification time, so that a photo that was moved or
    sorted into another class is not embedded again.
    """
    shards: list[dict[str, str]] = [{} for _ in paths]
    for photo in photos:
        shards[shard_of(photo.sha256, len(paths))].setdefault(photo.sha256, photo.path)
    for path, shard in zip(paths, shards, strict=True):
        path = Path(path)
        before = read_shard(path) if path.is_file() else {}
        status = path.stat() if before.keys() == shard.keys() and before else None
        files.write_if_changed(path, tables.to_tsv(_SHARD_COLUMNS, sorted(shard.items())))
        if status is not None:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def read_shard(path: str | Path) -> dict[str, str]:
    """Returns the path of a photo for every identity of a shard, in the order of identities."""
    return {sha256: photo for sha256, photo in tables.read(path, _SHARD_COLUMNS)}


def write_skipped(skipped: Iterable[Skipped], path: str | Path) -> None:
    """Writes a list of photos that were left out; a file whose content stays is not touched."""
    files.write_if_changed(path, tables.to_tsv(_SKIPPED_COLUMNS, map(astuple, sorted(skipped))))


def read_skipped(path: str | Path) -> Iterator[Skipped]:
    """Yields the photos of a list of those that were left out, as `read` does."""
    return (Skipped(*row) for row in tables.read(path, _SKIPPED_COLUMNS))


def write_identities(identities: Identities, path: str | Path) -> None:
    """Writes the identities that the next run takes over for files that have not changed."""
    rows = ((name, str(size), str(time), sha) for name, (size, time, sha) in identities.items())
    files.write_if_changed(path, tables.to_tsv(_IDENTITY_COLUMNS, rows))


def read_identities(path: str | Path) -> Identities:
    """Reads what `write_identities` wrote."""
    rows = tables.read(path, _IDENTITY_COLUMNS)
    return {name: (int(size), int(time), sha256) for name, size, time, sha256 in rows}
