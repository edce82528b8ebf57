"""Find the photos in a folder, with identity, class and split; no photo is decoded."""

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
_SHA256_DIGITS = 64
# The cached verdict on a file that is not a photo, neither by its content nor by its extension.
_NOT_A_PHOTO = ""


def class_folders(root: str | Path, descend: bool) -> list[Path]:
    """Returns the class folders in `root`, sorted by name.

    Args:
        root: the folder of the dataset.
        descend: whether to descend while a folder contains only one folder that itself contains
            folders, as in most archives.

    Raises:
        UserError: there are fewer than two class folders, or a name contains non-printable
            characters.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"The folder {root} does not exist.")
    folders = _visible_folders(root)
    while descend and len(folders) == 1 and (subfolders := _visible_folders(folders[0])):
        folders = subfolders
    if len(folders) < _MIN_CLASSES:
        content = f"only the folder {folders[0].name!r}" if folders else "no folders"
        hint = ""
        if folders and _visible_folders(folders[0]):
            hint = f" If the class folders are in there, use that folder: {folders[0]}."
        raise UserError(
            f"{root} contains {content}. A dataset needs at least two subfolders, one per class, "
            f"named after the class.{hint}"
        )
    for folder in folders:
        if not folder.name.isprintable():
            # The label map cannot represent such names.
            raise UserError(
                f"The folder {folder.name!r} in {root} has non-printable characters in its name. "
                "Rename it."
            )
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
    corrections_path: str | Path | None = None,
    unlabelled: Sequence[str | Path] = (),
) -> Index:
    """Lists every photo in the class folders of `root`, with identity, class and split.

    Args:
        root: a folder with one subfolder per class. Photos may be in nested folders. None if all
            photos are unlabelled.
        cache: the identity cache, which is updated and saved.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        descend: as for `class_folders`.
        corrections_path: path of the corrections to apply (`corrections.read`), if any.
        unlabelled: folders of photos that only corrections can give a class.

    Raises:
        UserError: the class folders are not as required (`class_folders`), or the corrections are
            invalid.
    """
    decisions = corrections.read(corrections_path) if corrections_path else {}
    corrector = corrections.Corrector(decisions, corrections_path or "")
    folders = class_folders(root, descend) if root else []
    unusable: list[Skipped] = []
    paths, labels, identities, left_out = [], [], [], []
    # With the slash, so that the photos as a whole are sorted by path.
    for folder in sorted(folders, key=lambda folder: f"{folder}/"):
        for path, verdict in _verdicts(folder, cache):
            if len(verdict) != _SHA256_DIGITS:
                unusable.append(Skipped(path, decode.with_advice(path, verdict)))
            elif label := corrector.correct(path, folder.name, verdict):
                paths.append(path)
                labels.append(label)
                identities.append(verdict)
            else:
                left_out.append(verdict)
    in_folders = {*identities, *left_out} if unlabelled else set()
    without_class: list[tuple[str, str]] = []
    unreadable: list[Skipped] = []
    for path, verdict in itertools.chain(
        *(_verdicts(Path(folder), cache) for folder in unlabelled)
    ):
        if len(verdict) != _SHA256_DIGITS:
            unreadable.append(Skipped(path, decode.with_advice(path, verdict)))
        elif verdict not in in_folders:
            without_class.append((path, verdict))
            if label := corrector.correct(path, "", verdict):
                paths.append(path)
                labels.append(label)
                identities.append(verdict)
    cache.save()
    applied = corrector.applied()
    return Index(
        [folder.name for folder in folders],
        _with_splits(paths, labels, identities, validation, test),
        [(a.sha256, a.path) for a in applied if a.outcome == corrections.LEFT_OUT],
        unusable,
        _strays(folders[0].parent) if folders else [],
        applied,
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
    """Yields the path of every photo, with its SHA-256 or the reason why it cannot be used."""
    progress = tqdm(
        desc=f"Reading new photos of {folder.name}", unit="photo", delay=1, disable=None
    )
    with progress:
        for path, status in walk.files_below(folder):
            verdict = cache.look_up(path, status)
            if verdict is None:
                progress.update()
                verdict = _read(path, status, cache)
            if verdict != _NOT_A_PHOTO:
                yield path, verdict


def _read(path: str, status: os.stat_result, cache: IdentityCache) -> str:
    verdict = _NOT_A_PHOTO
    if walk.may_be_photo(path, status):
        verdict = decode.rejection_reason(path, status)
        if not verdict:
            try:
                verdict = files.sha256(path)
            except OSError as error:
                verdict = decode.cannot_be_opened(error)
    # Unreadable files are not cached: a change of the folder's permissions leaves no trace in them.
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
        paths = sorted(entry.path for entry in entries if entry.is_file())
    return [Skipped(path, IN_NO_CLASS) for path in paths if walk.is_photo(path)]
