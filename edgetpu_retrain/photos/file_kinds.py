"""Say what a file is that has the name of a photo but is none, by its first bytes.

The bundle has a copy of this module, so it keeps to Python 3.7 and imports nothing of the project.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# As many bytes as `describe` looks at.
START_BYTES = 512

_JPEG = "export it as JPEG"
CAMERA_RAW = f"its first picture is a preview, as in camera raw files: {_JPEG}"
RAW_SUFFIXES = {".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf", ".rw2", ".raf"}
RAW_SUFFIXES |= {".pef", ".srw", ".3fr", ".iiq", ".erf", ".dcr", ".kdc", ".mef", ".mos", ".rwl"}
# Tags of TIFF 6.0 and of DNG: bit 0 of the first says that the picture is a reduced one.
_NEW_SUBFILE_TYPE, _DNG_VERSION = 254, 50706
_KINDS = [
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), reason)
    for pattern, reason in (
        (
            rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head)\b",
            "a web page (HTML), not a photo: download the photo itself",
        ),
        (
            rb"version https://git-lfs\.github\.com/spec",
            "a Git LFS pointer, not the photo: get the photos with git lfs pull",
        ),
        (rb"\s*(?:<\?xml.*?\?>\s*)?(?:<!--.*?-->\s*)?<svg\b", f"an SVG drawing: {_JPEG}"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", f"a JPEG XL image: {_JPEG}"),
        (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", f"a JPEG 2000 image: {_JPEG}"),
        (rb"....ftypavi[fs]", f"an AVIF image, which this version of Pillow cannot read: {_JPEG}"),
        (rb"....ftypcrx ", f"a camera raw file: {_JPEG}"),
        (
            rb"....ftyp(?!hei|hev|mif1|msf1)|....(?:moov|mdat|wide)|RIFF....AVI |\x1aE\xdf\xa3"
            rb"|\0\0\x01[\xb3\xba]|FLV\x01",
            "a video, not a photo: save pictures from it as JPEG",
        ),
        (rb"%PDF-", f"a PDF document, not a photo: {_JPEG}"),
        (rb"8BPS", f"a Photoshop document: {_JPEG}"),
        (
            rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf\x27\x1c",
            "an archive, not a photo: unpack it",
        ),
    )
]


def describe(start: bytes) -> str:
    r"""Returns what a file is, and what to do about it; "" if it is nothing known.

    Args:
        start: the first `START_BYTES` of a file of which `decode` knows no format.

    >>> describe(b"<!DOCTYPE html>\n<html>")
    'a web page (HTML), not a photo: download the photo itself'
    """
    start = start[3:] if start.startswith(b"\xef\xbb\xbf") else start
    return next((reason for pattern, reason in _KINDS if pattern.match(start)), "")


def is_camera_raw(name: str, start: bytes) -> bool:
    """Returns whether a TIFF file is a camera's raw file, by its name; its picture is a preview."""
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES and start.startswith((b"II", b"MM"))


def is_preview(tags: Mapping[int, Any]) -> bool:
    """Returns whether the first picture of a TIFF file is a reduced one, by its tags."""
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 1) or _DNG_VERSION in tags


def is_described(reason: str) -> bool:
    """Returns whether a reason is one of `describe`, which has its own advice."""
    return any(reason == known for _, known in _KINDS)
