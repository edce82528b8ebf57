"""Read a table of photos and their classes, as many datasets come: photos.csv."""

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain.config.datasets import TABLE_SUFFIXES
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.layout import class_name, split_of
from edgetpu_retrain.photos import walk

# The names of columns, in the order in which they are looked for.
_PATHS = (
    *("path", "filepath", "filepaths", "file path", "image path", "filename", "file name", "file"),
    *("image", "image id", "image name", "img", "photo", "id", "name"),
)
_LABELS = ("label", "labels", "class", "class name", "classname", "category", "target", "species")
_SPLITS = ("split", "data set", "dataset", "set", "subset")
NO_SUCH_FILE = "is in the table, but there is no such file"
_SEVERAL_FILES = "is in the table, but there are several files of that name"


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """A photo in a table.

    Attributes:
        path: path of the photo.
        label: name of its class.
        split: ``train``, ``validation`` or ``test``; "" if the photo's content decides.
        problem: why there is no such photo; "" if there is.
    """

    path: str
    label: str
    split: str
    problem: str = ""


def is_table(path: str | Path) -> bool:
    """Returns whether a path is that of a table, by its extension."""
    return os.path.splitext(path)[1].lower() in TABLE_SUFFIXES


def read(path: str | Path, use_splits: bool = True) -> list[Row]:
    """Reads a table of photos.

    The first line names the columns. In a table of two columns these are the path and the class;
    otherwise they are found by their names. Fields are separated by commas, semicolons or tabs.
    A path is relative to the folder of the table; a name alone, also one without its extension, is
    found in the folders below it, too.

    Args:
        path: path of the table.
        use_splits: whether a column such as ``split`` says which split a photo is in.

    Returns:
        The rows, sorted by path, without repetitions.

    Raises:
        UserError: the table cannot be read, or its columns are not found.
    """
    lines = list(_lines(path))
    if not lines:
        raise UserError(f"{path} is empty. {_expected()}")
    header, rows = lines[0][1], lines[1:]
    photo, label, split = _columns(path, header)
    finder = _Finder(Path(path).parent)
    found = set()
    for number, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(row)} fields instead of {len(header)}. Correct the "
                "line, or quote a field that contains the separator."
            )
        name, problem = finder.find(row[photo].strip())
        given = split_of(row[split]) if use_splits and split is not None else ""
        found.add(Row(name, class_name(row[label]), given, problem))
    return sorted(found)


def _lines(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the fields of every line that is not empty."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            for row in rows:
                if any(row):
                    yield rows.line_num, row
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}. Correct the line.") from None


def _columns(path: str | Path, header: Sequence[str]) -> tuple[int, int, int | None]:
    """Returns which columns hold the path, the class and the split."""
    names = [name.strip().casefold().replace("_", " ") for name in header]
    split = _first(_SPLITS, names)
    if len(header) == 2:
        if walk.is_image_name(header[0]):
            raise UserError(
                f"{path}, line 1: the columns have no names. Insert a first line: path,label"
            )
        label = _first(_LABELS, names) == 0
        return int(label), int(not label), None
    photo, named = _first(_PATHS, names), _first(_LABELS, names)
    if photo is None or named is None:
        missing = "path of a photo" if photo is None else "class"
        raise UserError(
            f"{path}: none of the columns {', '.join(header[:10])} is known to hold the {missing}. "
            f"{_expected()}"
        )
    return photo, named, split


def _first(wanted: Iterable[str], names: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _expected() -> str:
    return "Name the columns in the first line: path,label"


class _Finder:
    """Finds the photos that a table names."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._by_name: dict[str, list[str]] | None = None

    def find(self, name: str) -> tuple[str, str]:
        """Returns the path of a photo, and why there is none, or ""."""
        path = os.path.join(self._folder, name)
        if name and os.path.isfile(path):
            return path, ""
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for below, _ in walk.files_below(self._folder):
                base = os.path.basename(below)
                if walk.is_image_name(base):
                    self._by_name[base].append(below)
                    self._by_name[os.path.splitext(base)[0]].append(below)
        matches = self._by_name.get(os.path.basename(name), [])
        if len(matches) == 1:
            return matches[0], ""
        return path, _SEVERAL_FILES if matches else NO_SUCH_FILE
