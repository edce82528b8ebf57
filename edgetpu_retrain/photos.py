"""Find photos below a folder and read any of them as upright 8-bit RGB."""

import io
import logging
import mimetypes
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
MAX_PIXELS = 120_000_000

# Pillow registers some of these formats only now.
Image.init()

_NOT_PHOTOS = {"thumbs.db", "desktop.ini"}
_RAW_SUFFIXES = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"}
_APPLE_SUFFIXES = {".heic", ".heif"}


class PhotoError(Exception):
    """A photo cannot be used; the text is the reason."""


def read_photo(content: bytes) -> Image.Image:
    """Decodes a photo.

    EXIF orientation is applied, transparency is laid on white, grey, palette, CMYK and 16-bit
    pictures are converted, and of an animation the first frame is taken.

    Args:
        content: the bytes of the file.

    Returns:
        The picture in mode RGB, as it should be looked at.

    Raises:
        PhotoError: the photo cannot be decoded whole, is of no supported format, or has more
            than `MAX_PIXELS` pixels.
    """
    if not content:
        raise PhotoError("the file is empty")
    try:
        with warnings.catch_warnings():
            # Size is judged below, by one limit for all formats.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PhotoError(f"absurdly large ({width} x {height} pixels)")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        raise PhotoError("not an image of a supported format") from None
    except Image.DecompressionBombError:
        raise PhotoError("absurdly large") from None
    # Pillow's decoders raise whatever a damaged file leads them to: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error and more.
    except Exception as error:
        raise PhotoError(f"cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.uint16) >> 8)
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise PhotoError("32-bit grey values are not supported: save it with 8 or 16 bits")
        return _grey(values >> 8)
    if image.mode == "F":
        raise PhotoError("floating-point values are not supported: save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def find_photos(folder: str | Path) -> Iterator[Path]:
    """Yields the files below `folder` that are photos or claim to be, in sorted order.

    Hidden files and folders, what file managers leave behind, and files that neither look like a
    photo nor are named like one (notes, spreadsheets) are passed over.
    """
    for path in files_below(Path(folder)):
        if is_photo(path):
            yield path


def is_photo(path: Path) -> bool:
    """Whether a file is a photo or claims to be one."""
    if path.name.lower() in _NOT_PHOTOS or not is_visible(path.name):
        return False
    return _is_named_as_photo(path) or _opens(path)


def files_below(folder: Path) -> Iterator[Path]:
    """Yields the visible files below `folder` in sorted order, behind links too, each once."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            log.warning("%s is a link to a folder that was read already; left out", parent)
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if is_visible(name))
        for name in sorted(names):
            if is_visible(name):
                yield Path(parent, name)


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is the user's, not the system's."""
    return not name.startswith(".") and name != "__MACOSX"


def _is_named_as_photo(path: Path) -> bool:
    suffix = path.suffix.lower()
    kind, _ = mimetypes.guess_type(f"photo{suffix}")
    is_image = kind is not None and kind.startswith("image/") and suffix != ".svg"
    return is_image or suffix in _RAW_SUFFIXES | _APPLE_SUFFIXES


def _opens(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS):
                return True
    except Exception:
        return False


def advice(path: Path, reason: str) -> str:
    """Adds to the reason for leaving out a photo what can be done about it, where that is known."""
    suffix = path.suffix.lower()
    if suffix in _APPLE_SUFFIXES:
        return f"{reason} (HEIC: export it as JPEG)"
    if suffix in _RAW_SUFFIXES:
        return f"{reason} (camera raw file: export it as JPEG)"
    return reason
