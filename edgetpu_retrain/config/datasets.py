"""Resolve the configured dataset: a catalogue name, a folder, a table, an archive or a URL."""

import itertools
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from edgetpu_retrain.config.messages import check_braces, did_you_mean
from edgetpu_retrain.config.settings import FRIGATE_NAME
from edgetpu_retrain.errors import UserError

# File systems allow names of 255 bytes, and others are made of this one.
_MAX_NAME = 60
# Of tables of paths and classes.
TABLE_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class Dataset:
    """Where photos come from: at most one of `folder`, `archive` and `urls` is set.

    A dataset without any of them has no labelled photos of its own.

    Attributes:
        name: the name of its folder in results/.
        folder: path of a folder of photos, or of a table of them (.csv), which are read in place.
        archive: path of an archive on disk.
        urls: URLs of the same archive.
        sha256: SHA-256 of the archive in hexadecimal, if known.
        photos: number of photos in the archive, if known.
        frigate: name of the classification in Frigate whose folder this is, if it is one.
    """

    name: str
    folder: str | None = None
    archive: str | None = None
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    photos: int | None = None
    frigate: str | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the photos come from an archive."""
        return bool(self.archive or self.urls)


def find_test_folder(key: str, folder: str | None) -> str | None:
    """Returns the path of a folder of photos to test with, with a leading ``~`` expanded.

    Args:
        key: the config key.
        folder: its value; None if it is not set.

    Raises:
        UserError: there is no such folder.
    """
    if folder is None:
        return None
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"config: {key}: the folder {path} does not exist.")
    return str(path)


def find_unlabelled(value: str | Sequence[str]) -> tuple[Dataset, ...]:
    """Resolves the config key `unlabelled`: folders and archives of photos without classes.

    Args:
        value: the value of the key: a path, or several. A leading ``~`` is expanded.

    Raises:
        UserError: there is no such folder or archive.
    """
    paths = [value] if isinstance(value, str) else value
    return tuple(_find_unlabelled(Path(path).expanduser()) for path in paths)


def _find_unlabelled(path: Path) -> Dataset:
    if path.is_dir():
        folder = path.resolve()
        # Frigate stores unsorted photos in clips/NAME/train.
        name = folder.parent.name if folder.name == "train" else folder.name
        is_frigate = name != folder.name and re.match(FRIGATE_NAME, name)
        return Dataset(_slug(name), folder=str(path), frigate=name if is_frigate else None)
    if path.is_file():
        check_braces("unlabelled", str(path))
        return Dataset(_stem(path.name), archive=str(path))
    raise UserError(f"config: unlabelled: there is no folder or archive {path}.")


def name_unlabelled(unlabelled: Dataset, reserved: Container[str] = ()) -> Dataset:
    """Returns a dataset without labelled photos, named after unlabelled ones.

    Raises:
        UserError: the name is reserved.
    """
    if unlabelled.name in reserved:
        raise UserError(
            f"config: unlabelled is {unlabelled.folder or unlabelled.archive!r}, but results/"
            f"{unlabelled.name} is reserved. Rename the folder or archive."
        )
    return Dataset(unlabelled.name, frigate=unlabelled.frigate)


def check_unlabelled(unlabelled: Sequence[Dataset], dataset: Dataset) -> None:
    """Checks that no photos are named twice, and no two archives are unpacked to one folder.

    Raises:
        UserError: a folder is inside another, or two archives have the same name.
    """
    folders = [Path(one.folder) for one in (*unlabelled, dataset) if one.folder]
    for folder, other in itertools.permutations(filter(Path.is_dir, folders), 2):
        if folder.resolve().is_relative_to(other.resolve()):
            raise UserError(
                f"config: unlabelled: {folder} is inside {other}. Move one of the folders, or "
                "remove it from the configuration."
            )
    names = Counter(one.name for one in (dataset, *unlabelled) if one.is_packed)
    for name, count in names.items():
        if count > 1:
            raise UserError(
                f"config: unlabelled: {count} archives have the name {name!r}. Rename all but one."
            )


def find_dataset(
    value: str,
    catalogue: Mapping[str, Mapping[str, Any]],
    sha256: str | None = None,
    reserved: Container[str] = (),
) -> Dataset:
    """Resolves the config key `dataset`: a catalogue name, a folder, a table, an archive or a URL.

    Args:
        value: the value of the key.
        catalogue: the entries of workflow/datasets.yaml by name.
        sha256: the value of the key `dataset_sha256`.
        reserved: names that a dataset must not have.

    Raises:
        UserError: the value is none of these, its name is reserved, or `sha256` is given for a
            folder or a dataset of the catalogue.
    """
    dataset = _find_dataset(value, catalogue)
    if dataset.name in reserved:
        raise UserError(
            f"config: dataset is {value!r}, but results/{dataset.name} is reserved. Rename the "
            "folder or archive."
        )
    if sha256 is None:
        return dataset
    if not (dataset.archive or dataset.urls) or value in catalogue:
        raise UserError(
            "config: dataset_sha256 is only for an archive of your own, but the dataset "
            f"{value!r} is " + ("in the catalogue." if value in catalogue else "not an archive.")
        )
    return Dataset(dataset.name, archive=dataset.archive, urls=dataset.urls, sha256=sha256)


def _find_dataset(value: str, catalogue: Mapping[str, Mapping[str, Any]]) -> Dataset:
    if value in catalogue:
        entry = catalogue[value]
        return Dataset(
            value,
            archive=entry.get("archive"),
            urls=tuple(entry.get("urls", ())),
            sha256=entry.get("sha256"),
            photos=entry.get("photos"),
        )
    if re.match(r"https?://", value):
        return Dataset(_stem(unquote(PurePosixPath(urlsplit(value).path).name)), urls=(value,))
    path = Path(value).expanduser()
    if path.is_dir():
        folder = path.resolve()
        # Frigate stores photos in clips/NAME/dataset.
        name = folder.parent.name if folder.name == "dataset" else folder.name
        is_frigate = name != folder.name and re.match(FRIGATE_NAME, name)
        return Dataset(_slug(name), folder=str(path), frigate=name if is_frigate else None)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return Dataset(_slug(path.stem), folder=str(path))
    if path.is_file():
        check_braces("dataset", str(path))
        return Dataset(_stem(path.name), archive=str(path))
    names = sorted(catalogue)
    raise UserError(
        f"config: dataset is {value!r}, which is not a folder, archive or table on disk, not "
        f"an http(s) URL, and not in workflow/datasets.yaml.{did_you_mean(value, names)} "
        f"Names in that file: {', '.join(names)}."
    )


def find_corrections(value: str | None, may_be_new: bool = False) -> str | None:
    """Returns the path in the config key `corrections`, with ``~`` expanded; None without a file.

    Args:
        value: the value of the key; None if it is not set.
        may_be_new: whether the file may be missing, because the labelling page creates it.

    Args:
        wanted: what the key says.
        may_be_new: the file need not be there, because the labelling page makes it.

    Raises:
        UserError: there is no such file.
    """
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_file():
        if may_be_new and not path.exists():
            return None
        raise UserError(
            f"config: corrections is {value!r}, but there is no such file. Save the file with the "
            "button in report.html, or remove the key."
        )
    return str(path)


def _stem(name: str) -> str:
    return _slug(re.sub(r"\.(tgz|tbz2|txz|zip|tar(\.\w+)?)\Z", "", name, flags=re.IGNORECASE))


def _slug(name: str) -> str:
    """Returns a safe folder name: letters of any script, digits, ``_``, ``.`` and ``-``."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")[:_MAX_NAME] or "photos"
