"""Tables as tab-separated text: a line of column names, then one line per row."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgetpu_retrain.errors import UserError


def to_tsv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    r"""Returns a table as UTF-8; a field with a tab, quote or end of line is quoted.

    >>> to_tsv(["path", "class"], [["a.jpg", "daisy"]])
    b'path\tclass\na.jpg\tdaisy\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    # The module csv quotes a carriage return only where lines end in one.
    quoting = csv.writer(text, dialect="excel-tab", lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for row in rows:
        (quoting if any("\r" in field for field in row) else writer).writerow(row)
    # File names need not be valid UTF-8.
    return text.getvalue().encode("utf-8", "surrogateescape")


def read(path: str | Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yields the rows of a table that `to_tsv` made.

    Raises:
        UserError: it has other columns, or a row of another length.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, dialect="excel-tab")
        header = next(rows, [])
        for row in rows if header == list(columns) else [header]:
            if header != list(columns) or len(row) != len(columns):
                raise UserError(
                    f"{path}, line {rows.line_num}: expected the columns {', '.join(columns)}. "
                    "Delete the file and run again."
                )
            yield row
