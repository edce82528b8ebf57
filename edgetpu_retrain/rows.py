"""Arrays of which rows are read when they are asked for, so that not all are in memory."""

import struct
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgetpu_retrain.errors import UserError

# Files that stay in memory: as many as hold a small data set, or threads work on.
_KEPT = 4
# The header of a file in a ZIP archive: where the lengths of what follows it stand, and its own.
_LENGTHS_AT, _HEADER_BYTES = 26, 30


class ByRows(Protocol):
    """An array [N, W] of which rows are taken: `array[rows]` for rows [n] int is [n, W]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, W)."""

    @property
    def dtype(self) -> np.dtype:
        """What it holds."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


class Chosen:
    """Rows [n, W] that were chosen from an array [N, W]."""

    def __init__(self, array: ByRows, rows: np.ndarray):
        """Takes the array, and rows [n] int."""
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._array[self._rows[rows]]


@dataclass(frozen=True)
class Places:
    """Where the rows of arrays [N, W] stand in the files of shards.

    Attributes:
        paths: of .npz files.
        starts: [number of files] int, the first row of each.
        places: [N] int, where in its file each row stands.
    """

    paths: Sequence[str | Path]
    starts: np.ndarray
    places: np.ndarray


class StoredRows:
    """An array in the files of shards; rows that follow one another cost the least.

    Texts are rows of their bytes. Several threads may ask at once.

    Attributes:
        shape: (N, W).
        dtype: what it holds.
    """

    def __init__(self, name: str, places: Places):
        """Takes the name of an array in .npz files, and where its rows stand."""
        self._places = places
        self._stored = [_find(path, name) for path in places.paths]
        self.dtype = self._stored[0].dtype
        self.shape = (len(places.places), self._stored[0].shape[1])
        # The files read last, the oldest first; their memory is used again, for others.
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        shards = np.searchsorted(self._places.starts, rows, side="right") - 1
        places = self._places.places[rows]
        order = np.argsort(shards, kind="stable")
        for chosen in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            if len(chosen):
                with self._lock:
                    found[chosen] = self._shard(int(shards[chosen[0]]))[places[chosen]]
        return found

    def _shard(self, shard: int) -> np.ndarray:
        kept, stored = self._kept.pop(shard, None), self._stored[shard]
        if kept is None:
            if len(self._kept) < _KEPT:
                height = max(one.shape[0] for one in self._stored)
                kept = np.empty((height, self.shape[1]), self.dtype)
            else:
                kept = self._kept.pop(next(iter(self._kept)))
            with open(self._places.paths[shard], "rb") as file:
                file.seek(stored.offset)
                wanted = kept[: stored.shape[0]].data.cast("B")
                if file.readinto(wanted) < len(wanted):
                    raise UserError(f"{file.name} was longer a moment ago. Run again.")
        self._kept[shard] = kept
        return kept


@dataclass(frozen=True)
class _Stored:
    """Where in a file the values of an array begin, and what they are."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


def _find(path: str | Path, name: str) -> _Stored:
    # What `numpy.savez` writes is not compressed, and reading it as an archive takes much longer.
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        assert version == (1, 0)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        header = archive.getinfo(f"{name}.npy").header_offset
        within = member.tell()
    with open(path, "rb") as file:
        file.seek(header + _LENGTHS_AT)
        lengths = struct.unpack("<HH", file.read(_HEADER_BYTES - _LENGTHS_AT))
    if dtype.kind == "S":
        shape, dtype = (*shape, dtype.itemsize), np.dtype(np.uint8)
    return _Stored(header + _HEADER_BYTES + sum(lengths) + within, shape, dtype)
