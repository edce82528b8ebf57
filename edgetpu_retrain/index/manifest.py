"""The manifest (path, class, split and identity of every photo), shards and skipped photos."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain.io import tables

SPLITS = ("train", "validation", "test")
# A shard of this size takes 10 to 30 seconds per core; starting a job takes half a second.
_PHOTOS_PER_SHARD = 2048
_COLUMNS = ("path", "class", "split", "sha256")
_SHARD_COLUMNS = ("sha256", "path")
_SKIPPED_COLUMNS = ("path", "reason")


@dataclass(frozen=True, order=True, slots=True)
class Photo:
    """A line of the manifest.

    Attributes:
        path: path of the file.
        label: name of its class.
        split: ``train``, ``validation`` or ``test``.
        sha256: its identity: the SHA-256 of the file in hexadecimal.
    """

    path: str
    label: str
    split: str
    sha256: str


@dataclass(frozen=True, order=True)
class Skipped:
    """A photo that is not used, and why."""

    path: str
    reason: str


def choose_shards(photos: int, current: int | None = None) -> int:
    """Returns the number of shards for a dataset.

    Args:
        photos: number of photos.
        current: the current number of shards, if any. Changing it rewrites all shards, so it is
            kept until shards are much too large or much too small.

    >>> choose_shards(2000), choose_shards(100_000), choose_shards(2500, current=1)
    (1, 64, 1)
    """
    if current:
        fewest = 0 if current == 1 else current * _PHOTOS_PER_SHARD / 4
        if fewest <= photos <= 2 * current * _PHOTOS_PER_SHARD:
            return current
    needed = math.ceil(photos / _PHOTOS_PER_SHARD)
    # The next power of two.
    return 1 << max(needed - 1, 0).bit_length()


def count_shards(paths: Iterable[str | Path]) -> int | None:
    """Returns the number of shards according to the names of their files; None without files.

    >>> count_shards(["shards/0001-of-0004.tsv"])
    4
    """
    counts = Counter(_parse_shard(Path(path).stem)[1] for path in paths)
    # There are two numbers if a run was killed while it was changing the number of shards.
    return counts.most_common(1)[0][0] if counts else None


def shard_names(count: int) -> list[str]:
    """Returns the names of `count` shards, such as ``0003-of-0008``."""
    return [f"{i:04d}-of-{count:04d}" for i in range(count)]


def shard_of(sha256: str, count: int) -> int:
    """Returns the shard of a photo, in [0, count).

    It depends on the second 64 bits of the SHA-256; the split depends on the first. A shard is a
    range of these bits, so if `count` changes, the photos of a new shard come from only a few of
    the old ones.
    """
    return int(sha256[16:32], 16) * count >> 64


def overlapping_shards(name: str, others: Iterable[str]) -> list[str]:
    """Returns which of `others`, shards of any count, may share photos with shard `name`.

    >>> overlapping_shards("0001-of-0002", ["0000-of-0004", "0002-of-0004", "0002-of-0003"])
    ['0002-of-0004', '0002-of-0003']
    """
    first, count = _parse_shard(name)
    overlapping = []
    for other in others:
        i, n = _parse_shard(other)
        if i * count < (first + 1) * n and first * n < (i + 1) * count:
            overlapping.append(other)
    return overlapping


def _parse_shard(name: str) -> tuple[int, int]:
    number, _, count = name.partition("-of-")
    return int(number), int(count)


def remove_other_shards(kept: Iterable[str | Path]) -> None:
    """Removes files of a former number of shards from the folder with `kept`, all current ones."""
    paths = [Path(path) for path in kept]
    for path in set(paths[0].parent.glob(f"*-of-*{paths[0].suffix}")).difference(paths):
        path.unlink()


def write(photos: Iterable[Photo], path: str | Path) -> None:
    """Writes a manifest, one photo at a time."""
    rows = ((photo.path, photo.label, photo.split, photo.sha256) for photo in photos)
    tables.write(path, _COLUMNS, rows)


def read(path: str | Path) -> Iterator[Photo]:
    """Yields the photos of a manifest, with only one line in memory at a time.

    Raises:
        UserError: the manifest is damaged; the photos before that line have been yielded.
    """
    return (Photo(*row) for row in tables.read(path, _COLUMNS))


def write_shard(shard: Mapping[str, str], path: str | Path) -> None:
    """Writes the photos of a shard, sorted by identity.

    Args:
        shard: paths by photo identity.
        path: path of the table.
    """
    tables.write(path, _SHARD_COLUMNS, sorted(shard.items()))


def read_shard(path: str | Path) -> dict[str, str]:
    """Returns the paths of a shard's photos by identity, sorted by identity."""
    return {sha256: photo for sha256, photo in tables.read(path, _SHARD_COLUMNS)}


def write_skipped(skipped: Iterable[Skipped], path: str | Path) -> None:
    """Writes a list of skipped photos, sorted by path."""
    rows = ((photo.path, photo.reason) for photo in sorted(skipped))
    tables.write(path, _SKIPPED_COLUMNS, rows)


def read_skipped(path: str | Path) -> Iterator[Skipped]:
    """Yields the photos of a list written by `write_skipped`, as `read` does."""
    return (Skipped(*row) for row in tables.read(path, _SKIPPED_COLUMNS))
