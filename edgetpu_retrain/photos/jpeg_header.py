"""Look through the header of a JPEG, which Pillow does byte by byte where it is damaged.

The bundle has a copy of this module, so it keeps to Python 3.7 and imports nothing of the project.
"""

import re

# The byte after the last 0xFF of a marker (ITU-T T.81, B.1.1.2); FF 00 is none.
_MARKER = re.compile(rb"(?<=\xff)[^\x00\xff]", re.DOTALL)
_START_OF_SCAN = 0xDA
# RSTn, SOI, EOI and TEM have no length.
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
# No header has as many bytes between two segments, or as many segments.
_MAX_JUNK_BYTES = 1 << 16
_MAX_SEGMENTS = 20_000


def is_sound(content: bytes) -> bool:
    r"""Returns whether a JPEG's header can be read in a reasonable time.

    A file of 50 MB that starts as a JPEG and continues with 0xFF keeps Pillow busy for minutes.

    >>> is_sound(b"\xff\xd8" + b"\xff" * 1_000_000)
    False
    """
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(content, position, position + _MAX_JUNK_BYTES)
        if marker is None:
            # A short rest is Pillow's to judge.
            return len(content) - position < _MAX_JUNK_BYTES
        position = marker.end()
        kind = content[position - 1]
        if kind == _START_OF_SCAN:
            return True
        if kind not in _WITHOUT_LENGTH:
            position += int.from_bytes(content[position : position + 2], "big")
    return False
