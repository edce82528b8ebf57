"""Makes thumbnails of photos, embedded in the page as data URIs."""

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from edgetpu_retrain.photos import decode, memory

_QUALITY = 70


def thumbnails(paths: Iterable[str], side: int) -> dict[str, str]:
    """Returns a data URI with a JPEG for every photo that can still be read, by path.

    Args:
        paths: the photos; duplicates are read once.
        side: the longer side in pixels.
    """
    paths = list(dict.fromkeys(paths))
    # Threads suffice, because Pillow releases the GIL while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        uris = pool.map(lambda path: _thumbnail(path, side), paths)
        return {path: uri for path, uri in zip(paths, uris, strict=True) if uri}


def _thumbnail(path: str, side: int) -> str:
    """Returns the data URI of one photo, or an empty string if it cannot be read."""
    try:
        content = Path(path).read_bytes()
        with memory.for_photo(content, side):
            jpeg = to_jpeg(decode.read_photo(content, min_side=side), side)
    except (OSError, decode.PhotoError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def to_jpeg(photo: Image.Image, side: int) -> bytes:
    """Returns a JPEG whose longer side has at most `side` pixels; the photo is resized in place."""
    photo.thumbnail((side, side), Image.Resampling.BILINEAR)
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()
