"""Draws charts as SVG, styled by the page so that they suit its light and dark colours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from edgetpu_retrain.report.words import count, fraction

_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 46


class _Axes:
    """A plot area that maps values to pixels and collects SVG elements.

    Args:
        x: lowest and highest value of the x axis.
        y: lowest and highest value of the y axis.
        labels: labels of the x and y axis.
        x_ticks: tick labels of the x axis, by value.
        y_ticks: tick labels of the y axis, by value.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        x_ticks: Mapping[float, str],
        y_ticks: Mapping[float, str],
    ):
        self._x, self._y = x, y
        self.elements: list[Markup] = []
        for value, text in y_ticks.items():
            top = self.at(x[0], value)[1]
            self.add('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', _LEFT,
                     _WIDTH - _RIGHT, top, top)  # fmt: skip
            self.add('<text x="{}" y="{}" text-anchor="end">{}</text>', _LEFT - 6, top + 4, text)
        for value, text in x_ticks.items():
            left = self.at(value, y[0])[0]
            self.add('<text x="{}" y="{}" text-anchor="middle">{}</text>', left,
                     _HEIGHT - _BOTTOM + 18, text)  # fmt: skip
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        self.add('<text x="{}" y="{}" text-anchor="middle">{}</text>', middle, _HEIGHT - 8,
                 labels[0])  # fmt: skip
        self.add(
            '<text transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>',
            (_TOP + _HEIGHT - _BOTTOM) / 2,
            labels[1],
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Returns the position of a value in pixels, from the left and from the top."""
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        left = _LEFT + across * (_WIDTH - _LEFT - _RIGHT)
        top = _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)
        return round(left, 1), round(top, 1)

    def add(self, element: str, *values: object) -> None:
        """Adds an SVG element, formatted with escaped values."""
        self.elements.append(Markup(element).format(*values))

    def line(self, points: Sequence[tuple[float, float]], css_class: str) -> None:
        path = " ".join(f"{left},{top}" for left, top in (self.at(*point) for point in points))
        self.add('<polyline class="{}" points="{}"/>', css_class, path)

    def point(self, x: float, y: float, title: str, radius: float = 4) -> None:
        self.add('<circle cx="{}" cy="{}" r="{}"><title>{}</title></circle>', *self.at(x, y),
                 round(radius, 1), title)  # fmt: skip

    def svg(self, title: str) -> Markup:
        return Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        ).format(_WIDTH, _HEIGHT, title, Markup("").join(self.elements))


def _ticks(low: float, high: float, text: Callable[[float], str]) -> dict[float, str]:
    """Returns about five round values in a non-negative range, with their labels."""
    raw = (high - low) / 5
    power = 10 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = abs(np.ceil(low / step - 1e-9)) * step
    return {float(v): text(float(v)) for v in np.arange(first, high + step / 1e6, step)}


def learning_curve(curve: Sequence[Mapping[str, Any]]) -> Markup:
    """Draws accuracy and its 95% interval by the number of training photos."""
    most = max(step["photos"] for step in curve)
    low = min(step["interval"][0] for step in curve)
    high = max(step["interval"][1] for step in curve)
    y = (max(0.0, low - 0.02), min(1.0, high + 0.02))
    axes = _Axes(
        (0, most * 1.05),
        y,
        ("training photos", "accuracy"),
        _ticks(0, most, lambda value: f"{value:,.0f}"),
        _ticks(*y, lambda value: f"{100 * value:.3g}%"),
    )
    for step in curve:
        left, top = axes.at(step["photos"], step["interval"][1])
        bottom = axes.at(step["photos"], step["interval"][0])[1]
        axes.add('<line class="bar" x1="{}" x2="{}" y1="{}" y2="{}"/>', left, left, top, bottom)
    axes.line([(step["photos"], step["accuracy"]) for step in curve], "curve")
    for step in curve:
        title = f"{count(step['photos'], 'photo')}: {fraction(step['accuracy'])}"
        axes.point(step["photos"], step["accuracy"], title)
    return axes.svg("Accuracy by number of training photos")


def calibration(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Draws accuracy by score (a reliability diagram); a point's size shows its share of photos."""
    ticks = {value: f"{value:.0%}" for value in (0.0, 0.25, 0.5, 0.75, 1.0)}
    scores = {value: f"{value:g}" for value in ticks}
    axes = _Axes((0, 1.02), (0, 1.02), ("score", "accuracy"), scores, ticks)
    axes.line([(0, 0), (1, 1)], "ideal")
    filled = [entry for entry in bins if entry["photos"]]
    axes.line([(entry["score"], entry["accuracy"]) for entry in filled], "curve")
    most = max((entry["photos"] for entry in filled), default=1)
    for entry in filled:
        title = f"{count(entry['photos'], 'photo')} scored about {entry['score']:.2f}: "
        title += f"{fraction(entry['accuracy'])} correct"
        radius = 3 + 7 * (entry["photos"] / most) ** 0.5
        axes.point(entry["score"], entry["accuracy"], title, radius)
    return axes.svg("Accuracy by score")


def comparison(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draws accuracy and its 95% interval by the time per image on this machine's CPU."""
    slowest = max(row["milliseconds"] for row in rows)
    low = min(row["interval"][0] for row in rows)
    high = max(row["interval"][1] for row in rows)
    y = (max(0.0, low - 0.02), min(1.0, high + 0.02))
    axes = _Axes(
        (0, slowest * 1.15),
        y,
        ("milliseconds per image on this machine's CPU", "accuracy"),
        _ticks(0, slowest, lambda value: f"{value:g}"),
        _ticks(*y, lambda value: f"{100 * value:.3g}%"),
    )
    for number, row in enumerate(rows, start=1):
        left, top = axes.at(row["milliseconds"], row["interval"][1])
        bottom = axes.at(row["milliseconds"], row["interval"][0])[1]
        axes.add('<line class="bar" x1="{}" x2="{}" y1="{}" y2="{}"/>', left, left, top, bottom)
        title = f"{row['backbone']}, {row['recipe']}: {fraction(row['accuracy'])}"
        axes.point(row["milliseconds"], row["accuracy"], title)
        left, top = axes.at(row["milliseconds"], row["accuracy"])
        axes.add('<text x="{}" y="{}">{}</text>', left + 7, top + 4, number)
    return axes.svg("Accuracy by time per image")
