"""Decode photos of any supported format to upright 8-bit RGB, or explain why not."""

import contextlib
import hashlib
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError, features

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.photos import file_kinds, jpeg_header
from edgetpu_retrain.photos.file_kinds import CAMERA_RAW, RAW_SUFFIXES

MAX_PIXELS = 120_000_000
# More than an uncompressed photo of MAX_PIXELS has.
MAX_BYTES = 500_000_000
NOT_SUPPORTED = "not an image of a supported format"
CANNOT_BE_OPENED = "cannot be opened"
# As many bytes as Pillow passes to a format's accept function.
_ACCEPTED_BYTES = 16
_STRIP_ROWS = 256

# Pillow loads some of these formats on demand, and does not include HEIF (HEIC on iPhones).
Image.init()
pillow_heif.register_heif_opener()
FORMATS: tuple[str, ...] = ("JPEG", "HEIF", "PNG", "BMP", "GIF", "TIFF", "WEBP")
if "AVIF" in Image.OPEN and features.check("avif"):
    FORMATS += ("AVIF",)

HEIF_SUFFIXES = {".heic", ".heif", ".hif"}


class PhotoError(Exception):
    """A photo cannot be used; the message is the reason."""


def read_photo(content: bytes, min_side: int | None = None) -> Image.Image:
    """Decodes a photo.

    EXIF orientation is applied, even if other EXIF data is damaged; transparent pixels are blended
    with white; greyscale, palette, CMYK and 16-bit images are converted; the first frame of an
    animation is used.

    Args:
        content: the content of the file.
        min_side: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (averaging over
            blocks of pixels; up to ten times as fast), as long as both sides have at least this
            many pixels.

    Returns:
        The image in mode RGB, upright.

    Raises:
        PhotoError: the photo is damaged or incomplete, its format is not supported, or it has more
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
            warnings.simplefilter("ignore")
            image = open_image(content)
            if image.format == "TIFF" and file_kinds.is_preview(image.tag_v2):  # type: ignore[attr-defined]
                raise PhotoError(CAMERA_RAW)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PhotoError(f"absurdly large ({width} x {height} pixels)")
            # For HEIF, draft would select the embedded thumbnail.
            if min_side is not None and image.format == "JPEG":
                image.draft("RGB", (min_side, min_side))
            image.load()
            _turn_upright(image)
            return _to_rgb(image)
    except PhotoError:
        raise
    except UnidentifiedImageError:
        kind = file_kinds.describe(content[: file_kinds.START_BYTES])
        raise PhotoError(kind or NOT_SUPPORTED) from None
    except Image.DecompressionBombError:
        raise PhotoError("absurdly large") from None
    # On damaged files, Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error,
    # zlib.error and more.
    except Exception as error:
        raise PhotoError(f"cannot be decoded: {error}") from error


def open_image(content: bytes) -> Image.Image:
    """Opens a photo without decoding it; only its header is read.

    Raises:
        PhotoError: the header is damaged.
        Exception: Pillow cannot open the file.
    """
    if content.startswith(b"\xff\xd8") and not jpeg_header.is_sound(content):
        raise PhotoError("cannot be decoded: its JPEG header is damaged")
    with warnings.catch_warnings():
        # Pillow warns of large images in its own way; MAX_PIXELS is the limit here.
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(content), formats=FORMATS)


def read_file(path: str | Path, min_side: int | None = None) -> Image.Image:
    """Decodes a photo file, as `read_photo` does.

    Raises:
        PhotoError: the file cannot be decoded, or is not a regular file: reading a pipe, for
            example, could block forever.
        OSError: there is no such file, or it cannot be read.
    """
    if reason := rejection_reason(str(path), os.stat(path)):
        raise PhotoError(reason)
    return read_photo(Path(path).read_bytes(), min_side)


def _turn_upright(image: Image.Image) -> None:
    # Damaged EXIF data raises as much as damaged images do, and says nothing about the image.
    with contextlib.suppress(Exception):
        # In place, because otherwise even upright images are copied.
        ImageOps.exif_transpose(image, in_place=True)


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
    return _on_white(image) if image.has_transparency_data else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Blends transparent pixels with white; in strips, to hold a large image only once more."""
    width, height = image.size
    photo = Image.new("RGB", image.size)
    for top in range(0, height, _STRIP_ROWS):
        box = (0, top, width, min(top + _STRIP_ROWS, height))
        strip = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        photo.paste(Image.alpha_composite(white, strip).convert("RGB"), box)
    return photo


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def rejection_reason(path: str, status: os.stat_result) -> str:
    """Returns why a file cannot be a photo, judging by its first bytes; "" if it may be one."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if not status.st_size:
        return "the file is empty"
    if status.st_size > MAX_BYTES:
        return f"larger than {MAX_BYTES // 1_000_000} MB"
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(file_kinds.START_BYTES)
    except OSError as error:
        return cannot_be_opened(error)
    decoders = (Image.OPEN[name][1] for name in FORMATS)
    if not any(accept is None or accept(start[:_ACCEPTED_BYTES]) for accept in decoders):
        return file_kinds.describe(start) or NOT_SUPPORTED
    if file_kinds.is_camera_raw(path, start):
        return CAMERA_RAW
    return ""


def cannot_be_opened(error: OSError) -> str:
    """Returns the reason for skipping a file that raised `error` when it was opened."""
    return f"{CANNOT_BE_OPENED}: {error.strerror}"


def with_advice(path: str | Path, reason: str) -> str:
    """Returns the reason for skipping a photo, with advice added for HEIC and camera raw files."""
    if reason == CAMERA_RAW or file_kinds.is_described(reason):
        return reason
    suffix = os.path.splitext(path)[1].lower()
    if suffix in HEIF_SUFFIXES:
        return f"{reason} (HEIC: export it as JPEG)"
    if suffix in RAW_SUFFIXES:
        return f"{reason} (camera raw file: export it as JPEG)"
    return reason


def open_photo(path: str, sha256: str, min_side: int | None = None) -> Image.Image:
    """Decodes a photo of the index, as `read_photo` does.

    Args:
        path: path of the photo.
        sha256: its SHA-256 in hexadecimal when it was indexed.
        min_side: as for `read_photo`.

    Raises:
        UserError: the file is gone or has changed since it was indexed.
        PhotoError: the photo cannot be decoded.
    """
    return read_photo(read_content(path, sha256), min_side)


def read_content(path: str, sha256: str) -> bytes:
    """Returns the content of a photo of the index.

    Raises:
        UserError: the file is gone or has changed since it was indexed.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} can no longer be read: {error.strerror}. Run again.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} has changed since the photos were indexed. Run again.")
    return content
