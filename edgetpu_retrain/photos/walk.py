"""Find the photos below a folder."""

import contextlib
import functools
import logging
import mimetypes
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from edgetpu_retrain.photos.decode import FORMATS, HEIF_SUFFIXES, RAW_SUFFIXES, reason_against

log = logging.getLogger(__name__)

_NOT_PHOTOS = {"thumbs.db", "desktop.ini"}


def find_photos(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the files below `folder` that are photos or claim to be, as `files_below` does.

    What file managers leave behind and files that neither look like a photo nor are named like
    one (notes, spreadsheets) are passed over.
    """
    for path, status in files_below(folder):
        if may_be_photo(path, status):
            yield path, status


def is_photo(path: str | Path) -> bool:
    """Whether a file is a photo or claims to be one."""
    return is_visible(os.path.basename(path)) and may_be_photo(str(path), os.stat(path))


def may_be_photo(path: str, status: os.stat_result) -> bool:
    """Whether a visible file is a photo or claims to be one by its name."""
    name = os.path.basename(path).lower()
    if name in _NOT_PHOTOS:
        return False
    if _is_image_suffix(os.path.splitext(name)[1]):
        return True
    return not reason_against(path, status) and _opens(path)


def files_below(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the path and status of visible files below `folder`, sorted by path, behind links too.

    Each folder is visited once, however many links lead to it; links that lead nowhere are passed
    over. In memory are the names in one folder on each level.
    """
    parent = os.fspath(folder)
    visited = {os.path.realpath(parent)}
    levels = [(parent, _visible_names(parent))]
    while levels:
        parent, names = levels[-1]
        if not names:
            levels.pop()
            continue
        name = names.pop()
        path = os.path.join(parent, name)
        if not name.endswith("/"):
            with contextlib.suppress(OSError):
                yield path, os.stat(path)
            continue
        path = path[:-1]
        real = os.path.realpath(path)
        if real in visited:
            log.warning("%s is a link to a folder that was read already; left out", path)
            continue
        visited.add(real)
        levels.append((path, _visible_names(path)))


def _visible_names(folder: str) -> list[str]:
    """Returns what is in a folder, last first; folders end in a slash, as in what is below them."""
    with os.scandir(folder) as entries:
        names = [f"{e.name}/" if e.is_dir() else e.name for e in entries if is_visible(e.name)]
    names.sort(reverse=True)
    return names


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is the user's, not the system's."""
    return not name.startswith(".") and name != "__MACOSX"


@functools.cache
def _is_image_suffix(suffix: str) -> bool:
    kind, _ = mimetypes.guess_type(f"photo{suffix}")
    is_image = kind is not None and kind.startswith("image/") and suffix != ".svg"
    return is_image or suffix in RAW_SUFFIXES | HEIF_SUFFIXES


def _opens(path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS):
                return True
    except Exception:
        return False
