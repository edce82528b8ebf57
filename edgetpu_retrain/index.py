"""Find the photos of a folder and their identities; no photo is decoded."""

import hashlib
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain import corrections, files, photos
from edgetpu_retrain.corrections import Applied
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.manifest import (
    SPLITS,
    Identities,
    Photo,
    Skipped,
    assign_splits,
    write_skipped,
)

log = logging.getLogger(__name__)

_MIN_CLASSES = 2
_MIN_PHOTOS_PER_CLASS = 3
_SHOWN = 5
IN_NO_CLASS = "lies in no class folder"
# A file may be written twice within what a file system takes for one moment.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Index:
    """What a folder of photos holds, sorted by path.

    Attributes:
        photos: every file that may be a photo.
        skipped: every file that cannot be one, with its reason.
        identities: of all files that may be taken from here in a later run.
        left_out: photos that corrections leave out; of no split.
        corrected: what became of each correction.
    """

    photos: list[Photo]
    skipped: list[Skipped]
    identities: Identities
    left_out: list[Photo]
    corrected: list[Applied]


def class_folders(root: str | Path, descend: bool) -> list[Path]:
    """Returns the folders, one per class, that photos are sorted into, by name.

    Args:
        root: the folder they are in.
        descend: where there is one folder only and it holds folders, as in most archives, look
            for the classes in there.

    Raises:
        UserError: there are fewer than two.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder.")
    folders = _visible_folders(root)
    while descend and len(folders) == 1 and len(below := _visible_folders(folders[0])) > 0:
        folders = below
    if len(folders) < _MIN_CLASSES:
        found = f"only the folder {folders[0].name!r}" if folders else "no folder"
        hint = ""
        if folders and _visible_folders(folders[0]):
            hint = f" If the classes are inside of it, name that one: {folders[0]}."
        raise UserError(
            f"{root} holds {found}. A dataset is a folder with one sub-folder for each class, "
            f"named after the class, and at least two of them.{hint}"
        )
    for folder in folders:
        if not folder.name.isprintable():
            # Such names cannot be written into a label map.
            raise UserError(f"The folder {folder.name!r} cannot be a class: rename it.")
    return folders


def _visible_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and photos.is_visible(e.name)]
    return [folder / name for name in sorted(names)]


def listing(root: str | Path) -> tuple[str, int]:
    """Returns a digest of the names, sizes and times of all visible files, and their number.

    The digest changes when a photo or a class folder is added, removed or replaced. No photo is
    read.
    """
    digest, count = hashlib.sha256(), 0
    for folder in _visible_folders(Path(root)):
        digest.update(os.fsencode(f"{folder}\n"))
    for path, status in photos.files_below(root):
        digest.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"))
        count += 1
    return digest.hexdigest(), count


def index(
    root: str | Path,
    validation: float,
    test: float,
    max_skipped: float,
    earlier: Identities | None = None,
    descend: bool = False,
    corrected_by: str | Path | None = None,
    listed_in: str | Path | None = None,
) -> Index:
    """Lists every photo below the class folders of `root`, with its identity.

    Args:
        root: a folder with one sub-folder per class; photos may lie in folders inside of these.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        max_skipped: the fraction of photos that may be unreadable before this is an error.
        earlier: the identities that an earlier call gave; an unchanged file is not read again.
        descend: as `class_folders` takes it.
        corrected_by: a table of corrections to apply (`corrections.read`).
        listed_in: where all files that cannot be photos are listed, also when this fails.

    Returns:
        Every file that may be a photo, and every file that cannot be one with its reason.

    Raises:
        UserError: there are too few classes, too few photos in a class, none of them in the
            training split, too many files that cannot be photos, or an error in a correction.
    """
    decided = corrections.read(corrected_by) if corrected_by else {}
    folders = class_folders(root, descend)
    strays = _strays(folders[0].parent)
    started = time.time_ns()
    found: list[tuple[str, str, str]] = []
    skipped, identities = [], {}
    for folder in folders:
        for path, status in photos.find_photos(folder):
            mark = (status.st_size, status.st_mtime_ns)
            entry = (earlier or {}).get(path)
            if entry is not None and entry[:2] == mark:
                sha256 = entry[2]
            else:
                reason = photos.reason_against(path, status)
                if not reason:
                    try:
                        sha256 = files.sha256(path)
                    except OSError as error:
                        reason = f"cannot be opened: {error.strerror}"
                if reason:
                    skipped.append(Skipped(path, photos.advice(path, reason)))
                    continue
            found.append((path, folder.name, sha256))
            if status.st_mtime_ns < started - _SETTLED_NS:
                identities[path] = (*mark, sha256)
    if listed_in is not None:
        write_skipped([*skipped, *strays], listed_in)
    check_skipped(skipped, len(found) + len(skipped), max_skipped, listed_in)
    found, corrected = corrections.apply(found, decided, corrected_by or "")
    left_out = [
        Photo(one.path, one.folder, "", one.sha256)
        for one in corrected
        if one.outcome == corrections.LEFT_OUT
    ]
    splits = assign_splits(((sha256, label) for _, label, sha256 in found), validation, test)
    kept = sorted(Photo(path, label, splits[sha256], sha256) for path, label, sha256 in found)
    check_classes([folder.name for folder in folders], kept, len(skipped), listed_in)
    _warn_of_contradictions(kept)
    return Index(kept, sorted([*skipped, *strays]), identities, left_out, corrected)


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
    """Raises a UserError where a class has too few photos, or none for training.

    Args:
        names: of the classes that there should be.
        kept: the photos that can be used.
        skipped: how many others cannot.
        listed_in: the file that lists these.
    """
    counts: Counter[str] = Counter()
    trained = set()
    for photo in kept:
        counts[photo.label] += 1
        if photo.split == "train":
            trained.add(photo.label)
    small = [name for name in names if counts[name] < _MIN_PHOTOS_PER_CLASS]
    if small:
        what = ", ".join(f"{name!r} has {counts[name]}" for name in small)
        where = f": see {listed_in}" if listed_in else ""
        hint = f" ({skipped} photos could not be read{where})" if skipped else ""
        raise UserError(
            f"Every class needs at least {_MIN_PHOTOS_PER_CLASS} photos that can be read; "
            f"{what}{hint}. Add photos, or remove the folder."
        )
    untrained = [name for name in names if name not in trained]
    if untrained:
        raise UserError(
            f"No photo of {', '.join(map(repr, untrained))} falls into the training split. Add "
            "photos, or lower split.validation and split.test in config.yaml."
        )


def _strays(folder: Path) -> list[Skipped]:
    with os.scandir(folder) as entries:
        files_there = sorted(entry.path for entry in entries if entry.is_file())
    strays = [Skipped(path, IN_NO_CLASS) for path in files_there if photos.is_photo(path)]
    if strays:
        names = [Path(stray.path).name for stray in strays[:_SHOWN]]
        shown = ", ".join(names) + (" ..." if len(strays) > _SHOWN else "")
        log.warning(
            "%d photos in %s lie in no class folder and are not used: %s",
            len(strays),
            folder,
            shown,
        )
    return strays


def _warn_of_contradictions(kept: Sequence[Photo]) -> None:
    copies = defaultdict(list)
    for photo in kept:
        copies[photo.sha256].append(photo)
    groups = [same for same in copies.values() if len({photo.label for photo in same}) > 1]
    for same in groups:
        log.debug("the same photo in several classes: %s", ", ".join(p.path for p in same))
    for same in groups[:_SHOWN]:
        log.warning("The same photo is in several classes: %s", ", ".join(p.path for p in same))
    if len(groups) > _SHOWN:
        log.warning("and %d more such photos, in the log", len(groups) - _SHOWN)


def summary(found: Index) -> str:
    """Returns a table of photos by class and split, as text, with the totals below it."""
    counts = Counter((photo.label, photo.split) for photo in found.photos)
    labels = sorted({photo.label for photo in found.photos})
    width = max(len(label) for label in [*labels, "class"])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        lines.append(f"{label:<{width}}" + "".join(f"{counts[label, s]:>12}" for s in SPLITS))
    return "\n".join([*lines, totals(found)])


def totals(found: Index) -> str:
    """Says how many photos there are, and what became of corrections."""
    labels = {photo.label for photo in found.photos}
    lines = [f"{len(found.photos)} photos in {len(labels)} classes"]
    if found.corrected:
        outcomes = Counter(one.outcome for one in found.corrected)
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        lines.append(f"corrections: {said}")
    return "\n".join(lines)
