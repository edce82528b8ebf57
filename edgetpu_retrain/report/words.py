"""Formats numbers, lists and names as text for people."""

import unicodedata
from collections.abc import Sequence

# From this denominator on, percentages have a decimal.
_MIN_FOR_A_DECIMAL = 200
# Unicode FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE.
_ISOLATE, _POP = "\u2068", "\u2069"
_UNITS = ("bytes", "kB", "MB", "GB")


def percent(part: float, whole: float) -> str:
    """Returns a share in percent, with a decimal if the denominator is large enough for one.

    Only a complete share is rounded to 100%, and only an empty one to 0%.

    >>> percent(9, 10), percent(829, 900), percent(1999, 2000), percent(1, 1000)
    ('90%', '92.1%', '99.9%', '0.1%')
    """
    digits = 0 if whole < _MIN_FOR_A_DECIMAL else 1
    step = 10**-digits
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, step), 100 - step)
    return f"{share:.{digits}f}%"


def fraction(value: float) -> str:
    """Returns a share in percent with one decimal, such as a bound of an interval.

    >>> fraction(0.9023)
    '90.2%'
    """
    return f"{100 * value:.1f}%"


def points(difference: float) -> str:
    """Returns the absolute difference of two shares in percentage points.

    >>> points(0.019), points(0.01)
    ('1.9 points', '1.0 points')
    """
    return f"{100 * abs(difference):.1f} points"


def count(number: int, singular: str, plural: str = "") -> str:
    """Returns a number with its noun.

    >>> count(1, "photo"), count(1200, "photo"), count(2, "class", "classes")
    ('1 photo', '1,200 photos', '2 classes')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def join(names: Sequence[str], most: int = 3) -> str:
    """Returns names as a list for a sentence; names beyond `most` are only counted.

    >>> join(["a"]), join(["a", "b", "c"]), join(list("abcde"))
    ('a', 'a, b and c', 'a, b, c and 2 more')
    """
    names = [isolate(name) for name in names]
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def size(number: int) -> str:
    """Returns the size of a file, given in bytes.

    >>> size(999), size(4_295_123)
    ('999 bytes', '4.3 MB')
    """
    value, unit = float(number), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{number} {_UNITS[0]}"


def isolate(name: str) -> str:
    """Returns a name for a sentence; a right-to-left name does not reorder the text around it.

    >>> isolate("daisy")
    'daisy'
    """
    has_rtl = any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in name)
    return f"{_ISOLATE}{name}{_POP}" if has_rtl else name


def printable(path: str) -> str:
    """Returns a path with undecodable bytes escaped, so that it can be encoded as UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
