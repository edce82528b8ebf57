"""Read tables of a FlatBuffer whose schema is not compiled in, without leaving its bounds.

The format is described at https://flatbuffers.dev/internals/. Positions are counted from the start
of the content, also in a FlatBuffer that is stored inside another one.
"""

import struct
from collections.abc import Iterator

# No list of tables that this project reads is as long; a damaged one may claim to be.
_MAX_TABLES = 256


class Table:
    """A table of a FlatBuffer. What does not lie in the content raises a ValueError."""

    def __init__(self, content: bytes, position: int):
        self._content = content
        self._position = position
        self._fields = position - _integer(content, "i", position)
        self._fields_size = _integer(content, "H", self._fields)

    @classmethod
    def root(cls, content: bytes, start: int) -> "Table":
        """Returns the root table of the FlatBuffer that starts there."""
        return cls(content, _follow(content, start))

    def integer(self, field: int, kind: str) -> int:
        """Returns a whole number, 0 where it is missing.

        Args:
            field: which field of the table, counted from 0.
            kind: its type, as `struct` names it.
        """
        at = self._locate(field)
        return _integer(self._content, kind, at) if at else 0

    def real(self, field: int) -> float:
        """Returns a float32, 0 where it is missing."""
        at = self._locate(field)
        return float(_read(self._content, "f", at)) if at else 0.0

    def text(self, field: int) -> str:
        """Returns a string, empty where it is missing."""
        start, size = self.span(field)
        return self._content[start : start + size].decode(errors="replace")

    def span(self, field: int) -> tuple[int, int]:
        """Returns where a vector of bytes starts and how many there are; 0 and 0 without any."""
        at = self._locate(field)
        return self._span(_follow(self._content, at)) if at else (0, 0)

    def table(self, field: int) -> "Table | None":
        """Returns a table, None where it is missing."""
        at = self._locate(field)
        return Table(self._content, _follow(self._content, at)) if at else None

    def tables(self, field: int) -> list["Table"]:
        """Returns a vector of tables."""
        return [Table(self._content, at) for at in self._elements(field)]

    def spans(self, field: int) -> list[tuple[int, int]]:
        """Returns where the elements of a vector of strings start and how long they are."""
        return [self._span(at) for at in self._elements(field)]

    def _elements(self, field: int) -> Iterator[int]:
        at = self._locate(field)
        if not at:
            return
        start = _follow(self._content, at)
        count = _integer(self._content, "I", start)
        if count > _MAX_TABLES:
            raise ValueError(f"a list of {count} parts")
        for i in range(count):
            yield _follow(self._content, start + 4 + 4 * i)

    def _span(self, at: int) -> tuple[int, int]:
        size = _integer(self._content, "I", at)
        if at + 4 + size > len(self._content):
            raise ValueError(f"{size} bytes at {at} end behind the last")
        return at + 4, size

    def _locate(self, field: int) -> int:
        """Returns where a field is; 0 where it is missing."""
        entry = 4 + 2 * field
        if entry + 2 > self._fields_size:
            return 0
        offset = _integer(self._content, "H", self._fields + entry)
        return self._position + offset if offset else 0


def _follow(content: bytes, at: int) -> int:
    return at + _integer(content, "I", at)


def _integer(content: bytes, kind: str, at: int) -> int:
    return int(_read(content, kind, at))


def _read(content: bytes, kind: str, at: int) -> float:
    # struct would count a negative position from the end.
    if at < 0 or at + struct.calcsize(f"<{kind}") > len(content):
        raise ValueError(f"a part at {at} of {len(content)} bytes")
    value: float = struct.unpack_from(f"<{kind}", content, at)[0]
    return value
