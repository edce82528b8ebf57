"""The SHA-256 of files, remembered by path, size, times and inode as git's index does."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgetpu_retrain.io import files

# A file that changes within this time of being read may keep its times and size.
_RACY_NS = 2_000_000_000
# Where in a key the change time stands.
_CTIME = 2


class IdentityCache:
    """What is known of files from the last time they were read.

    An entry is good as long as the file's size, modification time, change time and inode are
    the same and the file was last changed well before it was read
    (https://git-scm.com/docs/racy-git). The cache is a plain file that any process may replace at
    any time; without it, or if it is damaged, every file is read again.
    """

    def __init__(self, path: str | Path, keep: bool = False) -> None:
        """Loads the cache at `path`, where there is one.

        Args:
            path: of the cache.
            keep: save what was not asked for, too. Otherwise files that are gone are forgotten.
        """
        self._path = Path(path)
        self._began = time.time_ns()
        self._earlier: dict[str, tuple[tuple[int, ...], str]] = {}
        self._current: dict[str, tuple[tuple[int, ...], str]] = {}
        self._read_at = 0
        self._changed = False
        # Whatever is wrong with it: the files themselves are still there.
        with contextlib.suppress(Exception):
            self._load()
        if keep:
            # Saved with a later time of reading, what was read too early would count as settled.
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
        """Returns what was remembered of a file that has not changed since; else None."""
        known = self._earlier.get(path)
        if known is None or known[0] != _key(status) or self._is_racy(status):
            return None
        self._current[path] = known
        return known[1]

    def _is_racy(self, status: os.stat_result) -> bool:
        return status.st_ctime_ns > self._read_at - _RACY_NS

    def remember(self, path: str, status: os.stat_result, verdict: str) -> None:
        """Keeps what was found out about a file.

        Args:
            path: of the file.
            status: of the file, taken before it was read.
            verdict: its SHA-256, or why it is of no use; without NUL.
        """
        entry = (_key(status), verdict)
        is_settled = status.st_ctime_ns <= self._began - _RACY_NS
        self._changed |= is_settled or self._earlier.get(path) != entry
        self._current[path] = entry

    def sha256(self, path: str | Path) -> str:
        """Returns the SHA-256 of a file; of a folder, that of all files below it and their names.

        Raises:
            OSError: a file cannot be read.
        """
        path = os.fspath(path)
        if os.path.isdir(path):
            below = sorted(p for p in Path(path).rglob("*") if p.is_file())
            parts = [f"{p.relative_to(path)}\0{self.sha256(p)}\n" for p in below]
            return files.sha256_of("".join(parts).encode("utf-8", "surrogateescape"))
        status = os.stat(path)
        known = self.look_up(path, status)
        if known is None:
            known = files.sha256(path)
            self.remember(path, status, known)
        return known

    def save(self) -> None:
        """Writes the cache, unless it would hold what it held before."""
        if not self._changed and len(self._current) == len(self._earlier):
            return
        columns = zip(*((key, verdict) for key, verdict in self._current.values()), strict=True)
        statuses, verdicts = list(columns) or ((), ())
        with (
            # A cache that cannot be written, as on a read-only disk, is no reason to stop.
            contextlib.suppress(OSError),
            files.replacing(self._path) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(
                file,
                paths=_joined(map(os.fsencode, self._current)),
                verdicts=_joined(verdict.encode() for verdict in verdicts),
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


def _joined(texts: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(text + b"\0" for text in texts), np.uint8)
