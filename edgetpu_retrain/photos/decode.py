"""Read a photo of any supported format as upright 8-bit RGB, or say why not."""

import hashlib
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageOps

from edgetpu_retrain.errors import UserError

FORMATS = ("JPEG", "HEIF", "PNG", "BMP", "GIF", "TIFF", "WEBP")
MAX_PIXELS = 120_000_000
CANNOT_BE_OPENED = "cannot be opened"
# What Pillow gives its decoders to decide by.
_START_BYTES = 16

# Pillow registers some of these formats only now, and HEIF (iPhones' HEIC) not by itself.
Image.init()
pillow_heif.register_heif_opener()

RAW_SUFFIXES = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"}
HEIF_SUFFIXES = {".heic", ".heif", ".hif"}


class PhotoError(Exception):
    """A photo cannot be used; the text is the reason."""


def read_photo(content: bytes, at_least: int | None = None) -> Image.Image:
    """Decodes a photo.

    EXIF orientation is applied, transparency is laid on white, grey, palette, CMYK and 16-bit
    pictures are converted, and of an animation the first frame is taken.

    Args:
        content: the bytes of the file.
        at_least: where given, a JPEG may be decoded at a half, a quarter or an eighth of its
            size (averaging over squares of pixels; up to ten times as fast), but with both sides
            of at least this many pixels.

    Returns:
        The picture in mode RGB, as it should be looked at.

    Raises:
        PhotoError: the photo cannot be decoded whole, is of no supported format, or has more
            than `MAX_PIXELS` pixels.

    >>> file = io.BytesIO()
    >>> Image.new("LA", (4, 3), (0, 0)).save(file, "PNG")
    >>> photo = read_photo(file.getvalue())
    >>> photo.mode, photo.size, photo.getpixel((0, 0))
    ('RGB', (4, 3), (255, 255, 255))
    >>> read_photo(b"a note")
    Traceback (most recent call last):
    edgetpu_retrain.photos.decode.PhotoError: not an image of a supported format
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
            # A HEIF's draft would be its thumbnail.
            if at_least is not None and image.format == "JPEG":
                image.draft("RGB", (at_least, at_least))
            image.load()
            # In place, since otherwise upright pictures are copied.
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
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


def read_file(path: str | Path, at_least: int | None = None) -> Image.Image:
    """Decodes a photo file, as `read_photo` does.

    Raises:
        PhotoError: it cannot be decoded; or it is a pipe, say, which would be waited for.
        OSError: there is no such file.
    """
    if reason := reason_against(str(path), os.stat(path)):
        raise PhotoError(reason)
    return read_photo(Path(path).read_bytes(), at_least)


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


def reason_against(path: str, status: os.stat_result) -> str:
    """Says why a file cannot be a photo, as far as its first bytes tell; "" where it can be one."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if not status.st_size:
        return "the file is empty"
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(_START_BYTES)
    except OSError as error:
        return cannot_be_opened(error)
    decoders = (Image.OPEN[name][1] for name in FORMATS)
    if not any(accept is None or accept(start) for accept in decoders):
        return "not an image of a supported format"
    return ""


def cannot_be_opened(error: OSError) -> str:
    """Returns the reason against a file that the system does not let us read."""
    return f"{CANNOT_BE_OPENED}: {error.strerror}"


def advice(path: str | Path, reason: str) -> str:
    """Adds to the reason for leaving out a photo what can be done about it, where that is known."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in HEIF_SUFFIXES:
        return f"{reason} (HEIC: export it as JPEG)"
    if suffix in RAW_SUFFIXES:
        return f"{reason} (camera raw file: export it as JPEG)"
    return reason


def open_photo(path: str, sha256: str, at_least: int | None = None) -> Image.Image:
    """Reads a photo that is listed with its identity, as `read_photo` does.

    Raises:
        UserError: it is not what it was when it was listed.
        PhotoError: it cannot be decoded.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} was there a moment ago: {error.strerror}. Run again.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} has changed since the photos were indexed. Run again.")
    return read_photo(content, at_least)
