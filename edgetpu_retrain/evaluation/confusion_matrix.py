"""Draw a confusion matrix of any number of classes, whatever script their names are in."""

import functools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.io import files

# Up to here every cell has its number; up to there every class has its name.
_MAX_NUMBERED = 40
_MAX_NAMED = 100
_SHOWN_PAIRS = 30
_MAX_NAME = 30
_INCHES_PER_CLASS = 0.55
_DPI = 120


def plot(evaluation: Mapping[str, Any], path: str | Path) -> None:
    """Draws what evaluation.json says of the test photos.

    Where there are none, it is that of the cross-validation.
    """
    shown, kind = evaluation["test"], "test photos"
    if shown is None:
        shown, kind = evaluation["cross_validation"], "photos, cross-validated,"
    draw(np.array(shown["confusion_matrix"]), evaluation["classes"], kind, path)


def draw(confusion: np.ndarray, classes: Sequence[str], kind: str, path: str | Path) -> None:
    """Draws a confusion matrix: numbers of photos, coloured by the share of their class.

    Of many classes the picture stays of one size, and the pairs that are confused most stand
    beside it.

    Args:
        confusion: [C, C] int, how many photos of the row's class were taken for the column's.
        classes: names of the C classes.
        kind: what the title calls the photos, in the plural.
        path: where the PNG goes.
    """
    # Only this module draws; importing the library should not load matplotlib.
    import matplotlib
    from matplotlib.figure import Figure

    count = len(classes)
    names, fonts = legible(classes)
    is_large = count > _MAX_NUMBERED
    side = 10.0 if is_large else max(4.8, _INCHES_PER_CLASS * count + 2)
    with matplotlib.rc_context({"font.family": ["DejaVu Sans", *fonts]}):
        figure = Figure(
            figsize=(side + 6, side + 2) if is_large else (side + 0.8, side), layout="constrained"
        )
        all_axes = figure.subplots(
            1,
            2 if is_large else 1,
            width_ratios=[side + 1, 5] if is_large else None,
            squeeze=False,
        )
        axes = all_axes[0, 0]
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the class")
        if count <= _MAX_NAMED:
            size = min(10.0, 500 / max(count, 1))
            # Names are text, not formulas, whatever dollar signs they hold.
            text = {"parse_math": False, "fontsize": size}
            axes.set_xticks(range(count), names, rotation=45, ha="right", **text)
            axes.set_yticks(range(count), names, **text)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if is_large:
            _write_pairs(all_axes[0, 1], confusion, names)
        else:
            _write_numbers(axes, confusion, shares)
        share = np.trace(confusion) / max(confusion.sum(), 1)
        axes.set_title(f"{share:.1%} of {confusion.sum()} {kind} correct")
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI, format="png")


def worst_pairs(confusion: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Returns the (true, predicted) classes that are confused most often, the worst first.

    >>> worst_pairs(np.array([[5, 1, 0], [3, 2, 0], [0, 0, 4]]), count=9)
    [(1, 0), (0, 1)]
    """
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [(int(i) // len(wrong), int(i) % len(wrong)) for i in order]
    return [pair for pair in pairs if wrong[pair]]


def _write_numbers(axes: Any, confusion: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.argwhere(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = str(confusion[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour)


def _write_pairs(axes: Any, confusion: np.ndarray, names: Sequence[str]) -> None:
    lines = [
        f"{names[i]} taken for {names[j]}: {confusion[i, j]} of {confusion[i].sum()}"
        for i, j in worst_pairs(confusion, _SHOWN_PAIRS)
    ]
    text = "\n".join(["Confused most often", "", *lines]) if lines else "Nothing was confused."
    axes.axis("off")
    # What a long name needs beyond its place is no reason to make the matrix smaller.
    axes.text(0, 1, text, va="top", fontsize=9, parse_math=False).set_in_layout(False)


def legible(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns names as they can be drawn here, and the fonts that this takes.

    A name with characters that no font here has is written in ASCII, as near as that comes.

    >>> legible(["daisy", "Gänseblümchen"])
    (['daisy', 'Gänseblümchen'], [])
    """
    wanted = {ord(character) for name in names for character in name}
    missing = wanted - _characters(_default_font()) - _without_a_glyph(wanted)
    fonts = []
    if missing:
        for family, path in _fonts():
            if found := missing & _characters(path):
                fonts.append(family)
                missing -= found
            if not missing:
                break
    return [
        _shorten(_in_ascii(name) if missing & {*map(ord, name)} else name) for name in names
    ], fonts


def _in_ascii(name: str) -> str:
    from anyascii import anyascii

    return str(anyascii(name))


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _without_a_glyph(characters: Iterable[int]) -> set[int]:
    # Joiners and variation selectors, which emoji are made with.
    return {n for n in characters if unicodedata.category(chr(n)) == "Cf" or 0xFE00 <= n <= 0xFE0F}


def _default_font() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont("DejaVu Sans"))


def _fonts() -> list[tuple[str, str]]:
    """Returns the family and path of every font that there is, in a fixed order."""
    from matplotlib import font_manager

    found = {(font.name, font.fname) for font in font_manager.fontManager.ttflist}
    # That one has a box for every character.
    return sorted((name, path) for name, path in found if not name.startswith("Last Resort"))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Returns the characters that a font has; none where it is of a kind that cannot be drawn."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        # Fonts of coloured pictures have characters, but no outlines.
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()
