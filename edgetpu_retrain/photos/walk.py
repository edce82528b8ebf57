"""Find the photos in a folder and its subfolders."""

import contextlib
import functools
import logging
import mimetypes
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from edgetpu_retrain.photos.decode import FORMATS, HEIF_SUFFIXES, RAW_SUFFIXES, rejection_reason

log = logging.getLogger(__name__)

_NOT_PHOTOS = {"thumbs.db", "desktop.ini"}


def find_photos(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the photos below `folder`, in the order and form of `files_below`.

    A photo is a file whose content or extension is that of an image. Other files, such as notes,
    and files created by file managers, such as Thumbs.db, are ignored.
    """
    for path, status in files_below(folder):
        if may_be_photo(path, status):
            yield path, status


def is_photo(path: str | Path) -> bool:
    """Returns whether a file is visible and a photo, by its content or its extension."""
    return is_visible(os.path.basename(path)) and may_be_photo(str(path), os.stat(path))


def may_be_photo(path: str, status: os.stat_result) -> bool:
    """Returns whether a visible file is a photo, by its content or its extension."""
    name = os.path.basename(path).lower()
    if name in _NOT_PHOTOS:
        return False
    if _is_image_suffix(os.path.splitext(name)[1]):
        return True
    return not rejection_reason(path, status) and _opens(path)


def files_below(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the path and status of every visible file below `folder`, sorted by path.

    Links are followed, but each folder is visited only once; broken links are ignored. Only the
    names in one folder per level are in memory.
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
            log.warning("Skipping %s: it links to a folder that was already read.", path)
            continue
        visited.add(real)
        levels.append((path, _visible_names(path)))


def _visible_names(folder: str) -> list[str]:
    """Returns the visible names in a folder, last first; folders end in a slash to sort by path."""
    with os.scandir(folder) as entries:
        names = [f"{e.name}/" if e.is_dir() else e.name for e in entries if is_visible(e.name)]
    names.sort(reverse=True)
    return names


def is_visible(name: str) -> bool:
    """Returns whether a file or folder of this name is not hidden or a system folder."""
    return not name.startswith(".") and name != "__MACOSX"


@functools.cache
def _is_image_suffix(suffix: str) -> bool:
    mime_type, _ = mimetypes.guess_type(f"photo{suffix}")
    is_image = mime_type is not None and mime_type.startswith("image/") and suffix != ".svg"
    return is_image or suffix in RAW_SUFFIXES | HEIF_SUFFIXES


def _opens(path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS):
                return True
    except Exception:
        return False
