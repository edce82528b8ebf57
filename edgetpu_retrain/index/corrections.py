"""What a person decided about photos' labels, applied by identity wherever the files lie."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from edgetpu_retrain.config.messages import did_you_mean
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import tables

COLUMNS = ("sha256", "class", "path", "note")
_APPLIED_COLUMNS = ("sha256", "path", "folder", "class", "outcome", "note")
RELABELLED, CONFIRMED, LEFT_OUT, MISSING = "relabelled", "confirmed", "left out", "missing"
LABELLED = "labelled"
OUTCOMES = (LABELLED, RELABELLED, CONFIRMED, LEFT_OUT, MISSING)
# The note on a label that was given to several photos at once, none of which was looked at alone.
IN_A_GROUP = "in a group"
_MAX_CLASS_BYTES = 200
_DIGITS = set("0123456789abcdef")


@dataclass(frozen=True)
class Correction:
    """What was decided about one photo.

    Attributes:
        sha256: the photo's identity.
        label: its class; empty where it is to be left out.
        path: where it was then, for people.
        note: anything, for people.
        line: where it stands in its file.
    """

    sha256: str
    label: str
    path: str
    note: str
    line: int


@dataclass(frozen=True)
class Applied:
    """What became of a correction.

    Attributes:
        sha256: the photo's identity.
        path: where the photo is; where it was if it is missing.
        folder: the class of the folder it lies in; empty if it is missing or in none.
        label: the class that was decided; empty where the photo is to be left out.
        outcome: labelled, relabelled, confirmed, left out or missing.
        note: of the correction.
    """

    sha256: str
    path: str
    folder: str
    label: str
    outcome: str
    note: str


def read(path: str | Path) -> dict[str, Correction]:
    """Reads corrections.tsv, as the report's page saves it or a spreadsheet leaves it.

    Returns:
        The correction of every identity.

    Raises:
        UserError: the file is not such a table, a line is malformed, or two lines contradict.
    """
    found: dict[str, Correction] = {}
    try:
        # Spreadsheets begin a text with a byte order mark.
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, dialect="excel-tab", strict=True)
            header = tuple(next(rows, ()))
            if header != COLUMNS:
                raise _malformed(path, 1, f"the columns must be {', '.join(COLUMNS)}")
            for row in rows:
                if any(row):
                    correction = _parse(path, rows.line_num, row)
                    _check_once(path, correction, found.get(correction.sha256))
                    found[correction.sha256] = correction
    except OSError as error:
        raise UserError(f"config: corrections is {str(path)!r}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8: save it as tab-separated UTF-8.") from None
    except csv.Error as error:
        raise _malformed(path, rows.line_num, str(error)) from None
    return found


def _parse(path: str | Path, line: int, row: Sequence[str]) -> Correction:
    if len(row) != len(COLUMNS):
        raise _malformed(path, line, f"{len(row)} fields between tabs instead of {len(COLUMNS)}")
    sha256 = row[0].strip().lower()
    if len(sha256) != 64 or set(sha256) - _DIGITS:
        raise _malformed(path, line, f"{row[0]!r} is not a SHA-256 of 64 hexadecimal digits")
    return Correction(sha256, row[1], row[2], row[3], line)


def _check_once(path: str | Path, new: Correction, old: Correction | None) -> None:
    if old is not None and old.label != new.label:
        raise _malformed(path, new.line, f"the photo has another class on line {old.line}")


def why_no_class(name: str) -> str:
    """Returns why text cannot be the name of a class, which may become a folder; else nothing.

    >>> why_no_class("robin"), why_no_class("a/b")
    ('', "the class 'a/b' has a slash in it")
    """
    if not name or name != name.strip():
        return f"the class {name!r} is empty, or begins or ends with a space"
    if not name.isprintable():
        return f"the class {name!r} has characters that cannot be printed"
    if "/" in name or "\\" in name:
        return f"the class {name!r} has a slash in it"
    if name.startswith(".") or name == "__MACOSX":
        return f"the class {name!r} would be a hidden folder"
    if len(name.encode()) > _MAX_CLASS_BYTES:
        return f"the class {name[:20]!r}... has a name of more than {_MAX_CLASS_BYTES} bytes"
    return ""


def _malformed(path: str | Path, line: int, what: str) -> UserError:
    return UserError(f"{path}, line {line}: {what}. Correct the line, or remove it.")


class Corrector:
    """Gives photos the classes that were decided, one after the other."""

    def __init__(self, corrections: Mapping[str, Correction], source: str | Path) -> None:
        """Takes the corrections by identity, and the file they come from, for messages."""
        self._corrections = corrections
        self._source = source
        self._classes: set[str] = set()
        self._applied: list[Applied] = []

    def correct(self, path: str, folder: str, sha256: str) -> str:
        """Returns the class of a photo.

        Args:
            path: of the photo.
            folder: the class whose folder it lies in; empty for an unlabelled photo.
            sha256: its identity.

        Returns:
            Its class; empty if it is left out or has none yet.

        Raises:
            UserError: an unlabelled photo was given a class that cannot be one.
        """
        self._classes.add(folder)
        decided = self._corrections.get(sha256)
        if decided is None:
            return folder
        label = decided.label
        if label and not folder:
            if why := why_no_class(label):
                raise _malformed(self._source, decided.line, why)
            self._classes.add(label)
            outcome = LABELLED
        else:
            outcome = (CONFIRMED if label == folder else RELABELLED) if label else LEFT_OUT
        self._applied.append(Applied(sha256, path, folder, label, outcome, decided.note))
        return label

    def applied(self) -> list[Applied]:
        """Says what became of every correction, by path, once all photos were seen.

        A photo that is there several times is listed each time.

        Raises:
            UserError: the class that a photo is to have is not among the photos' classes.
        """
        classes = sorted(self._classes - {""})
        there = {one.sha256 for one in self._applied}
        for correction in self._corrections.values():
            known = not correction.label or correction.label in classes
            if correction.sha256 in there and not known:
                hint = did_you_mean(correction.label, classes)
                what = f"there is no class {correction.label!r}.{hint} The classes are the folders"
                raise _malformed(self._source, correction.line, what)
        missing = [
            Applied(one.sha256, one.path, "", one.label, MISSING, one.note)
            for one in self._corrections.values()
            if one.sha256 not in there
        ]
        return sorted([*self._applied, *missing], key=lambda one: (one.path, one.sha256))


def write_applied(applied: Iterable[Applied], path: str | Path) -> None:
    """Writes what became of the corrections."""
    tables.write(path, _APPLIED_COLUMNS, map(astuple, applied))


def read_applied(path: str | Path) -> list[Applied]:
    """Reads what `write_applied` wrote."""
    return [Applied(*row) for row in tables.read(path, _APPLIED_COLUMNS)]
