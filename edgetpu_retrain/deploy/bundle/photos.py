"""Finds photos and reads them, or says why not.

`file_kinds.py` and `jpeg_header.py` are those that the model was trained with.
"""

from __future__ import annotations

import contextlib
import io
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import file_kinds
import jpeg_header
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

MAX_PIXELS = 120_000_000
MAX_BYTES = 500_000_000
HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"}
SUFFIXES |= HEIF_SUFFIXES
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"]

Image.init()
if "AVIF" in Image.OPEN and features.check("avif"):
    FORMATS.append("AVIF")
try:
    import pillow_heif
except ImportError:
    INSTALL_HEIF = " (HEIC: pip install pillow-heif)"
else:
    pillow_heif.register_heif_opener()
    FORMATS.append("HEIF")
    INSTALL_HEIF = ""


class PhotoError(Exception):
    """A photo cannot be used; the message is the reason."""


def find_photos(inputs: list[str]) -> Iterator[Path]:
    """Yields the given photos, and all photos in the given folders and their subfolders.

    Raises:
        FileNotFoundError: a folder has no photos.
    """
    for folder in map(Path, inputs):
        if not folder.is_dir():
            yield folder
            continue
        photos = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
        visible = [p for p in photos if not any(n[0] == "." for n in p.relative_to(folder).parts)]
        if not visible:
            raise FileNotFoundError(f"{folder}: there are no photos in this folder.")
        yield from visible


def read_file(path: Path, at_least: int | None) -> Image.Image:
    """Decodes a photo file, as `read_photo` does.

    Raises:
        PhotoError: the photo cannot be used.
    """
    try:
        status = path.stat()
        # A pipe would never end.
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise PhotoError(f"larger than {MAX_BYTES // 1_000_000} MB")
        content = path.read_bytes()
    except OSError as error:
        raise PhotoError(error.strerror or str(error)) from None
    if file_kinds.is_camera_raw(path.name, content):
        raise PhotoError(file_kinds.CAMERA_RAW)
    try:
        return read_photo(content, at_least)
    except PhotoError as error:
        is_heif = path.suffix.lower() in HEIF_SUFFIXES
        raise PhotoError(f"{error}{INSTALL_HEIF if is_heif else ''}") from None


def read_photo(content: bytes, at_least: int | None) -> Image.Image:
    """Decodes a photo to mode RGB: upright, on white if transparent, the first frame if animated.

    A JPEG may be decoded at a reduced size, with both sides of `at_least` so many pixels.

    Raises:
        PhotoError: the photo cannot be used.
    """
    if not content:
        raise PhotoError("the file is empty")
    if content.startswith(b"\xff\xd8") and not jpeg_header.is_sound(content):
        raise PhotoError("cannot be decoded: its JPEG header is damaged")
    try:
        with warnings.catch_warnings():
            # Pillow warns at its own limit; MAX_PIXELS applies instead.
            warnings.simplefilter("ignore")
            image: Any = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.format == "TIFF" and file_kinds.is_preview(image.tag_v2):
                raise PhotoError(file_kinds.CAMERA_RAW)
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise PhotoError("too large ({} x {} pixels)".format(*image.size))
            if image.format == "JPEG" and at_least is not None:
                image.draft("RGB", (at_least, at_least))
            image.load()
            # Damaged EXIF data says nothing about the picture.
            with contextlib.suppress(Exception):
                image = ImageOps.exif_transpose(image)
            return _to_rgb(image)
    except PhotoError:
        raise
    except UnidentifiedImageError:
        kind = file_kinds.describe(content[: file_kinds.START_BYTES])
        raise PhotoError(kind or "not an image of a supported format") from None
    except Image.DecompressionBombError:
        raise PhotoError("too large") from None
    # Pillow's decoders can raise any exception for a damaged file.
    except Exception as error:
        raise PhotoError(f"cannot be decoded: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise PhotoError("32-bit grey values are not supported: save it with 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise PhotoError("floating-point values are not supported: save it with 8 or 16 bits")
    transparent = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if transparent or (mode == "P" and image.palette and image.palette.mode.endswith("A")):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
