"""Find the photos of a folder, their identities, classes and splits; no photo is decoded."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections
from edgetpu_retrain.index.checks import IN_NO_CLASS
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Index
from edgetpu_retrain.index.manifest import SPLITS, Photo, Skipped
from edgetpu_retrain.index.splits import assign_splits
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, walk

_MIN_CLASSES = 2
_DIGITS = 64
# What is remembered of a file that does not even claim to be a photo.
_NO_PHOTO = ""


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
        names = [e.name for e in entries if e.is_dir() and walk.is_visible(e.name)]
    return [folder / name for name in sorted(names)]


def scan(
    root: str | Path | None,
    cache: IdentityCache,
    validation: float,
    test: float,
    descend: bool = False,
    corrected_by: str | Path | None = None,
    unlabelled: Sequence[str | Path] = (),
) -> Index:
    """Lists every photo below the class folders of `root`, with its identity, class and split.

    Args:
        root: a folder with one sub-folder per class; photos may lie in folders inside of these.
            None where all photos are unlabelled.
        cache: what is known of the files. It is brought up to date and saved.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        descend: as `class_folders` takes it.
        corrected_by: a table of corrections to apply (`corrections.read`).
        unlabelled: folders of photos whose classes the corrections tell, if anything does.

    Raises:
        UserError: there are fewer than two classes, or an error in a correction.
    """
    decided = corrections.read(corrected_by) if corrected_by else {}
    corrector = corrections.Corrector(decided, corrected_by or "")
    folders = class_folders(root, descend) if root else []
    unusable: list[Skipped] = []
    paths, labels, identities, left_out = [], [], [], []
    # A folder's photos are listed where its name with a slash would be.
    for folder in sorted(folders, key=lambda folder: f"{folder}/"):
        for path, verdict in _verdicts(folder, cache):
            if len(verdict) != _DIGITS:
                unusable.append(Skipped(path, decode.advice(path, verdict)))
            elif label := corrector.correct(path, folder.name, verdict):
                paths.append(path)
                labels.append(label)
                identities.append(verdict)
            else:
                left_out.append(verdict)
    in_folders = {*identities, *left_out} if unlabelled else set()
    without_class: list[tuple[str, str]] = []
    unreadable: list[Skipped] = []
    for path, verdict in itertools.chain(*(_verdicts(Path(one), cache) for one in unlabelled)):
        if len(verdict) != _DIGITS:
            unreadable.append(Skipped(path, decode.advice(path, verdict)))
        elif verdict not in in_folders:
            without_class.append((path, verdict))
            if label := corrector.correct(path, "", verdict):
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
        _strays(folders[0].parent) if folders else [],
        corrected,
        _with_splits(
            [path for path, _ in without_class],
            [""] * len(without_class),
            [sha256 for _, sha256 in without_class],
            validation,
            test,
        ),
        unreadable,
    )


def _verdicts(folder: Path, cache: IdentityCache) -> Iterator[tuple[str, str]]:
    """Yields the path of each file that claims to be a photo, and its SHA-256 or why it is none."""
    reading = tqdm(desc=f"Reading new photos of {folder.name}", unit="photo", delay=1, disable=None)
    with reading:
        for path, status in walk.files_below(folder):
            verdict = cache.look_up(path, status)
            if verdict is None:
                reading.update()
                verdict = _read(path, status, cache)
            if verdict != _NO_PHOTO:
                yield path, verdict


def _read(path: str, status: os.stat_result, cache: IdentityCache) -> str:
    verdict = _NO_PHOTO
    if walk.may_be_photo(path, status):
        verdict = decode.reason_against(path, status)
        if not verdict:
            try:
                verdict = files.sha256(path)
            except OSError as error:
                verdict = decode.cannot_be_opened(error)
    # Permissions of a folder change without a trace in the file.
    if os.access(path, os.R_OK) and not verdict.startswith(decode.CANNOT_BE_OPENED):
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


def _strays(folder: Path) -> list[Skipped]:
    with os.scandir(folder) as entries:
        files_there = sorted(entry.path for entry in entries if entry.is_file())
    return [Skipped(path, IN_NO_CLASS) for path in files_there if walk.is_photo(path)]
