"""Write labels to the corrections file, which other programs may edit at the same time.

A label is on disk before the page shows it. A history in the results folder records every change,
so that it can be undone even after the program was killed.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections
from edgetpu_retrain.io import tables


@dataclass(frozen=True)
class Decision:
    """A decision about a photo: its class ("" to leave it out) and a note."""

    label: str
    note: str = ""


@dataclass(frozen=True)
class Change:
    """The decisions about a photo before and after a change; None for no decision."""

    sha256: str
    before: Decision | None
    after: Decision | None


class LabelsFile:
    """The corrections file, reread whenever another program has changed it."""

    def __init__(self, path: str | Path) -> None:
        """Reads the file, if it exists.

        Raises:
            UserError: the file is not a corrections file.
        """
        # If the path is a symbolic link, its target is replaced, not the link.
        self._path = Path(os.path.realpath(path))
        self._seen: tuple[int, ...] | None = None
        self._lines: dict[str, corrections.Correction] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Rereads the file if it has changed; returns whether it had.

        Raises:
            UserError: the file is no longer a corrections file. The old content is kept in memory.
        """
        now = self._status()
        if now == self._seen:
            return False
        self._lines = corrections.read(self._path) if now else {}
        self._seen = now
        return True

    def _status(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def decisions(self) -> dict[str, Decision]:
        """Returns the decisions by identity, as of the last time the file was read."""
        return {one.sha256: Decision(one.label, one.note) for one in self._lines.values()}

    def change(
        self, wanted: Mapping[str, Decision | None], paths: Mapping[str, str]
    ) -> list[Change]:
        """Changes decisions, and returns once they are on disk.

        Args:
            wanted: the new decisions by identity; None removes the photo's line.
            paths: paths of the photos by identity, written to the file for the reader's benefit.

        Returns:
            The changes that were made.

        Raises:
            UserError: another program damaged the file; nothing was changed.
            OSError: the file cannot be written; nothing was changed.
        """
        with self._alone():
            self.refresh()
            lines, changes = dict(self._lines), []
            for sha256, after in wanted.items():
                line = lines.pop(sha256, None)
                before = Decision(line.label, line.note) if line else None
                if after is not None:
                    # A file name may not be valid UTF-8, but the table has to be.
                    path = os.fsencode(paths[sha256]).decode("utf-8", "replace")
                    lines[sha256] = corrections.Correction(sha256, after.label, path, after.note, 0)
                if before != after:
                    changes.append(Change(sha256, before, after))
            if changes:
                rows = ((one.sha256, one.label, one.path, one.note) for one in lines.values())
                tables.write(self._path, corrections.COLUMNS, rows)
                _flush_folder(self._path.parent)
                self._lines, self._seen = lines, self._status()
        return changes

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps another instance of the page from writing between our reading and writing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            # Some network file systems have no locks.
            with contextlib.suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


class History:
    """A log of all changes and undos, one line of JSON each."""

    def __init__(self, path: str | Path) -> None:
        """Reads the log, if it exists; an incomplete last line is ignored."""
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._done: list[list[Change]] = []
        text = self._path.read_text("utf-8") if self._path.exists() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
                self._follow(json.loads(line))
        if text and not text.endswith("\n"):
            self._append("")

    def _follow(self, entry: dict[str, Any]) -> None:
        if entry.get("undo"):
            self._done.pop()
        else:
            self._done.append(
                [
                    Change(
                        one["sha256"],
                        Decision(*one["before"]) if one["before"] else None,
                        Decision(*one["after"]) if one["after"] else None,
                    )
                    for one in entry["changes"]
                ]
            )

    def __len__(self) -> int:
        return len(self._done)

    def add(self, changes: Iterable[Change]) -> None:
        """Logs changes that were made together."""
        changes = list(changes)
        self._done.append(changes)
        entry = [
            {
                "sha256": one.sha256,
                "before": one.before and [one.before.label, one.before.note],
                "after": one.after and [one.after.label, one.after.note],
            }
            for one in changes
        ]
        self._append(json.dumps({"changes": entry}))

    def last(self) -> list[Change]:
        """Returns the last changes that have not been undone; empty if there are none."""
        return self._done[-1] if self._done else []

    def undone(self) -> None:
        """Logs that the last changes were undone."""
        self._done.pop()
        self._append(json.dumps({"undo": True}))

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())


def undo(labels: LabelsFile, history: History, paths: Mapping[str, str]) -> list[Change]:
    """Undoes the last changes, except for photos about which something else was decided since.

    Raises:
        UserError: there is nothing to undo, or the corrections file is damaged.
    """
    last = history.last()
    if not last:
        raise UserError("There is nothing to undo.")
    labels.refresh()
    now = labels.decisions()
    back = {one.sha256: one.before for one in last if now.get(one.sha256) == one.after}
    changes = labels.change(back, {**{one.sha256: "" for one in last}, **paths})
    history.undone()
    return changes


def _flush_folder(folder: Path) -> None:
    """Waits until a rename in a folder is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
