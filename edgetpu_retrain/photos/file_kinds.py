"""Say what a file is that has the name of a photo but is none, by its first bytes."""

import re

# As many bytes as `describe` looks at.
START_BYTES = 512

_JPEG = "export it as JPEG"
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
    start = start.removeprefix(b"\xef\xbb\xbf")
    return next((reason for pattern, reason in _KINDS if pattern.match(start)), "")


def is_described(reason: str) -> bool:
    """Returns whether a reason is one of `describe`, which has its own advice."""
    return any(reason == known for _, known in _KINDS)
