"""Draws a confusion matrix for any number of classes, with class names in any script."""

import functools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError, how_to_install
from edgetpu_retrain.io import files

# The most classes for which cells are numbered, and for which axes have class names.
_MAX_NUMBERED = 40
_MAX_NAMED = 100
_MAX_PAIRS = 30
_MAX_NAME_LENGTH = 30
_INCHES_PER_CLASS = 0.55
_DPI = 120


def plot(evaluation: Mapping[str, Any], path: str | Path) -> None:
    """Draws the confusion matrix of the test photos or of cross-validation, whichever has more.

    Args:
        evaluation: the content of evaluation.json.
        path: the PNG file to write.
    """
    result, noun = evaluation["test"], "test photo"
    cross_validation = evaluation["cross_validation"]
    if result is None or (cross_validation and cross_validation["photos"] > result["photos"]):
        result, noun = evaluation["cross_validation"], "cross-validated photo"
    draw(np.array(result["confusion_matrix"]), evaluation["classes"], noun, path)


def draw(confusion: np.ndarray, classes: Sequence[str], noun: str, path: str | Path) -> None:
    """Draws a confusion matrix: photo counts, coloured by their share of the true class.

    With more than 40 classes, the picture has a fixed size, and a list of the most frequent
    confusions replaces the numbers.

    Args:
        confusion: [C, C] int, number of photos by true class (row) and predicted class (column).
        classes: names of the C classes.
        noun: what the title calls one photo.
        path: the PNG file to write.

    Raises:
        UserError: matplotlib is not installed.
    """
    # Imported here so that importing the library does not load matplotlib.
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError(
            "The picture of the confusion matrix is drawn with matplotlib, which is not installed "
            f"(report.html has the same matrix as a table). {how_to_install('report')}"
        ) from None

    count = len(classes)
    names, fonts = drawable_names(classes)
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
        figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")
        if count <= _MAX_NAMED:
            size = min(10.0, 500 / max(count, 1))
            # A class name with dollar signs is not a formula.
            text = {"parse_math": False, "fontsize": size}
            axes.set_xticks(range(count), names, rotation=45, ha="right", **text)
            axes.set_yticks(range(count), names, **text)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if is_large:
            _write_pairs(all_axes[0, 1], confusion, names)
        else:
            _write_numbers(axes, confusion, shares)
        total = confusion.sum()
        accuracy = np.trace(confusion) / max(total, 1)
        axes.set_title(f"{accuracy:.1%} of {total} {noun}{'' if total == 1 else 's'} correct")
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI, format="png")


def worst_pairs(confusion: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Returns up to `count` pairs (true, predicted) of confused classes, most frequent first.

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
        f"{names[i]} predicted as {names[j]}: {confusion[i, j]} of {confusion[i].sum()}"
        for i, j in worst_pairs(confusion, _MAX_PAIRS)
    ]
    text = "\n".join(["Most frequent confusions", "", *lines]) if lines else "No confusions"
    axes.axis("off")
    # Outside the layout, so that a long name does not shrink the matrix.
    axes.text(0, 1, text, va="top", fontsize=9, parse_math=False).set_in_layout(False)


def drawable_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the names as they can be drawn on this machine, and the extra fonts they need.

    A name with characters that no installed font has is transliterated to ASCII. Names are cut to
    30 characters.

    >>> drawable_names(["daisy", "Gänseblümchen"])
    (['daisy', 'Gänseblümchen'], [])
    """
    needed = {ord(character) for name in names for character in name}
    missing = needed - _characters(_default_font()) - _without_glyph(needed)
    fonts = []
    if missing:
        for family, path in _fonts():
            if covered := missing & _characters(path):
                fonts.append(family)
                missing -= covered
            if not missing:
                break
    return [
        _shorten(_to_ascii(name) if missing & {*map(ord, name)} else name) for name in names
    ], fonts


def _to_ascii(name: str) -> str:
    from anyascii import anyascii

    return str(anyascii(name))


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"


def _without_glyph(characters: Iterable[int]) -> set[int]:
    # Joiners and variation selectors, as in composed emoji.
    return {n for n in characters if unicodedata.category(chr(n)) == "Cf" or 0xFE00 <= n <= 0xFE0F}


def _default_font() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont("DejaVu Sans"))


def _fonts() -> list[tuple[str, str]]:
    """Returns the family and path of every installed font, sorted."""
    from matplotlib import font_manager

    fonts = {(font.name, font.fname) for font in font_manager.fontManager.ttflist}
    # "Last Resort" draws every character as a box.
    return sorted((family, path) for family, path in fonts if not family.startswith("Last Resort"))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Returns the code points that a font can draw; none if it is unreadable or not scalable."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        # Bitmap fonts, such as colour emoji, have code points but no outlines to draw.
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()
