"""Find the photos of a folder, their identities, classes and splits; no photo is decoded."""

import hashlib
import itertools
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edgetpu_retrain import corrections, files, manifest, photos
from edgetpu_retrain.corrections import Applied
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.identity_cache import IdentityCache
from edgetpu_retrain.manifest import SPLITS, Photo, Skipped, shard_of
from edgetpu_retrain.splits import assign_splits

log = logging.getLogger(__name__)

_MIN_CLASSES = 2
_MIN_PHOTOS_PER_CLASS = 3
_SHOWN = 5
IN_NO_CLASS = "lies in no class folder"
_DIGITS = 64
# What is remembered of a file that does not even claim to be a photo.
_NO_PHOTO = ""


@dataclass(frozen=True)
class Outputs:
    """Where the index goes: the paths of its tables, and the folder of the shards."""

    manifest: str | Path
    not_photos: str | Path
    corrections: str | Path
    shards: str | Path


@dataclass(frozen=True)
class Index:
    """The photos of a folder.

    Attributes:
        classes: the names of the class folders, sorted.
        photos: those with a class, sorted by path.
        left_out: identity and path of photos that a correction leaves out. They are embedded all
            the same, so that one can come back at once.
        unusable: files that cannot be photos, each with its reason.
        strays: photos that lie in no class folder.
        corrected: what became of each correction.
    """

    classes: list[str]
    photos: list[Photo]
    left_out: list[tuple[str, str]]
    unusable: list[Skipped]
    strays: list[Skipped]
    corrected: list[Applied]

    def shards(self, count: int) -> list[dict[str, str]]:
        """Divides the photos into `count` shards: the path of each photo by identity.

        Of copies it is the path of the first.
        """
        shards: list[dict[str, str]] = [{} for _ in range(count)]
        for photo in self.photos:
            shards[shard_of(photo.sha256, count)].setdefault(photo.sha256, photo.path)
        for sha256, path in self.left_out:
            shards[shard_of(sha256, count)].setdefault(sha256, path)
        return shards

    def digests(self, count: int) -> "Digests":
        """Returns what identifies the photos, divided into `count` shards."""
        listed = [(photo.sha256, photo.label, photo.split) for photo in self.photos]
        others = [
            *map(astuple, [*self.unusable, *self.strays]),
            *map(astuple, self.corrected),
        ]
        return Digests(
            _digest(itertools.chain(map(_fields, self.photos), others, [self.classes])),
            _digest(sorted(listed)),
            _digest(sorted(shard) for shard in self.shards(1)),
            tuple(_digest([sorted(shard)]) for shard in self.shards(count)),
        )


@dataclass(frozen=True)
class Digests:
    """What identifies the photos of a data set, as far as a stage depends on them.

    Attributes:
        everything: of paths, classes, splits, identities and what was left out.
        labels: of the class and split of each identity; the paths do not matter.
        identities: of the identities.
        shards: of the identities in each shard.
    """

    everything: str
    labels: str
    identities: str
    shards: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Writes the digests as JSON."""
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Digests":
        """Reads what `save` wrote."""
        content = files.read_json(path)
        return cls(**content | {"shards": tuple(content["shards"])})


def _fields(photo: Photo) -> tuple[str, ...]:
    return photo.path, photo.label, photo.split, photo.sha256


def _digest(rows: Iterable[Sequence[str]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(("\0".join(row) + "\n").encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


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


def scan(
    root: str | Path,
    cache: IdentityCache,
    validation: float,
    test: float,
    descend: bool = False,
    corrected_by: str | Path | None = None,
) -> Index:
    """Lists every photo below the class folders of `root`, with its identity, class and split.

    Args:
        root: a folder with one sub-folder per class; photos may lie in folders inside of these.
        cache: what is known of the files. It is brought up to date and saved.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        descend: as `class_folders` takes it.
        corrected_by: a table of corrections to apply (`corrections.read`).

    Raises:
        UserError: there are fewer than two classes, or an error in a correction.
    """
    decided = corrections.read(corrected_by) if corrected_by else {}
    corrector = corrections.Corrector(decided, corrected_by or "")
    folders = class_folders(root, descend)
    unusable: list[Skipped] = []
    paths, labels, identities = [], [], []
    # A folder's photos are listed where its name with a slash would be.
    for folder in sorted(folders, key=lambda folder: f"{folder}/"):
        for path, verdict in _verdicts(folder, cache):
            if len(verdict) != _DIGITS:
                unusable.append(Skipped(path, photos.advice(path, verdict)))
            elif label := corrector.correct(path, folder.name, verdict):
                paths.append(path)
                labels.append(label)
                identities.append(verdict)
    cache.save()
    corrected = corrector.applied()
    return Index(
        [folder.name for folder in folders],
        _with_splits(paths, labels, identities, validation, test),
        [(one.sha256, one.path) for one in corrected if one.outcome == corrections.LEFT_OUT],
        unusable,
        _strays(folders[0].parent),
        corrected,
    )


def _verdicts(folder: Path, cache: IdentityCache) -> Iterator[tuple[str, str]]:
    """Yields the path of each file that claims to be a photo, and its SHA-256 or why it is none."""
    reading = tqdm(desc=f"Reading new photos of {folder.name}", unit="photo", delay=1, disable=None)
    with reading:
        for path, status in photos.files_below(folder):
            verdict = cache.look_up(path, status)
            if verdict is None:
                reading.update()
                verdict = _read(path, status, cache)
            if verdict != _NO_PHOTO:
                yield path, verdict


def _read(path: str, status: os.stat_result, cache: IdentityCache) -> str:
    verdict = _NO_PHOTO
    if photos.may_be_photo(path, status):
        verdict = photos.reason_against(path, status)
        if not verdict:
            try:
                verdict = files.sha256(path)
            except OSError as error:
                verdict = photos.cannot_be_opened(error)
    # Permissions of a folder change without a trace in the file.
    if os.access(path, os.R_OK) and not verdict.startswith(photos.CANNOT_BE_OPENED):
        cache.remember(path, status, verdict)
    return verdict


def _with_splits(
    paths: Sequence[str],
    labels: Sequence[str],
    identities: Sequence[str],
    validation: float,
    test: float,
) -> list[Photo]:
    classes = sorted(set(labels))
    numbers = {label: i for i, label in enumerate(classes)}
    splits = assign_splits(
        np.array([int(sha256[:16], 16) for sha256 in identities], np.uint64),
        np.array([numbers[label] for label in labels], np.int32),
        validation,
        test,
    )
    names = [SPLITS[split] for split in splits.tolist()]
    return list(map(Photo, paths, labels, names, identities))


def write(
    index: Index,
    outputs: Outputs,
    shards: int,
    max_skipped: float,
    listed_in: str | Path | None = None,
) -> None:
    """Checks that there are enough photos, and writes the tables.

    Args:
        index: of the photos.
        outputs: where to write.
        shards: into how many parts the photos are divided.
        max_skipped: the fraction of photos that may be unusable before this is an error.
        listed_in: where all files that cannot be used are listed, also when this fails.

    Raises:
        UserError: there are too few photos in a class, none of them in the training split, or too
            many files that cannot be photos.
    """
    unused = sorted([*index.unusable, *index.strays])
    if listed_in is not None:
        manifest.write_skipped(unused, listed_in)
    total = len(index.photos) + len(index.left_out) + len(index.unusable)
    check_skipped(index.unusable, total, max_skipped, listed_in)
    check_counts(index.classes, _counts(index.photos), len(index.unusable), listed_in)
    _warn_of_strays(index.strays)
    _warn_of_contradictions(_in_several_classes(index.photos))
    manifest.write(index.photos, outputs.manifest)
    manifest.write_skipped(unused, outputs.not_photos)
    corrections.write_applied(index.corrected, outputs.corrections)
    tables = [Path(outputs.shards, f"{name}.tsv") for name in manifest.shard_names(shards)]
    for table, shard in zip(tables, index.shards(shards), strict=True):
        manifest.write_shard(shard, table)
    manifest.remove_other_shards(tables)


def _counts(listed: Iterable[Photo]) -> Counter[tuple[str, str]]:
    return Counter((photo.label, photo.split) for photo in listed)


def _in_several_classes(listed: Iterable[Photo]) -> list[list[str]]:
    """Returns the paths of each photo that has copies in another class."""
    copies = defaultdict(list)
    for photo in listed:
        copies[photo.sha256].append(photo)
    return [
        [photo.path for photo in same]
        for same in copies.values()
        if len({photo.label for photo in same}) > 1
    ]


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
    return [Skipped(path, IN_NO_CLASS) for path in files_there if photos.is_photo(path)]


def _warn_of_strays(strays: Sequence[Skipped]) -> None:
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


def _warn_of_contradictions(groups: Sequence[Sequence[str]]) -> None:
    for same in groups:
        log.debug("the same photo in several classes: %s", ", ".join(same))
    for same in groups[:_SHOWN]:
        log.warning("The same photo is in several classes: %s", ", ".join(same))
    if len(groups) > _SHOWN:
        log.warning("and %d more such photos, in the log", len(groups) - _SHOWN)


def summary(index: Index) -> str:
    """Returns a table of photos by class and split, as text, with the totals below it."""
    counts = _counts(index.photos)
    labels = sorted({label for label, _ in counts})
    width = max(len(label) for label in [*labels, "class"])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        numbers = "".join(f"{counts[label, split]:>12}" for split in SPLITS)
        lines.append(f"{label:<{width}}{numbers}")
    return "\n".join([*lines, totals(index)])


def totals(index: Index) -> str:
    """Says how many photos there are, and what became of corrections."""
    labels = {photo.label for photo in index.photos}
    lines = [f"{len(index.photos)} photos in {len(labels)} classes"]
    if index.corrected:
        outcomes = Counter(one.outcome for one in index.corrected)
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        lines.append(f"corrections: {said}")
    return "\n".join(lines)
