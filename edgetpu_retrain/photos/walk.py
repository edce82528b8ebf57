"""Find the photos in a folder and its subfolders."""

import functools
import logging
import mimetypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edgetpu_retrain.photos import decode
from edgetpu_retrain.photos.decode import HEIF_SUFFIXES, rejection_reason
from edgetpu_retrain.photos.file_kinds import RAW_SUFFIXES

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
    if is_image_name(name):
        return True
    return not rejection_reason(path, status) and _opens(path)


def _log_error(path: str, error: OSError) -> None:
    log.warning("Skipping %s: %s.", path, error.strerror)


def files_below(
    folder: str | Path, on_error: Callable[[str, OSError], None] = _log_error
) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the path and status of every visible file below `folder`, sorted by path.

    Links are followed, but each folder is visited only once; broken links are ignored. Only the
    names in one folder per level are in memory.

    Args:
        folder: path of the folder.
        on_error: called with the path of a file or folder that cannot be looked at, such as a
            folder without permission or a link to itself.
    """

    def names_in(folder: str) -> list[str]:
        try:
            return _visible_names(folder)
        except OSError as error:
            on_error(folder, error)
            return []

    parent = os.fspath(folder)
    visited = {os.path.realpath(parent)}
    levels = [(parent, names_in(parent))]
    while levels:
        parent, names = levels[-1]
        if not names:
            levels.pop()
            continue
        name = names.pop()
        path = os.path.join(parent, name)
        if not name.endswith("/"):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                on_error(path, error)
                continue
            yield path, status
            continue
        path = path[:-1]
        real = os.path.realpath(path)
        if real in visited:
            log.warning("Skipping %s: it links to a folder that was already read.", path)
            continue
        visited.add(real)
        levels.append((path, names_in(path)))


def visible_folders(folder: str | Path) -> list[Path]:
    """Returns the visible folders in a folder, sorted by name; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if is_visible(e.name) and _is_folder(e)]
    except OSError:
        return []
    return [Path(folder, name) for name in sorted(names)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself, for example.
        return False


def files_in(folder: str | Path) -> list[str]:
    """Returns the paths of the files in a folder itself, sorted; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            paths = [e.path for e in entries if is_visible(e.name) and not _is_folder(e)]
    except OSError:
        return []
    return sorted(path for path in paths if os.path.isfile(path))


def _visible_names(folder: str) -> list[str]:
    """Returns the visible names in a folder, last first; folders end in a slash to sort by path."""
    with os.scandir(folder) as entries:
        names = [f"{e.name}/" if _is_folder(e) else e.name for e in entries if is_visible(e.name)]
    names.sort(reverse=True)
    return names


def is_visible(name: str) -> bool:
    """Returns whether a file or folder of this name is not hidden or a system folder."""
    return not name.startswith(".") and name != "__MACOSX"


def is_image_name(name: str) -> bool:
    """Returns whether a file's name has the extension of an image."""
    return _is_image_suffix(os.path.splitext(name)[1].lower())


@functools.cache
def _is_image_suffix(suffix: str) -> bool:
    mime_type, _ = mimetypes.guess_type(f"photo{suffix}")
    is_image = mime_type is not None and mime_type.startswith("image/") and suffix != ".svg"
    return is_image or suffix in RAW_SUFFIXES | HEIF_SUFFIXES | {".avif", ".jxl"}


def _opens(path: str) -> bool:
    try:
        decode.open_image(Path(path).read_bytes())
    except Exception:
        return False
    return True
