"""Check that there are enough usable photos, and warn about misplaced and contradictory ones."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo, Skipped

log = logging.getLogger(__name__)

_MIN_PHOTOS_PER_CLASS = 3
_MIN_CLASSES = 2
_SHOWN = 5
# The reason in skipped.tsv for photos outside the class folders.
IN_NO_CLASS = "lies in no class folder"


def check_skipped(
    skipped: Sequence[Skipped],
    total: int,
    max_skipped: float,
    listed_in: str | Path | None = None,
) -> None:
    """Checks that not too many photos were skipped.

    Args:
        skipped: the skipped photos; those that are not in a class folder do not count.
        total: the number of photos, skipped or not.
        max_skipped: the fraction of `total` that may be skipped, in [0, 1].
        listed_in: path of the file that lists all skipped photos, for the message.

    Raises:
        UserError: more photos were skipped.
    """
    unusable = [photo for photo in skipped if photo.reason != IN_NO_CLASS]
    if len(unusable) > max_skipped * total:
        shown = "\n".join(f"  {photo.path}: {photo.reason}" for photo in unusable[:_SHOWN])
        if len(unusable) > _SHOWN:
            shown += f"\n  and {len(unusable) - _SHOWN} more, in {listed_in or 'the log'}"
        raise UserError(
            f"{len(unusable)} of {total} photos cannot be used, more than the "
            f"{max_skipped:.0%} that max_skipped allows:\n{shown}\n"
            "Repair or remove them, or increase max_skipped in config.yaml."
        )


def check_classes(
    names: Iterable[str],
    usable: Iterable[Photo],
    skipped: int,
    listed_in: str | Path | None = None,
) -> None:
    """Checks the usable photos as `check_counts` does.

    Args:
        names: names of the classes.
        usable: the photos that can be used.
        skipped: number of photos that cannot.
        listed_in: path of the file that lists the skipped photos, for the message.

    Raises:
        UserError: a class has too few photos, or none in the training split.
    """
    counts = Counter((photo.label, photo.split) for photo in usable)
    check_counts(names, counts, skipped, listed_in)


def check_counts(
    names: Iterable[str],
    counts: Mapping[tuple[str, str], int],
    skipped: int,
    listed_in: str | Path | None = None,
) -> None:
    """Checks that every class has enough photos.

    Args:
        names: names of the classes.
        counts: number of usable photos by class and split.
        skipped: number of photos that cannot be used.
        listed_in: path of the file that lists the skipped photos, for the message.

    Raises:
        UserError: a class has too few photos, or none in the training split.
    """
    names = list(names)
    if len(names) < _MIN_CLASSES:
        have = "1 class" if len(names) == 1 else f"{len(names)} classes"
        raise UserError(
            f"At least {_MIN_CLASSES} classes are needed, but the photos have {have}. Label "
            "photos with: python scripts/label.py"
        )
    per_class: Counter[str] = Counter()
    for (label, _), count in counts.items():
        per_class[label] += count
    small = [name for name in names if per_class[name] < _MIN_PHOTOS_PER_CLASS]
    if small:
        sizes = ", ".join(f"{name!r} has {per_class[name]}" for name in small)
        where = f": see {listed_in}" if listed_in else ""
        unreadable = "1 photo" if skipped == 1 else f"{skipped} photos"
        hint = f" ({unreadable} could not be read{where})" if skipped else ""
        raise UserError(
            f"Every class needs at least {_MIN_PHOTOS_PER_CLASS} readable photos, but "
            f"{sizes}{hint}. Add or label photos, or remove the class."
        )
    untrained = [name for name in names if not counts.get((name, "train"))]
    if untrained:
        raise UserError(
            f"No photo of {', '.join(map(repr, untrained))} is in the training split. Add photos, "
            "or change split in config.yaml: decrease validation and test, or, if the folders "
            "of your dataset say the split, set folders to false."
        )


def warn_about_strays(strays: Sequence[Skipped]) -> None:
    """Logs a warning per folder with the first few photos that are not in a class folder."""
    by_folder: dict[Path, list[str]] = {}
    for stray in strays:
        path = Path(stray.path)
        by_folder.setdefault(path.parent, []).append(path.name)
    for folder, names in by_folder.items():
        shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        count = "1 photo" if len(names) == 1 else f"{len(names)} photos"
        log.warning("Ignoring %s outside the class folders in %s: %s", count, folder, shown)


def warn_about_unreadable(unreadable: Sequence[Skipped]) -> None:
    """Logs a warning with the first few unusable files in unlabelled folders; the log has all."""
    for photo in unreadable:
        log.debug("Unusable: %s: %s", photo.path, photo.reason)
    if unreadable:
        shown = ", ".join(Path(photo.path).name for photo in unreadable[:_SHOWN])
        shown += " ..." if len(unreadable) > _SHOWN else ""
        count = "1 file" if len(unreadable) == 1 else f"{len(unreadable)} files"
        log.warning("Ignoring %s in the unlabelled folders: %s", count, shown)


def warn_about_contradictions(groups: Sequence[Sequence[str]]) -> None:
    """Logs warnings about photos with copies in several classes; only the log file has them all.

    Args:
        groups: for each such photo, the paths of its copies.
    """
    for paths in groups:
        log.debug("The same photo in several classes: %s", ", ".join(paths))
    for paths in groups[:_SHOWN]:
        log.warning("The same photo is in several classes: %s", ", ".join(paths))
    if len(groups) > _SHOWN:
        log.warning("and %d more, listed in the log", len(groups) - _SHOWN)
