"""Tables are safe to open in a spreadsheet, and read back as what was written."""

import csv
from pathlib import Path

from edgetpu_retrain.io import tables

CELLS = [
    *("=1+1", "+1-1", "-x/a.jpg", "@SUM(A1)", "=", "'=1", "''-x", "'", "'quoted", "a=b", ""),
    *("-1", "+1.5", "-.5e-3", "'-1", "-1-1", "-\ta", "=\r", '"=1'),
]


def test_no_cell_is_a_formula_and_all_are_read_back(tmp_path: Path):
    columns = ("=a", "b")
    path = tmp_path / "table.tsv"
    tables.write(path, columns, ([cell, "x"] for cell in CELLS))
    assert [row[0] for row in tables.read(path, columns)] == CELLS
    with path.open(newline="") as file:
        raw = [row[0] for row in csv.reader(file, dialect="excel-tab")]
    for cell in raw:
        # Numbers stay numbers.
        assert not cell.startswith(("=", "+", "-", "@")) or float(cell) is not None
    assert raw[0] == "'=a"
    assert len(set(raw)) == len(CELLS) + 1
