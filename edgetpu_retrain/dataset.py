"""Index a folder of photos: which can be read, their classes, splits and shards."""

import contextlib
import csv
import hashlib
import io
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from edgetpu_retrain import files, photos
from edgetpu_retrain.errors import UserError

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
_MIN_CLASSES = 2
_MIN_PHOTOS_PER_CLASS = 3
_SHOWN = 5


@dataclass(frozen=True, order=True)
class Photo:
    """One line of a shard manifest.

    Attributes:
        path: where the file is.
        label: the name of its class.
        split: train, validation or test.
        sha256: its identity, the SHA-256 of its bytes in hexadecimal.
    """

    path: str
    label: str
    split: str
    sha256: str


@dataclass(frozen=True, order=True)
class Skipped:
    """One line of skipped.tsv: a photo that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Index:
    """What a folder of photos holds, sorted by path."""

    photos: list[Photo]
    skipped: list[Skipped]


def class_folders(root: str | Path, descend: bool) -> list[Path]:
    """Returns the folders, one a class, that photos are sorted into, by name.

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


def listing_digest(root: str | Path) -> str:
    """Returns a digest of the names, sizes and times of all visible files below `root`.

    It changes when a photo is added, removed or replaced, and reads no photo.
    """
    digest = hashlib.sha256()
    for path in photos.files_below(Path(root)):
        with contextlib.suppress(OSError):
            status = path.stat()
            digest.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    return digest.hexdigest()


def split_of(sha256: str, validation: float, test: float) -> str:
    """Returns the split of a photo: a function of its identity and the two fractions alone.

    The first 64 bits of the identity, read as a number in [0, 1), fall below `test`, below
    `test` + `validation`, or above both.

    >>> split_of("00" * 32, validation=0.1, test=0.1)
    'test'
    >>> split_of("ff" * 32, validation=0.1, test=0.1)
    'train'
    """
    position = int(sha256[:16], 16) / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def shard_of(sha256: str, shards: int) -> int:
    """Returns the shard of a photo, in [0, shards), from bits that its split does not use."""
    return int(sha256[16:32], 16) % shards


def index(
    root: str | Path,
    validation: float,
    test: float,
    max_skipped: float,
    known: Iterable[str] = (),
    threads: int = 1,
    descend: bool = False,
) -> Index:
    """Reads every photo below the class folders of `root` once.

    Args:
        root: a folder with one sub-folder a class; photos may lie in folders inside of these.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        max_skipped: the fraction of photos that may be unreadable before this is an error.
        known: identities of photos that were found readable before; they are not decoded again.
        threads: how many threads decode photos; Pillow lets them run side by side.
        descend: as `class_folders` takes it.

    Returns:
        Every readable photo, and every photo that was left out with its reason.

    Raises:
        UserError: there are too few classes, too few photos in a class, none of them in the
            training split, or too many photos that cannot be read.
    """
    folders = class_folders(root, descend)
    _warn_of_strays(folders[0].parent)
    paths = [(path, folder.name) for folder in folders for path in photos.find_photos(folder)]
    kept, left_out = [], []
    for (path, label), (sha256, reason) in zip(
        paths, _examine([path for path, _ in paths], set(known), threads), strict=True
    ):
        if reason:
            left_out.append(Skipped(str(path), photos.advice(path, reason)))
        else:
            kept.append(Photo(str(path), label, split_of(sha256, validation, test), sha256))
    _check_skipped(left_out, len(paths), max_skipped)
    _check_classes([folder.name for folder in folders], kept, left_out)
    _warn_of_contradictions(kept)
    return Index(sorted(kept), sorted(left_out))


def _examine(paths: Sequence[Path], readable: set[str], threads: int) -> Iterator[tuple[str, str]]:
    """Yields for each path its SHA-256 and why it cannot be used ("" where it can)."""
    with tqdm(total=len(paths), desc="Reading photos", unit="photo") as progress:
        found = []
        for path in paths:
            try:
                found.append((files.sha256(path), ""))
            except OSError as error:
                found.append(("", f"cannot be opened: {error.strerror}"))
        unknown = {
            sha256: path
            for path, (sha256, reason) in zip(paths, found, strict=True)
            if not reason and sha256 not in readable
        }
        progress.update(len(paths) - len(unknown))
        verdicts = {}
        with ThreadPoolExecutor(threads) as executor:
            reasons = executor.map(_reason, unknown.values())
            for sha256, reason in zip(unknown, reasons, strict=True):
                verdicts[sha256] = reason
                progress.update()
    for sha256, reason in found:
        yield sha256, reason or verdicts.get(sha256, "")


def _reason(path: Path) -> str:
    """Says why a photo cannot be used, or "" where it can."""
    try:
        photos.read_photo(path.read_bytes())
    except photos.PhotoError as error:
        return str(error)
    return ""


def _check_skipped(skipped: Sequence[Skipped], total: int, max_skipped: float) -> None:
    if len(skipped) > max_skipped * total:
        first = "\n".join(f"  {photo.path}: {photo.reason}" for photo in skipped[:_SHOWN])
        for photo in skipped:
            log.debug("%s: %s", photo.path, photo.reason)
        more = f"\n  and {len(skipped) - _SHOWN} more, in the log" if len(skipped) > _SHOWN else ""
        raise UserError(
            f"{len(skipped)} of {total} photos cannot be used, more than the "
            f"{max_skipped:.0%} that max_skipped allows:\n{first}{more}\n"
            "Repair or remove them, or raise max_skipped in config.yaml."
        )


def _check_classes(names: Sequence[str], kept: Sequence[Photo], skipped: Sequence[Skipped]) -> None:
    counts = Counter(photo.label for photo in kept)
    small = [name for name in names if counts[name] < _MIN_PHOTOS_PER_CLASS]
    if small:
        what = ", ".join(f"{name!r} has {counts[name]}" for name in small)
        hint = f" ({len(skipped)} photos could not be read)" if skipped else ""
        raise UserError(
            f"Every class needs at least {_MIN_PHOTOS_PER_CLASS} photos that can be read; "
            f"{what}{hint}. Add photos, or remove the folder."
        )
    trained = {photo.label for photo in kept if photo.split == "train"}
    untrained = [name for name in names if name not in trained]
    if untrained:
        raise UserError(
            f"No photo of {', '.join(map(repr, untrained))} falls into the training split. Add "
            "photos, or lower split.validation and split.test in config.yaml."
        )


def _warn_of_strays(folder: Path) -> None:
    strays = [e.name for e in os.scandir(folder) if e.is_file() and photos.is_photo(Path(e))]
    if strays:
        log.warning("%d photos lie in no class folder and are not used: %s", len(strays), strays[0])


def _warn_of_contradictions(kept: Sequence[Photo]) -> None:
    copies = defaultdict(list)
    for photo in kept:
        copies[photo.sha256].append(photo)
    for same in copies.values():
        if len({photo.label for photo in same}) > 1:
            paths = ", ".join(photo.path for photo in same)
            log.warning("The same photo is in several classes: %s", paths)


def open_photo(photo: Photo) -> Image.Image:
    """Reads a photo that a manifest lists, as `photos.read_photo` does.

    Raises:
        UserError: it is not what it was when the manifest was written.
    """
    try:
        content = Path(photo.path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{photo.path} was there a moment ago: {error.strerror}. Run again."
        ) from None
    if hashlib.sha256(content).hexdigest() != photo.sha256:
        raise UserError(f"{photo.path} has changed since the photos were indexed. Run again.")
    try:
        return photos.read_photo(content)
    except photos.PhotoError as error:
        raise UserError(f"{photo.path} cannot be read any more: {error}") from error


def write_shards(found: Index, paths: Sequence[str | Path]) -> None:
    """Writes one manifest a shard to `paths`; a file whose content stays is not touched."""
    shards: list[list[Photo]] = [[] for _ in paths]
    for photo in found.photos:
        shards[shard_of(photo.sha256, len(paths))].append(photo)
    for path, shard in zip(paths, shards, strict=True):
        files.write_if_changed(path, _tsv(Photo, shard))


def read_shard(path: str | Path) -> list[Photo]:
    """Reads a shard manifest."""
    return [Photo(**row) for row in _rows(path)]


def write_skipped(skipped: Iterable[Skipped], path: str | Path) -> None:
    """Writes the list of photos that were left out."""
    files.write_if_changed(path, _tsv(Skipped, skipped))


def read_known(shards: Iterable[str | Path]) -> set[str]:
    """Returns the identities in the manifests of an earlier run, as far as they are there."""
    return {photo.sha256 for path in shards if Path(path).is_file() for photo in read_shard(path)}


def _tsv(row_type: type, rows: Iterable[Photo | Skipped]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    writer.writerow([field.name for field in fields(row_type)])
    writer.writerows(astuple(row) for row in rows)
    # File names need not be valid UTF-8.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _rows(path: str | Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield from csv.DictReader(file, dialect="excel-tab")


def summary(found: Index) -> str:
    """Returns a table of photos by class and split, as text, with the number left out."""
    counts = Counter((photo.label, photo.split) for photo in found.photos)
    labels = sorted({photo.label for photo in found.photos})
    width = max(len(label) for label in [*labels, "class"])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        lines.append(f"{label:<{width}}" + "".join(f"{counts[label, s]:>12}" for s in SPLITS))
    lines.append(
        f"{len(found.photos)} photos in {len(labels)} classes, {len(found.skipped)} skipped"
    )
    return "\n".join(lines)
