"""Find the photos of a folder and their identities; no photo is decoded."""

import hashlib
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain import corrections, files, manifest, photos
from edgetpu_retrain.corrections import Applied
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.found import Found
from edgetpu_retrain.manifest import SPLITS, Identity, Photo, Skipped

log = logging.getLogger(__name__)

_MIN_CLASSES = 2
_MIN_PHOTOS_PER_CLASS = 3
_SHOWN = 5
IN_NO_CLASS = "lies in no class folder"
# A file may be written twice within what a file system takes for one moment.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Outputs:
    """Where the index goes: the paths of its tables, and the folder of the shards."""

    manifest: str | Path
    not_photos: str | Path
    corrections: str | Path
    identities: str | Path
    shards: str | Path


@dataclass(frozen=True)
class Index:
    """What was indexed.

    Attributes:
        counts: how many photos there are of every class and split.
        corrected: what became of each correction.
    """

    counts: Counter[tuple[str, str]]
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
    outputs: Outputs,
    validation: float,
    test: float,
    max_skipped: float,
    shards: int | str = "auto",
    descend: bool = False,
    corrected_by: str | Path | None = None,
    listed_in: str | Path | None = None,
) -> Index:
    """Lists every photo below the class folders of `root`, with its identity.

    Tables are written as photos are found, so that some bytes per photo are in memory, and stand
    in their places when all went well. A table whose content stays is not touched.

    Args:
        root: a folder with one sub-folder per class; photos may lie in folders inside of these.
        outputs: where to write. The identities that an earlier call left there are taken over: an
            unchanged file is not read again.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        max_skipped: the fraction of photos that may be unreadable before this is an error.
        shards: into how many parts the photos are divided, or auto.
        descend: as `class_folders` takes it.
        corrected_by: a table of corrections to apply (`corrections.read`).
        listed_in: where all files that cannot be photos are listed, also when this fails.

    Raises:
        UserError: there are too few classes, too few photos in a class, none of them in the
            training split, too many files that cannot be photos, or an error in a correction.
    """
    decided = corrections.read(corrected_by) if corrected_by else {}
    corrector = corrections.Corrector(decided, corrected_by or "")
    folders = class_folders(root, descend)
    strays = _strays(folders[0].parent)
    known = Path(outputs.identities)
    earlier = _Earlier(manifest.read_identities(known) if known.is_file() else iter(()))
    with (
        manifest.writing_identities(known) as remember,
        # It goes with the process, however that ends.
        tempfile.TemporaryFile(dir=known.parent) as scratch,
    ):
        found = Found(scratch)
        skipped, total = _find(folders, earlier, remember, corrector, found)
        unused = sorted([*skipped, *strays])
        if listed_in is not None:
            manifest.write_skipped(unused, listed_in)
        check_skipped(skipped, total, max_skipped, listed_in)
        corrected = corrector.applied()
        found.assign_splits(validation, test)
        counts = found.counts()
        names = [folder.name for folder in folders]
        check_counts(names, counts, len(skipped), listed_in)
        _warn_of_contradictions(found.contradictions())
        manifest.write(found.photos(), outputs.manifest)
        count = manifest.choose_shards(len(found)) if shards == "auto" else int(shards)
        # A photo that is left out stays embedded, so that it can come back at once.
        left_out = [(c.sha256, c.path) for c in corrected if c.outcome == corrections.LEFT_OUT]
        tables = [Path(outputs.shards, f"{name}.tsv") for name in manifest.shard_names(count)]
        for table, shard in zip(tables, found.shards(count, left_out), strict=True):
            manifest.write_shard(shard, table)
        manifest.write_skipped(unused, outputs.not_photos)
        corrections.write_applied(corrected, outputs.corrections)
    manifest.remove_other_shards(tables)
    manifest.remove_other_shards(map(manifest.digest_of, tables))
    return Index(counts, corrected)


def _find(
    folders: Iterable[Path],
    earlier: "_Earlier",
    remember: Callable[[Identity], None],
    corrector: corrections.Corrector,
    found: Found,
) -> tuple[list[Skipped], int]:
    """Adds every photo below class folders to `found`, sorted by path, with its class.

    Returns:
        The files that cannot be photos, and the number of all files.
    """
    started = time.time_ns()
    skipped, total = [], 0
    # A folder's photos stand where its name with a slash does.
    for folder in sorted(folders, key=lambda folder: f"{folder}/"):
        for path, status in photos.find_photos(folder):
            total += 1
            sha256 = earlier.sha256(path, status)
            if sha256 is None:
                reason = photos.reason_against(path, status)
                if not reason:
                    try:
                        sha256 = files.sha256(path)
                    except OSError as error:
                        reason = f"cannot be opened: {error.strerror}"
                if sha256 is None:
                    skipped.append(Skipped(path, photos.advice(path, reason)))
                    continue
            if label := corrector.correct(path, folder.name, sha256):
                found.add(path, label, sha256)
            if status.st_mtime_ns < started - _SETTLED_NS:
                remember((path, status.st_size, status.st_mtime_ns, sha256))
    return skipped, total


class _Earlier:
    """The identities of an earlier run, for paths that are asked for in order."""

    def __init__(self, identities: Iterator[Identity]) -> None:
        self._rest = identities
        self._next = next(identities, None)

    def sha256(self, path: str, status: os.stat_result) -> str | None:
        """Returns the identity of a file that has not changed; None of any other."""
        while self._next is not None and self._next[0] < path:
            self._next = next(self._rest, None)
        if self._next is None or self._next[:3] != (path, status.st_size, status.st_mtime_ns):
            return None
        return self._next[3]


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
            f"{what}{hint}. Add photos, or remove the folder."
        )
    untrained = [name for name in names if not counts.get((name, "train"))]
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


def _warn_of_contradictions(groups: Sequence[Sequence[str]]) -> None:
    for same in groups:
        log.debug("the same photo in several classes: %s", ", ".join(same))
    for same in groups[:_SHOWN]:
        log.warning("The same photo is in several classes: %s", ", ".join(same))
    if len(groups) > _SHOWN:
        log.warning("and %d more such photos, in the log", len(groups) - _SHOWN)


def summary(found: Index) -> str:
    """Returns a table of photos by class and split, as text, with the totals below it."""
    labels = sorted({label for label, _ in found.counts})
    width = max(len(label) for label in [*labels, "class"])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        numbers = "".join(f"{found.counts[label, split]:>12}" for split in SPLITS)
        lines.append(f"{label:<{width}}{numbers}")
    return "\n".join([*lines, totals(found)])


def totals(found: Index) -> str:
    """Says how many photos there are, and what became of corrections."""
    labels = {label for label, _ in found.counts}
    lines = [f"{found.counts.total()} photos in {len(labels)} classes"]
    if found.corrected:
        outcomes = Counter(one.outcome for one in found.corrected)
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        lines.append(f"corrections: {said}")
    return "\n".join(lines)
