"""Check that there are enough photos that can be used, and warn of those that are odd."""

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
IN_NO_CLASS = "lies in no class folder"


def check_skipped(
    skipped: Sequence[Skipped],
    total: int,
    max_skipped: float,
    listed_in: str | Path | None = None,
) -> None:
    """Raises a UserError where too many of `total` photos were left out.

    Those that lie in no class folder do not count. `listed_in` is the file that lists all of them.
    """
    unusable = [photo for photo in skipped if photo.reason != IN_NO_CLASS]
    if len(unusable) > max_skipped * total:
        shown = "\n".join(f"  {photo.path}: {photo.reason}" for photo in unusable[:_SHOWN])
        if len(unusable) > _SHOWN:
            shown += f"\n  and {len(unusable) - _SHOWN} more, in {listed_in or 'the log'}"
        raise UserError(
            f"{len(unusable)} of {total} photos cannot be used, more than the "
            f"{max_skipped:.0%} that max_skipped allows:\n{shown}\n"
            "Repair or remove them, or raise max_skipped in config.yaml."
        )


def check_classes(
    names: Iterable[str],
    kept: Iterable[Photo],
    skipped: int,
    listed_in: str | Path | None = None,
) -> None:
    """Does what `check_counts` does with the numbers of the photos that can be used, `kept`."""
    counts = Counter((photo.label, photo.split) for photo in kept)
    check_counts(names, counts, skipped, listed_in)


def check_counts(
    names: Iterable[str],
    counts: Mapping[tuple[str, str], int],
    skipped: int,
    listed_in: str | Path | None = None,
) -> None:
    """Raises a UserError where a class has too few photos, or none for training.

    Args:
        names: of the classes that there should be.
        counts: how many photos that can be used there are of every class and split.
        skipped: how many others cannot.
        listed_in: the file that lists these.
    """
    names = list(names)
    if len(names) < _MIN_CLASSES:
        raise UserError(
            f"Photos of at least {_MIN_CLASSES} classes are needed; there are {len(names)}. Label "
            "some photos with: python scripts/label.py"
        )
    of_class: Counter[str] = Counter()
    for (label, _), count in counts.items():
        of_class[label] += count
    small = [name for name in names if of_class[name] < _MIN_PHOTOS_PER_CLASS]
    if small:
        what = ", ".join(f"{name!r} has {of_class[name]}" for name in small)
        where = f": see {listed_in}" if listed_in else ""
        hint = f" ({skipped} photos could not be read{where})" if skipped else ""
        raise UserError(
            f"Every class needs at least {_MIN_PHOTOS_PER_CLASS} photos that can be read; "
            f"{what}{hint}. Add or label photos, or remove the class."
        )
    untrained = [name for name in names if not counts.get((name, "train"))]
    if untrained:
        raise UserError(
            f"No photo of {', '.join(map(repr, untrained))} falls into the training split. Add "
            "photos, or lower split.validation and split.test in config.yaml."
        )


def warn_of_strays(strays: Sequence[Skipped]) -> None:
    """Names the first few photos that lie in no class folder."""
    if strays:
        paths = [Path(stray.path) for stray in strays]
        shown = ", ".join(path.name for path in paths[:_SHOWN])
        shown += " ..." if len(paths) > _SHOWN else ""
        log.warning(
            "%d photos in %s lie in no class folder and are not used: %s",
            len(paths),
            paths[0].parent,
            shown,
        )


def warn_of_unreadable(unreadable: Sequence[Skipped]) -> None:
    """Names the first few files in unlabelled folders that cannot be photos; the log has all."""
    for photo in unreadable:
        log.debug("not a photo: %s: %s", photo.path, photo.reason)
    if unreadable:
        shown = ", ".join(Path(photo.path).name for photo in unreadable[:_SHOWN])
        shown += " ..." if len(unreadable) > _SHOWN else ""
        log.warning("%d files in the unlabelled folders cannot be used: %s", len(unreadable), shown)


def warn_of_contradictions(groups: Sequence[Sequence[str]]) -> None:
    """Names the first few photos that lie in several classes; the log has all of them."""
    for same in groups:
        log.debug("the same photo in several classes: %s", ", ".join(same))
    for same in groups[:_SHOWN]:
        log.warning("The same photo is in several classes: %s", ", ".join(same))
    if len(groups) > _SHOWN:
        log.warning("and %d more such photos, in the log", len(groups) - _SHOWN)
