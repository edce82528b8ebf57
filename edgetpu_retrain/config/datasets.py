"""Find the photos that the configuration names: a name, a folder, an archive or an address."""

import itertools
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from edgetpu_retrain.config.messages import check_braces, did_you_mean
from edgetpu_retrain.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """Where the photos with a class come from; without a source, only labels give classes.

    Attributes:
        name: names its folder below results/.
        folder: a folder of photos, used in place.
        archive: an archive on disk.
        urls: addresses of one archive.
        sha256: the archive's checksum, if known.
        photos: how many photos there are in the archive, if known.
    """

    name: str
    folder: str | None = None
    archive: str | None = None
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    photos: int | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the photos come from an archive."""
        return bool(self.archive or self.urls)


def find_test_dataset(folder: str) -> str:
    """Returns the path of a folder of photos; it may begin with ``~``.

    Raises:
        UserError: there is no such folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"config: test_dataset: there is no folder {path}.")
    return str(path)


def find_unlabelled(wanted: str | Sequence[str], dataset: str | None = None) -> tuple[str, ...]:
    """Returns the folders that the key `unlabelled` names; their paths may begin with ``~``.

    Args:
        wanted: a path, or several.
        dataset: the folder of the dataset, if it is one.

    Raises:
        UserError: there is no such folder, or one is inside another.
    """
    paths = [wanted] if isinstance(wanted, str) else wanted
    folders = [Path(path).expanduser() for path in paths]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"config: unlabelled: there is no folder {folder}.")
    known = [*folders, *([Path(dataset)] if dataset else [])]
    for folder, other in itertools.permutations(known, 2):
        if folder.resolve().is_relative_to(other.resolve()):
            raise UserError(
                f"config: unlabelled: {folder} is inside {other}. Every photo must be in one of "
                "the folders only; move one of them, or leave it out."
            )
    return tuple(map(str, folders))


def name_unlabelled(folder: str, reserved: Container[str] = ()) -> Dataset:
    """Returns a dataset without photos of its own, named after a folder of unlabelled ones.

    Raises:
        UserError: the name is reserved.
    """
    path = Path(folder).resolve()
    # Frigate's unsorted photos are in clips/NAME/train.
    name = _slug(path.parent.name if path.name == "train" else path.name)
    if name in reserved:
        raise UserError(
            f"config: unlabelled is {folder!r}, but results/{name} is for something else: rename "
            "the folder."
        )
    return Dataset(name)


def find_dataset(
    wanted: str,
    catalogue: Mapping[str, Mapping[str, Any]],
    sha256: str | None = None,
    reserved: Container[str] = (),
) -> Dataset:
    """Resolves the key `dataset`: a name, a folder, an archive, or an address of one.

    Args:
        wanted: what the key says.
        catalogue: the data sets that have a name.
        sha256: the checksum of an archive of the user's own.
        reserved: names that no data set can have.

    Raises:
        UserError: it is none of these, or a checksum is given for what has none.
    """
    found = _find_dataset(wanted, catalogue)
    if found.name in reserved:
        raise UserError(
            f"config: dataset is {wanted!r}, but results/{found.name} is for something else: "
            "rename it."
        )
    if sha256 is None:
        return found
    if not (found.archive or found.urls) or wanted in catalogue:
        raise UserError(
            f"config: dataset_sha256 is for an archive of your own; the dataset {wanted!r} is "
            + ("in the catalogue." if wanted in catalogue else "a folder.")
        )
    return Dataset(found.name, archive=found.archive, urls=found.urls, sha256=sha256)


def _find_dataset(wanted: str, catalogue: Mapping[str, Mapping[str, Any]]) -> Dataset:
    if wanted in catalogue:
        entry = catalogue[wanted]
        return Dataset(
            wanted,
            archive=entry.get("archive"),
            urls=tuple(entry.get("urls", ())),
            sha256=entry.get("sha256"),
            photos=entry.get("photos"),
        )
    if re.match(r"https?://", wanted):
        return Dataset(_stem(unquote(PurePosixPath(urlsplit(wanted).path).name)), urls=(wanted,))
    path = Path(wanted).expanduser()
    if path.is_dir():
        folder = path.resolve()
        # Frigate's photos lie in clips/NAME/dataset.
        name = folder.parent.name if folder.name == "dataset" else folder.name
        return Dataset(_slug(name), folder=str(path))
    if path.is_file():
        check_braces("dataset", str(path))
        return Dataset(_stem(path.name), archive=str(path))
    names = sorted(catalogue)
    raise UserError(
        f"config: dataset is {wanted!r}, which is not a folder or archive on disk, not an "
        f"http(s) address, and not in workflow/datasets.yaml.{did_you_mean(wanted, names)} "
        f"The names there are: {', '.join(names)}."
    )


def find_corrections(wanted: str | None, may_be_new: bool = False) -> str | None:
    """Returns the path that the key `corrections` names, or None where there is none.

    Args:
        wanted: what the key says.
        may_be_new: the file need not be there, because the labelling page makes it.

    Raises:
        UserError: there is no such file.
    """
    if not wanted:
        return None
    path = Path(wanted).expanduser()
    if not path.is_file():
        if may_be_new and not path.exists():
            return None
        raise UserError(
            f"config: corrections is {wanted!r}, but there is no such file. Save it with the "
            "button on the report's page, or remove the key."
        )
    return str(path)


def _stem(name: str) -> str:
    return _slug(re.sub(r"\.(tgz|tbz2|txz|zip|tar(\.\w+)?)$", "", name, flags=re.IGNORECASE))


def _slug(name: str) -> str:
    """Makes a name that is safe as a folder's: letters of any script, digits, dot, dash."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "photos"
