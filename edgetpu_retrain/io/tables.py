"""Tab-separated tables: a line of column names, then one line per row."""

import contextlib
import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files

# File names may contain bytes that are not valid UTF-8.
_ENCODING, _ERRORS = "utf-8", "surrogateescape"

# Spreadsheets compute cells that start so (https://owasp.org/www-community/attacks/CSV_Injection).
_STARTS = "=+-@'"
_FORMULA = re.compile(r"'*[=+\-@]")
_PROTECTED = re.compile(r"'+[=+\-@]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\Z", re.IGNORECASE)

AddRow = Callable[[Sequence[str]], None]


def protect(cell: str) -> str:
    """Returns a cell that no spreadsheet takes for a formula: with a quote before it if need be.

    >>> protect("=1+1"), protect("-1.5"), protect("daisy")
    ("'=1+1", '-1.5', 'daisy')
    """
    if cell and cell[0] in _STARTS and _FORMULA.match(cell) and not _NUMBER.match(cell):
        return "'" + cell
    return cell


def unprotect(cell: str) -> str:
    """Returns what `protect` was given.

    >>> unprotect("'=1+1"), unprotect(protect("'=1+1"))
    ('=1+1', "'=1+1")
    """
    return cell[1:] if cell.startswith("'") and _PROTECTED.match(cell) else cell


def to_tsv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    r"""Returns a table as UTF-8; fields that contain a tab, quote or line break are quoted.

    Cells that a spreadsheet would compute are protected.

    >>> to_tsv(["path", "class"], [["a.jpg", "daisy"]])
    b'path\tclass\na.jpg\tdaisy\n'
    """
    text = io.StringIO()
    add = _adding(text, columns)
    for row in rows:
        add(row)
    return text.getvalue().encode(_ENCODING, _ERRORS)


@contextlib.contextmanager
def writing(path: str | Path, columns: Sequence[str]) -> Iterator[AddRow]:
    """Yields a function that adds a row to a table, which replaces `path` if the block succeeds.

    The format is that of `to_tsv`. Rows are written immediately, not collected in memory.
    """
    with (
        files.replacing(path) as temporary,
        open(temporary, "w", encoding=_ENCODING, errors=_ERRORS, newline="") as file,
    ):
        yield _adding(file, columns)


def write(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table, row by row, in the format of `to_tsv`."""
    with writing(path, columns) as add:
        for row in rows:
            add(row)


def _adding(file: TextIO, columns: Sequence[str]) -> AddRow:
    writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
    # csv quotes a carriage return only if it is part of the line terminator.
    quoting = csv.writer(file, dialect="excel-tab", lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([protect(name) for name in columns])

    def add(row: Sequence[str]) -> None:
        row = [protect(cell) for cell in row]
        (quoting if "\r" in "".join(row) else writer).writerow(row)

    return add


def _has_complete_last_line(path: str | Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"\n", b"")


def open_table(path: str | Path) -> TextIO:
    """Opens a table for reading with the csv module."""
    return open(path, encoding=_ENCODING, errors=_ERRORS, newline="")


def read(path: str | Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yields the rows of a table in the format of `to_tsv`, without the header.

    Raises:
        UserError: the columns or the length of a row are not as expected, or the last line is
            incomplete.
    """
    if not _has_complete_last_line(path):
        raise UserError(f"{path} is damaged: the last line is incomplete. Delete it and run again.")
    with open_table(path) as file:
        rows = csv.reader(file, dialect="excel-tab")
        header = [unprotect(name) for name in next(rows, [])]
        for row in rows if header == list(columns) else [header]:
            if header != list(columns) or len(row) != len(columns):
                raise UserError(
                    f"{path}, line {rows.line_num}: expected the columns {', '.join(columns)}. "
                    "Delete the file and run again."
                )
            yield [unprotect(cell) for cell in row]
