"""A cache of SHA-256 digests by path, size, times and inode, like git's index."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgetpu_retrain.io import files

# A file that changes within this time of being read may keep its size and timestamps.
_RACY_NS = 2_000_000_000
# Index of the change time in a key.
_CTIME = 2


class IdentityCache:
    """Remembers the SHA-256 of files, or why they are no photos, from the last time they were read.

    An entry is valid if the file's size, modification time, change time and inode are unchanged
    and the file was last changed well before it was read (https://git-scm.com/docs/racy-git). Any
    process may replace the cache file at any time; if it is missing or damaged, all files are read
    again.
    """

    def __init__(self, path: str | Path, keep: bool = False) -> None:
        """Loads the cache from `path` if it exists.

        Args:
            path: path of the cache file (.npz).
            keep: whether `save` keeps entries that were not looked up. Otherwise it drops them,
                and with them deleted files.
        """
        self._path = Path(path)
        self._began = time.time_ns()
        self._earlier: dict[str, tuple[tuple[int, ...], str]] = {}
        self._current: dict[str, tuple[tuple[int, ...], str]] = {}
        self._read_at = 0
        self._changed = False
        # Whatever is wrong with the cache, the files themselves can be read again.
        with contextlib.suppress(Exception):
            self._load()
        if keep:
            # The cache is saved with a new `read_at`, which would make racy entries look valid.
            settled = self._read_at - _RACY_NS
            earlier = self._earlier.items()
            self._current = {path: entry for path, entry in earlier if entry[0][_CTIME] <= settled}

    def _load(self) -> None:
        with np.load(self._path, allow_pickle=False) as arrays:
            paths = arrays["paths"].tobytes().split(b"\0")[:-1]
            verdicts = arrays["verdicts"].tobytes().decode().split("\0")[:-1]
            statuses = map(tuple, arrays["statuses"].tolist())
            values = zip(statuses, verdicts, strict=True)
            self._earlier = dict(zip(map(os.fsdecode, paths), values, strict=True))
            self._read_at = int(arrays["read_at"])

    def look_up(self, path: str, status: os.stat_result) -> str | None:
        """Returns the verdict on a file (see `remember`); None if it is unknown or has changed."""
        known = self._earlier.get(path)
        if known is None or known[0] != _key(status) or self._is_racy(status):
            return None
        self._current[path] = known
        return known[1]

    def _is_racy(self, status: os.stat_result) -> bool:
        return status.st_ctime_ns > self._read_at - _RACY_NS

    def remember(self, path: str, status: os.stat_result, verdict: str) -> None:
        """Stores the verdict on a file.

        Args:
            path: path of the file.
            status: its status before it was read.
            verdict: its SHA-256 in hexadecimal, or why it cannot be used; without NUL characters.
        """
        entry = (_key(status), verdict)
        is_settled = status.st_ctime_ns <= self._began - _RACY_NS
        self._changed |= is_settled or self._earlier.get(path) != entry
        self._current[path] = entry

    def sha256(self, path: str | Path) -> str:
        """Returns the SHA-256 of a file, or of the relative paths and digests of a folder's files.

        Raises:
            OSError: a file cannot be read.
        """
        path = os.fspath(path)
        if os.path.isdir(path):
            paths = sorted(p for p in Path(path).rglob("*") if p.is_file())
            parts = [f"{p.relative_to(path)}\0{self.sha256(p)}\n" for p in paths]
            return files.sha256_of("".join(parts).encode("utf-8", "surrogateescape"))
        status = os.stat(path)
        known = self.look_up(path, status)
        if known is None:
            known = files.sha256(path)
            self.remember(path, status, known)
        return known

    def save(self) -> None:
        """Writes the cache if its content has changed."""
        if not self._changed and len(self._current) == len(self._earlier):
            return
        columns = zip(*((key, verdict) for key, verdict in self._current.values()), strict=True)
        statuses, verdicts = list(columns) or ((), ())
        with (
            # Not being able to write the cache, for example on a read-only disk, is not fatal.
            contextlib.suppress(OSError),
            files.replacing(self._path) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(
                file,
                paths=_join(map(os.fsencode, self._current)),
                verdicts=_join(verdict.encode() for verdict in verdicts),
                statuses=np.array(statuses, np.uint64).reshape(-1, 4),
                read_at=np.array(self._began),
            )


def _key(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_size,
        status.st_mtime_ns % 2**64,
        status.st_ctime_ns % 2**64,
        status.st_ino % 2**64,
    )


def _join(texts: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(text + b"\0" for text in texts), np.uint8)
