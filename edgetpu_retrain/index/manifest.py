"""The table of photos: where each is, its class, its split and its identity."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain.io import tables

SPLITS = ("train", "validation", "test")
# Some ten seconds of work to half a minute per core, against half a second for a job's start.
_PHOTOS_PER_SHARD = 2048
_COLUMNS = ("path", "class", "split", "sha256")
_SHARD_COLUMNS = ("sha256", "path")
_SKIPPED_COLUMNS = ("path", "reason")


@dataclass(frozen=True, order=True, slots=True)
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
    """Writes a manifest as photos come."""
    rows = ((photo.path, photo.label, photo.split, photo.sha256) for photo in photos)
    tables.write(path, _COLUMNS, rows)


def read(path: str | Path) -> Iterator[Photo]:
    """Yields the photos of a manifest, one line of it in memory at a time.

    Raises:
        UserError: it is damaged; photos before the damage have been yielded.
    """
    return (Photo(*row) for row in tables.read(path, _COLUMNS))


def write_shard(shard: Mapping[str, str], path: str | Path) -> None:
    """Writes the identities of a shard's photos, in order, with a path of each.

    Args:
        shard: the path of a photo by identity.
        path: of the table.
    """
    tables.write(path, _SHARD_COLUMNS, sorted(shard.items()))


def read_shard(path: str | Path) -> dict[str, str]:
    """Returns the path of a photo for every identity of a shard, in the order of identities."""
    return {sha256: photo for sha256, photo in tables.read(path, _SHARD_COLUMNS)}


def write_skipped(skipped: Iterable[Skipped], path: str | Path) -> None:
    """Writes a list of photos that were left out."""
    rows = ((photo.path, photo.reason) for photo in sorted(skipped))
    tables.write(path, _SKIPPED_COLUMNS, rows)


def read_skipped(path: str | Path) -> Iterator[Skipped]:
    """Yields the photos of a list of those that were left out, as `read` does."""
    return (Skipped(*row) for row in tables.read(path, _SKIPPED_COLUMNS))
