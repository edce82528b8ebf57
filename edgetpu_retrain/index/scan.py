"""Find the photos in a folder, with identity, class and split; no photo is decoded."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections, layout, photo_table
from edgetpu_retrain.index.checks import IN_NO_CLASS
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Index
from edgetpu_retrain.index.manifest import SPLITS, Photo, Skipped
from edgetpu_retrain.index.splits import assign_splits
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, walk

_SHA256_DIGITS = 64
# The cached verdict on a file that is not a photo, neither by its content nor by its extension.
_NOT_A_PHOTO = ""


def scan(
    root: str | Path | None,
    cache: IdentityCache,
    validation: float,
    test: float,
    folders: bool = True,
    descend: bool = False,
    corrections_path: str | Path | None = None,
    unlabelled: Sequence[str | Path] = (),
) -> Index:
    """Lists every photo of a dataset, with identity, class and split.

    Args:
        root: a folder with one subfolder per class, where photos may be in nested folders, or a
            table of photos (`photo_table.read`). None if all photos are unlabelled.
        cache: the identity cache, which is updated and saved.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).
        folders: whether folders such as train, valid and test, or a table's column, say which
            split a photo is in. A photo without a split is in one by its content.
        descend: as for `layout.find`.
        corrections_path: path of the corrections to apply (`corrections.read`), if any.
        unlabelled: folders of photos that only corrections can give a class.

    Raises:
        UserError: the class folders or the table are not as required, or the corrections are
            invalid.
    """
    decisions = corrections.read(corrections_path) if corrections_path else {}
    corrector = corrections.Corrector(decisions, corrections_path or "")
    if root is None:
        source: _Folders | _Table = _Folders(layout.Layout([], []))
    elif photo_table.is_table(root) and Path(root).is_file():
        source = _Table(root, folders)
    else:
        source = _Folders(layout.find(root, descend, folders))
    unusable: list[Skipped] = []
    paths, labels, identities, given, left_out = [], [], [], [], []
    for path, folder, split, verdict in source.photos(cache):
        if len(verdict) != _SHA256_DIGITS:
            unusable.append(Skipped(path, decode.with_advice(path, verdict)))
        elif label := corrector.correct(path, folder, verdict):
            paths.append(path)
            labels.append(label)
            identities.append(verdict)
            given.append(split)
        else:
            left_out.append(verdict)
    in_dataset = {*identities, *left_out} if unlabelled else set()
    without_class: list[tuple[str, str]] = []
    unreadable: list[Skipped] = []
    for path, verdict in itertools.chain(*(_verdicts(Path(one), cache) for one in unlabelled)):
        if len(verdict) != _SHA256_DIGITS:
            unreadable.append(Skipped(path, decode.with_advice(path, verdict)))
        elif verdict not in in_dataset:
            without_class.append((path, verdict))
            if label := corrector.correct(path, "", verdict):
                paths.append(path)
                labels.append(label)
                identities.append(verdict)
                given.append("")
    cache.save()
    applied = corrector.applied()
    if unlabelled:
        # Folders and tables are checked when they are read.
        layout.check_names((name, f"{corrections_path}: {name}") for name in sorted(set(labels)))
    return Index(
        source.classes,
        _with_splits(paths, labels, identities, given, validation, test),
        [(a.sha256, a.path) for a in applied if a.outcome == corrections.LEFT_OUT],
        unusable,
        source.strays(),
        applied,
        source.notes,
        _with_splits(
            [path for path, _ in without_class],
            [""] * len(without_class),
            [sha256 for _, sha256 in without_class],
            [""] * len(without_class),
            validation,
            test,
        ),
        unreadable,
    )


class _Folders:
    """The photos in class folders.

    Attributes:
        classes: names of the classes, sorted.
        notes: what the user should know about the layout of the folders.
    """

    def __init__(self, found: layout.Layout) -> None:
        self._layout = found
        self.classes = sorted({folder.label for folder in found.folders})
        self.notes = [found.warning] if found.warning else []
        if found.splits:
            self.notes.append(
                f"The folders {', '.join(found.splits)} are used as splits, and the folders in "
                "them as classes (split: {folders: false} uses them as classes)."
            )

    def photos(self, cache: IdentityCache) -> Iterator[tuple[str, str, str, str]]:
        """Yields path, class, split and verdict (see `IdentityCache`) of every photo."""
        # With the slash, so that the photos as a whole are sorted by path.
        for folder in sorted(self._layout.folders, key=lambda folder: f"{folder.path}/"):
            for path, verdict in _verdicts(folder.path, cache):
                yield path, folder.label, folder.split, verdict

    def strays(self) -> list[Skipped]:
        """Returns the photos that are not in a class folder."""
        return [stray for folder in self._layout.outside for stray in _strays(folder)]


class _Table:
    """The photos in a table; the attributes are those of `_Folders`."""

    def __init__(self, path: str | Path, use_splits: bool) -> None:
        self._rows = photo_table.read(path, use_splits)
        self.classes = sorted({row.label for row in self._rows})
        self.notes: list[str] = []
        if splits := sorted({row.split for row in self._rows} - {""}):
            self.notes.append(
                f"The splits are those in {path}: {', '.join(splits)} (split: {{folders: false}} "
                "splits by the photos' content)."
            )
        layout.check_names((name, f"{path}: {name}") for name in self.classes)
        if len(self.classes) < layout.MIN_CLASSES:
            raise UserError(
                f"{path} has {len(self.classes)} classes; a dataset needs at least two."
            )

    def photos(self, cache: IdentityCache) -> Iterator[tuple[str, str, str, str]]:
        for row in self._rows:
            try:
                verdict = row.problem or _verdict(row.path, os.stat(row.path), cache)
            except OSError as error:
                verdict = decode.cannot_be_opened(error)
            yield row.path, row.label, row.split, verdict or decode.NOT_SUPPORTED

    def strays(self) -> list[Skipped]:
        return []


def _verdicts(folder: Path, cache: IdentityCache) -> Iterator[tuple[str, str]]:
    """Yields the path of every photo, with its SHA-256 or the reason why it cannot be used."""
    progress = tqdm(
        desc=f"Reading new photos of {folder.name}", unit="photo", delay=1, disable=None
    )
    problems: list[tuple[str, str]] = []

    def note(path: str, error: OSError) -> None:
        problems.append((path, decode.cannot_be_opened(error)))

    with progress:
        for path, status in walk.files_below(folder, note):
            verdict = _verdict(path, status, cache, progress)
            if verdict != _NOT_A_PHOTO:
                yield path, verdict
    yield from problems


def _verdict(
    path: str, status: os.stat_result, cache: IdentityCache, progress: "tqdm[Any] | None" = None
) -> str:
    """Returns the SHA-256 of a photo, the reason why it cannot be used, or `_NOT_A_PHOTO`."""
    known = cache.look_up(path, status)
    if known is not None:
        return known
    if progress is not None:
        progress.update()
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
    given: Sequence[str],
    validation: float,
    test: float,
) -> list[Photo]:
    """Returns the photos, in the split that is given or, with "", in one by their content.

    Only photos for training, or without a split, are divided; and only into the splits that are
    not given. Copies of a photo are in one split: that of the copy which is held out.
    """
    held_out = {
        sha256: split
        for wanted in SPLITS[1:]
        for sha256, split in zip(identities, given, strict=True)
        if split == wanted
    }
    is_given = set(held_out.values())
    classes = sorted(set(labels))
    numbers = {label: i for i, label in enumerate(classes)}
    splits = assign_splits(
        np.array([int(sha256[:16], 16) for sha256 in identities], np.uint64),
        np.array([numbers[label] for label in labels], np.int32),
        0 if "validation" in is_given else validation,
        0 if "test" in is_given else test,
    )
    drawn = (SPLITS[split] for split in splits.tolist())
    names = map(held_out.get, identities, drawn) if held_out else drawn
    return list(map(Photo, paths, labels, names, identities))


def _strays(folder: Path) -> list[Skipped]:
    return [Skipped(path, IN_NO_CLASS) for path in walk.files_in(folder) if walk.is_photo(path)]
