"""Label corrections by the user, applied by photo identity wherever the files are."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from edgetpu_retrain.config.messages import did_you_mean
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.layout import class_name
from edgetpu_retrain.index.manifest import Photo
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
    """The user's decision about one photo.

    Attributes:
        sha256: the photo's identity.
        label: its correct class; empty if the photo is to be left out.
        path: where the photo was at that time; informational only.
        note: any text; informational only.
        line: line number in the corrections file.
    """

    sha256: str
    label: str
    path: str
    note: str
    line: int


@dataclass(frozen=True)
class AppliedCorrection:
    """The outcome of a correction.

    Attributes:
        sha256: the photo's identity.
        path: path of the photo; its former path if it is missing.
        folder: the class whose folder the photo is in; empty if it is missing or unlabelled.
        label: the class in the correction; empty if the photo is to be left out.
        outcome: ``labelled``, ``relabelled``, ``confirmed``, ``left out`` or ``missing``.
        note: the note in the correction.
    """

    sha256: str
    path: str
    folder: str
    label: str
    outcome: str
    note: str


def read(path: str | Path) -> dict[str, Correction]:
    """Reads a corrections.tsv that was saved from report.html or edited in a spreadsheet.

    Returns:
        The corrections by photo identity.

    Raises:
        UserError: the file cannot be read, its columns are wrong, a line is malformed, or two
            lines give the same photo different classes.
    """
    corrections: dict[str, Correction] = {}
    try:
        # Some spreadsheets write a byte order mark.
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, dialect="excel-tab", strict=True)
            header = tuple(next(rows, ()))
            if header != COLUMNS:
                raise _malformed(path, 1, f"the columns must be {', '.join(COLUMNS)}")
            for row in rows:
                if any(row):
                    correction = _parse(path, rows.line_num, row)
                    _check_unique(path, correction, corrections.get(correction.sha256))
                    corrections[correction.sha256] = correction
    except OSError as error:
        raise UserError(f"config: corrections is {str(path)!r}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text. Save it as tab-separated UTF-8.") from None
    except csv.Error as error:
        raise _malformed(path, rows.line_num, str(error)) from None
    return corrections


def _parse(path: str | Path, line: int, row: Sequence[str]) -> Correction:
    if len(row) != len(COLUMNS):
        raise _malformed(path, line, f"{len(row)} fields instead of {len(COLUMNS)}")
    sha256 = row[0].strip().lower()
    if len(sha256) != 64 or set(sha256) - _DIGITS:
        raise _malformed(path, line, f"{row[0]!r} is not a SHA-256 (64 hexadecimal digits)")
    label, photo, note = map(tables.unprotect, row[1:])
    return Correction(sha256, class_name(label) or label, photo, note, line)


def _check_unique(path: str | Path, new: Correction, old: Correction | None) -> None:
    if old is not None and old.label != new.label:
        raise _malformed(path, new.line, f"line {old.line} gives the same photo a different class")


def invalid_class_reason(name: str) -> str:
    """Returns why a class cannot have this name, which may become a folder; "" if it can.

    >>> invalid_class_reason("robin"), invalid_class_reason("a/b")
    ('', "the class name 'a/b' contains a slash")
    """
    if not name.strip():
        return f"the class name {name!r} consists only of blanks"
    if not name.isprintable():
        return f"the class name {name!r} has non-printable characters"
    if "/" in name or "\\" in name:
        return f"the class name {name!r} contains a slash"
    if name.startswith(".") or name == "__MACOSX":
        return f"a folder with the class name {name!r} would be hidden"
    if len(name.encode()) > _MAX_CLASS_BYTES:
        return f"the class name '{name[:20]}...' is longer than {_MAX_CLASS_BYTES} bytes"
    return ""


def _malformed(path: str | Path, line: int, problem: str) -> UserError:
    return UserError(f"{path}, line {line}: {problem}. Correct or remove the line.")


class Corrector:
    """Applies corrections to photos one by one, and records the outcomes."""

    def __init__(self, corrections: Mapping[str, Correction], source: str | Path) -> None:
        """Prepares to apply corrections.

        Args:
            corrections: the corrections by photo identity, from `read`.
            source: path of the corrections file, for messages.
        """
        self._corrections = corrections
        self._source = source
        self._classes: set[str] = set()
        self._applied: list[AppliedCorrection] = []

    def correct(self, path: str, folder: str, sha256: str) -> str:
        """Applies the correction of a photo, if there is one.

        Args:
            path: path of the photo.
            folder: the class whose folder it is in; "" for an unlabelled photo.
            sha256: its identity.

        Returns:
            The correct class of the photo; "" if it is to be left out or has no class yet.

        Raises:
            UserError: an unlabelled photo is to get a class with an invalid name.
        """
        self._classes.add(folder)
        correction = self._corrections.get(sha256)
        if correction is None:
            return folder
        label, note = correction.label, correction.note
        if label and not folder:
            if reason := invalid_class_reason(label):
                raise _malformed(self._source, correction.line, reason)
            self._classes.add(label)
            outcome = LABELLED
        else:
            outcome = (CONFIRMED if label == folder else RELABELLED) if label else LEFT_OUT
        self._applied.append(AppliedCorrection(sha256, path, folder, label, outcome, note))
        return label

    def applied(self) -> list[AppliedCorrection]:
        """Returns the outcome of every correction, sorted by path, after all photos were passed.

        If there are several copies of a photo, there is one outcome for each.

        Raises:
            UserError: a photo is to get a class that has no folder.
        """
        classes = sorted(self._classes - {""})
        present = {applied.sha256 for applied in self._applied}
        for correction in self._corrections.values():
            is_known = not correction.label or correction.label in classes
            if correction.sha256 in present and not is_known:
                hint = did_you_mean(correction.label, classes)
                problem = (
                    f"there is no class {correction.label!r}.{hint} Classes are named after folders"
                )
                raise _malformed(self._source, correction.line, problem)
        missing = [
            AppliedCorrection(c.sha256, c.path, "", c.label, MISSING, c.note)
            for c in self._corrections.values()
            if c.sha256 not in present
        ]
        return sorted(
            [*self._applied, *missing], key=lambda applied: (applied.path, applied.sha256)
        )


def write_applied(applied: Iterable[AppliedCorrection], path: str | Path) -> None:
    """Writes the outcomes of corrections as a table."""
    tables.write(path, _APPLIED_COLUMNS, map(astuple, applied))


def read_applied(path: str | Path) -> list[AppliedCorrection]:
    """Reads a table written by `write_applied`.

    Raises:
        UserError: the table is damaged.
    """
    return [AppliedCorrection(*row) for row in tables.read(path, _APPLIED_COLUMNS)]


def undecided(unlabelled: Iterable[Photo], applied: Iterable[AppliedCorrection]) -> list[Photo]:
    """Returns the photos without a label that no correction is about, one per identity."""
    decided = {correction.sha256 for correction in applied}
    waiting = {photo.sha256: photo for photo in unlabelled if photo.sha256 not in decided}
    return list(waiting.values())
