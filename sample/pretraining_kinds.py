"""Drawn kinds on which the demo's backbone is trained: shapes near to flowers, none of them one.

The demo's five classes are left out, so that the demo measures what it claims to measure: a new
last layer on a backbone that has never seen its classes.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drawing import (
    Colour,
    Palette,
    Pen,
    Subject,
    circle,
    curve,
    draw_leaf,
    draw_stem,
    mirrored,
    petal,
    polar,
    shade,
)

Rng = np.random.Generator


def _turned(subject: Subject) -> Subject:
    """Draws a subject at any angle, tilted, often on a stem, as a flower seen from above."""

    def draw(pen: Pen, palette: Palette, rng: Rng) -> None:
        if rng.random() < 0.6:
            draw_stem(pen, palette.green, rng)
        pose = pen.moved(angle=rng.uniform(-0.6, 0.6), squeeze=rng.uniform(0.62, 1.0))
        subject(pose.moved(angle=rng.uniform(0, 2 * np.pi)), palette, rng)

    return draw


def _angles(count: int) -> NDArray[np.float64]:
    return np.arange(count) * 2 * np.pi / count


def _ellipse(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    return circle(0, 0, 1) * [width, height] + [x, y]


def _volume(pen: Pen, outline: ArrayLike, colour: Colour) -> None:
    """Fills an upright outline [N, 2] with vertical bands of light."""
    outline = np.asarray(outline, float)
    pen.fill(outline, shade(colour, 0.66))
    pen.fill(outline * [0.88, 0.96], shade(colour, 0.88))
    pen.fill(outline * [0.6, 0.94] + [-0.06, 0], colour)
    pen.fill(outline * [0.25, 0.9] + [-0.1, 0], shade(colour, 1.18))


def _rosette(
    count: int, width: float, fullness: float, centre: float, notch: float = 0.0
) -> Subject:
    """Returns a ring of petals that differ from another rosette's in number and shape."""

    def draw(pen: Pen, palette: Palette, rng: Rng) -> None:
        outline = petal(rng.uniform(0.92, 1.02), width * rng.uniform(0.9, 1.1), fullness)
        if notch:
            outline = np.insert(outline, len(outline) // 2, [1 - notch, 0], axis=0)
        for angle in _angles(count) + rng.normal(0, 0.04, count):
            blade = pen.moved(angle=angle)
            blade.fill(outline, shade(palette.main, 0.66))
            blade.fill(outline * [0.96, 0.85], palette.main)
            blade.fill(outline * [0.8, 0.4], shade(palette.main, 1.15))
            blade.line([(0.1, 0), (0.75, 0)], 0.025, shade(palette.main, 0.7))
        pen.solid(circle(0, 0, centre * rng.uniform(0.85, 1.15)), palette.accent)

    return draw


def _star(pen: Pen, palette: Palette, rng: Rng) -> None:
    count = int(rng.integers(5, 9))
    radius = np.where(np.arange(2 * count) % 2, rng.uniform(0.4, 0.6), 1.0)
    pen.solid(polar(_angles(2 * count), radius), palette.main)
    for angle in _angles(count):
        pen.line([(0, 0), polar(angle, 0.9)], 0.03, shade(palette.main, 0.7))


def _starfish(pen: Pen, palette: Palette, rng: Rng) -> None:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    reach = 0.3 + 0.7 * ((1 + np.cos(5 * angle)) / 2) ** rng.uniform(0.9, 1.6)
    pen.solid(polar(angle, reach), palette.main)
    for arm in _angles(5):
        for distance in np.linspace(0.1, 0.85, 8):
            pen.disc(*polar(arm, distance), 0.045 * (1.2 - distance), palette.accent)


def _pinwheel(pen: Pen, palette: Palette, rng: Rng) -> None:
    count = int(rng.integers(4, 8))
    for angle in _angles(count):
        blade = pen.moved(angle=angle)
        edge = np.concatenate([curve([(0, 0), (0.5, -0.5), (1, 0)]), [(0.65, 0.25), (0, 0)]])
        blade.fill(edge, shade(palette.main, 0.7))
        blade.fill(edge * [0.9, 0.7], palette.main)
    pen.solid(circle(0, 0, 0.1), palette.accent)


def _trefoil(pen: Pen, palette: Palette, rng: Rng) -> None:
    for angle in _angles(3):
        blade = pen.moved(angle=angle + rng.normal(0, 0.06))
        for x, y, radius in ((0.62, 0.2, 0.34), (0.62, -0.2, 0.34), (0.35, 0, 0.25)):
            blade.disc(x, y, radius, shade(palette.main, 0.72))
        for y in (0.2, -0.2):
            blade.disc(0.6, y, 0.27, palette.main)
        blade.line([(0, 0), (0.8, 0)], 0.04, shade(palette.main, 0.6))


def _snowflake(pen: Pen, palette: Palette, rng: Rng) -> None:
    branches = np.linspace(0.35, 0.85, int(rng.integers(2, 5)))
    light, lean = shade(palette.main, 1.3), rng.uniform(0.8, 1.2)
    for angle in _angles(6):
        arm = pen.moved(angle=angle)
        arm.line([(0, 0), (1, 0)], 0.05, light)
        for start in branches:
            for side in (-lean, lean):
                tip = np.array([start, 0]) + polar(side, 0.4 * (1.1 - start) + 0.06)
                arm.line([(start, 0), tip], 0.035, light)


def _firework(pen: Pen, palette: Palette, rng: Rng) -> None:
    count = int(rng.integers(18, 36))
    for angle in _angles(count) + rng.normal(0, 0.03, count):
        start, reach = rng.uniform(0.1, 0.3), rng.uniform(0.75, 1.0)
        drop = curve([polar(angle, start), polar(angle, 0.8 * reach), polar(angle + 0.12, reach)])
        pen.line(drop, 0.02, shade(palette.main, 1.2))
        pen.disc(*drop[-1], 0.035, palette.accent)


def _urchin(pen: Pen, palette: Palette, rng: Rng) -> None:
    for angle in _angles(int(rng.integers(24, 40))):
        spine = pen.moved(angle=angle + rng.normal(0, 0.06))
        reach = rng.uniform(0.8, 1.0)
        spine.fill([(0.3, -0.06), (reach, 0), (0.3, 0.06)], shade(palette.main, 0.75))
    pen.solid(circle(0, 0, rng.uniform(0.5, 0.62)), palette.main)
    for _ in range(30):
        x, y = polar(rng.uniform(0, 2 * np.pi), 0.5 * np.sqrt(rng.random()))
        pen.disc(x, y, 0.03, shade(palette.main, 0.6))


def _cobweb(pen: Pen, palette: Palette, rng: Rng) -> None:
    spokes = _angles(int(rng.integers(8, 13)))
    light = shade(palette.main, 1.3)
    for angle in spokes:
        pen.line([(0, 0), polar(angle, 1.0)], 0.02, light)
    for radius in np.linspace(0.2, 0.95, int(rng.integers(4, 7))):
        ring = polar(np.append(spokes, spokes[:1]), radius)
        pen.line(ring, 0.018, shade(light, 0.9))


def _umbel(pen: Pen, palette: Palette, rng: Rng) -> None:
    count = int(rng.integers(9, 14))
    for angle in np.linspace(-2.7, -0.45, count):
        x, y = polar(angle, rng.uniform(0.8, 0.95)) * [1, 1.3] + [0, 0.6]
        pen.line(curve([(0, 0.9), (0.3 * x, 0.2), (x, y)]), 0.025, palette.green)
        for _ in range(6):
            dx, dy = rng.normal(0, 0.08, 2)
            pen.disc(x + dx, y + dy, 0.05, shade(palette.main, rng.uniform(0.8, 1.2)))
    pen.line([(0, 0.9), (0, 4)], 0.07, palette.green)


def _snail(pen: Pen, palette: Palette, rng: Rng) -> None:
    body = curve([(-1.0, 0.75), (0.2, 0.95), (0.95, 0.2)])
    pen.line(body, 0.22, palette.accent)
    for x in (0.85, 1.05):
        pen.line([(0.92, 0.2), (x, -0.15)], 0.04, palette.accent)
    pen.solid(circle(-0.15, 0, 0.72), palette.main)
    turn = np.linspace(0, rng.uniform(4, 6) * np.pi, 60)
    pen.line(polar(turn, 0.68 * turn / turn[-1]) - [0.15, 0], 0.06, shade(palette.main, 0.5))


def _coil(pen: Pen, palette: Palette, rng: Rng) -> None:
    turn = np.linspace(0.5, rng.uniform(5, 9) * np.pi, 90)
    path = polar(turn, 0.95 * turn / turn[-1])
    pen.line(path, 0.13, shade(palette.main, 0.6))
    pen.line(path, 0.08, shade(palette.main, 1.1))


def _rings(pen: Pen, palette: Palette, rng: Rng) -> None:
    radii = np.linspace(1.0, 0.15, int(rng.integers(5, 9)))
    for index, radius in enumerate(radii):
        colour = palette.accent if index % 2 else palette.main
        pen.disc(0, 0, radius, shade(colour, rng.uniform(0.8, 1.1)))


def _scallops(pen: Pen, palette: Palette, rng: Rng) -> None:
    """Overlapping round scales in rings that shrink towards the middle."""
    for ring, radius in enumerate(np.linspace(0.8, 0.12, int(rng.integers(4, 6)))):
        count = max(5, round(12 * radius))
        for angle in _angles(count) + ring * np.pi / count:
            x, y = polar(angle, radius)
            pen.disc(x, y, 0.24, shade(palette.main, 0.55))
            pen.disc(0.96 * x, 0.96 * y, 0.2, shade(palette.main, 1.1 - 0.1 * ring))


def _knot(pen: Pen, palette: Palette, rng: Rng) -> None:
    """Interlaced arcs: open circles around the middle."""
    count = int(rng.integers(3, 7))
    for angle in _angles(count):
        x, y = polar(angle, 0.45)
        for width, tone in ((0.14, 0.55), (0.08, 1.1)):
            pen.line(circle(x, y, 0.48)[[*range(28), 0]], width, shade(palette.main, tone))


def _pine_cone(pen: Pen, palette: Palette, rng: Rng) -> None:
    rows = int(rng.integers(6, 9))
    for row in range(rows):
        y = -0.85 + 1.6 * row / (rows - 1)
        half = 0.75 * np.sin(np.pi * (row + 1) / (rows + 1)) ** 0.7
        for x in np.linspace(-half, half, 4 + row % 2):
            scale = pen.moved(x, y, np.pi / 2 + 0.5 * x)
            scale.fill(petal(0.42, 0.34, 1.4), shade(palette.main, 0.5))
            scale.fill(petal(0.36, 0.26, 1.4), shade(palette.main, rng.uniform(0.8, 1.05)))


def _fan(pen: Pen, palette: Palette, rng: Rng) -> None:
    edges = np.linspace(-np.pi + 0.15, -0.15, int(rng.integers(7, 12)))
    for index, (left, right) in enumerate(pairwise(edges)):
        sector = np.array([(0, 0), polar(left), polar((left + right) / 2, 1.06), polar(right)])
        tone = 0.7 if index % 2 else 1.05
        pen.fill(sector * [1, 1.4] + [0, 0.7], shade(palette.main, tone))
    pen.solid(circle(0, 0.7, 0.1), palette.accent)


def _umbrella(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.line([(0, -0.8), (0, 0.8)], 0.06, palette.accent)
    pen.line(curve([(0, 0.8), (0.15, 1.1), (0.3, 0.8)]), 0.06, palette.accent)
    dome = polar(np.linspace(np.pi, 2 * np.pi, 20)) * [1, 0.85]
    count = int(rng.integers(3, 6))
    x = np.linspace(1, -1, 8 * count + 1)
    hem = np.stack([x, -0.16 * np.abs(np.sin(np.linspace(0, count * np.pi, len(x))))], 1)
    pen.fill(np.concatenate([dome, hem]), shade(palette.main, 0.8))
    pen.fill(np.concatenate([dome, hem]) * [0.6, 0.95], palette.main)
    for rib in np.linspace(-1, 1, count + 1)[1:-1]:
        pen.line(curve([(0, -0.85), (rib, -0.7), (rib, 0)]), 0.03, shade(palette.main, 0.6))


def _mushroom(pen: Pen, palette: Palette, rng: Rng) -> None:
    stalk = rng.uniform(0.15, 0.26)
    _volume(pen, mirrored([(stalk, -0.2), (stalk * 1.1, 0.5), (stalk * 1.5, 1.0)]), palette.accent)
    cap = polar(np.linspace(np.pi, 2 * np.pi, 24)) * [1.0, rng.uniform(0.7, 1.0)]
    cap = np.concatenate([cap, curve([(1, 0), (0, rng.uniform(0.1, 0.35)), (-1, 0)])])
    _volume(pen, cap, palette.main)
    for _ in range(rng.integers(4, 10)):
        x, y = rng.uniform(-0.65, 0.65), rng.uniform(-0.55, -0.1)
        pen.disc(x, y, rng.uniform(0.05, 0.11), shade(palette.main, 1.6))


def _jellyfish(pen: Pen, palette: Palette, rng: Rng) -> None:
    for x in np.linspace(-0.6, 0.6, int(rng.integers(5, 9))):
        bend = rng.normal(0, 0.3)
        tail = curve([(x, -0.1), (x + bend, 0.5), (x - bend, 1.1)])
        pen.line(tail, 0.05, shade(palette.main, 0.9))
    dome = polar(np.linspace(np.pi, 2 * np.pi, 24)) * [0.8, 0.85]
    _volume(pen, dome, palette.main)


def _mug(pen: Pen, palette: Palette, rng: Rng) -> None:
    side = rng.choice([-1, 1])
    loop = _ellipse(0.68 * side, 0.05, 0.35, 0.42)[[*range(28), 0]]
    pen.line(loop, 0.13, shade(palette.main, 0.7))
    top, base = rng.uniform(0.6, 0.75), rng.uniform(0.5, 0.65)
    _volume(pen, mirrored([(top, -0.75), (base, 0.75), (0.8 * base, 0.85)]), palette.main)
    pen.fill(_ellipse(0, -0.75, top, 0.14), shade(palette.main, 1.2))
    pen.fill(_ellipse(0, -0.74, 0.88 * top, 0.1), shade(palette.accent, 0.5))


def _goblet(pen: Pen, palette: Palette, rng: Rng) -> None:
    width = rng.uniform(0.55, 0.8)
    bowl = curve([(width, -0.95), (width * 1.1, 0.1), (0.08, 0.2)])
    foot = [(0.08, 0.75), (0.5, 0.9), (0.5, 1.0)]
    _volume(pen, mirrored(np.concatenate([bowl, foot])), palette.main)
    pen.fill(_ellipse(0, -0.95, width, 0.12), shade(palette.accent, 0.6))


def _bowl(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.fill(_ellipse(0, -0.3, 0.98, 0.25), shade(palette.main, 0.5))
    depth = rng.uniform(0.7, 1.2)
    body = polar(np.linspace(0, np.pi, 24)) * [0.98, depth] - [0, 0.3]
    body = np.concatenate([body, curve([(-0.98, -0.3), (0, 0.2), (0.98, -0.3)])])
    _volume(pen, body, palette.main)
    for x in np.linspace(-0.5, 0.5, 4):
        pen.line(curve([(x, 0), (0.9 * x, 0.3), (0.4 * x, depth - 0.4)]), 0.03, palette.accent)


def _crown(pen: Pen, palette: Palette, rng: Rng) -> None:
    points = int(rng.integers(3, 6))
    top, base = rng.uniform(0.8, 1.0), rng.uniform(0.6, 0.8)
    x = np.linspace(-top, top, 2 * points - 1)
    y = np.where(np.arange(2 * points - 1) % 2, -0.15, -0.8)
    pen.fill(np.stack([0.9 * x, y - 0.05], 1)[::-1], shade(palette.main, 0.5))
    rim = np.concatenate([np.stack([x, y], 1), [(base, 0.75), (-base, 0.75)]])
    _volume(pen, rim, palette.main)
    for tip in x[::2]:
        pen.disc(tip, -0.85, 0.1, palette.accent)


def _lamp(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.line([(0, -0.6), (rng.normal(0, 0.1), -4)], 0.05, shade(palette.accent, 0.5))
    pen.disc(0, 0.45, 0.24, shade(palette.accent, 1.5))
    top = rng.uniform(0.12, 0.3)
    cone = mirrored([(top, -0.7), (rng.uniform(0.85, 1.0), 0.5), (0.85, 0.55)])
    _volume(pen, cone, palette.main)


def _lantern(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.line([(0, -0.7), (rng.normal(0, 0.2), -3)], 0.05, palette.green)
    width = rng.uniform(0.6, 0.85)
    _volume(pen, _ellipse(0, 0, width, 0.78), palette.main)
    for position in (-0.8, -0.4, 0.4, 0.8):
        bow = width * position * 1.9
        pen.line(curve([(0, -0.75), (bow, 0), (0, 0.75)]), 0.035, shade(palette.main, 0.6))
    for y in (-0.78, 0.78):
        pen.fill(_ellipse(0, y, 0.3, 0.09), palette.accent)
    for x in (-0.12, 0, 0.12):
        pen.line([(x, 0.8), (1.4 * x, 1.15)], 0.03, palette.accent)


def _pear(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.line(curve([(0, -0.7), (0.1, -1.1), (rng.normal(0, 0.4), -2.5)]), 0.08, palette.green)
    neck, belly = rng.uniform(0.18, 0.35), rng.uniform(0.85, 1.1)
    side = np.concatenate(
        [
            curve([(0, -0.85), (neck * 1.5, -0.85), (neck * 1.3, -0.3)], 8),
            curve([(neck * 1.3, -0.3), (belly, 0.3), (0.5, 0.8)], 8),
            curve([(0.5, 0.8), (0.3, 0.95), (0, 0.9)], 6),
        ]
    )
    _volume(pen, mirrored(side), palette.main)
    draw_leaf(pen.moved(0, -0.85, rng.uniform(-0.6, 0.4)), 0.7, 0.28, palette.green)


def _cherries(pen: Pen, palette: Palette, rng: Rng) -> None:
    for x in (-0.5, 0.5):
        y = rng.uniform(0.35, 0.6)
        pen.line(curve([(0, -0.95), (x, -0.5), (x, y - 0.3)]), 0.06, palette.green)
        pen.solid(circle(x, y, rng.uniform(0.34, 0.42)), palette.main)
    draw_leaf(pen.moved(0, -0.95, rng.uniform(-0.2, 0.5)), 0.8, 0.35, palette.green)


def _acorn(pen: Pen, palette: Palette, rng: Rng) -> None:
    nut = curve([(0.58, -0.2), (0.62, 0.75), (0, 1.0)])
    _volume(pen, mirrored(nut), palette.main)
    pen.fill(polar(np.linspace(np.pi, 2 * np.pi, 20)) * [0.72, 0.6] - [0, 0.12], palette.accent)
    for y in np.linspace(-0.55, -0.2, 3):
        for x in np.linspace(-0.5, 0.5, int(rng.integers(4, 7))):
            pen.disc(x * (1.1 + y), y, 0.06, shade(palette.accent, 0.65))
    pen.line([(0, -0.7), (rng.normal(0, 0.1), -1.1)], 0.1, palette.green)


def _bottle(pen: Pen, palette: Palette, rng: Rng) -> None:
    neck, body = rng.uniform(0.12, 0.2), rng.uniform(0.35, 0.5)
    side = [(neck, -1.0), (neck, -0.45), (body, -0.1), (body, 0.95), (body * 0.85, 1.0)]
    _volume(pen, mirrored(side), palette.main)
    pen.fill(mirrored([(body, 0.1), (body, 0.6)]), palette.accent)


def _butterfly(pen: Pen, palette: Palette, rng: Rng) -> None:
    for side in (-1, 1):
        for angle, length, width in ((-0.6, 1.05, 0.75), (0.65, 0.8, 0.6)):
            wing = pen.moved(0, 0, 0 if side > 0 else np.pi, squeeze=side).moved(angle=angle)
            outline = petal(length, width * rng.uniform(0.9, 1.1), 1.5)
            wing.fill(outline, shade(palette.main, 0.6))
            wing.fill(outline * [0.92, 0.8], palette.main)
            wing.disc(0.65 * length, 0, 0.12, palette.accent)
        pen.line(curve([(0, -0.4), (0.1 * side, -0.8), (0.35 * side, -0.95)]), 0.03, (50, 40, 40))
    pen.fill(_ellipse(0, 0, 0.09, 0.5), (60, 50, 45))


def _fish(pen: Pen, palette: Palette, rng: Rng) -> None:
    tail = np.array([(0.5, 0), (1.0, -0.45), (0.85, 0), (1.0, 0.45)])
    pen.fill(tail, shade(palette.main, 0.75))
    height = rng.uniform(0.4, 0.65)
    pen.fill([(-0.3, -0.8 * height), (0.1, -1.5 * height), (0.4, -0.4 * height)], palette.accent)
    pen.solid(petal(1.6, 2 * height, 0.8) - [0.95, 0], palette.main)
    for x in np.linspace(-0.3, 0.4, 4):
        arc = curve([(x, -0.5 * height), (x + 0.15, 0), (x, 0.5 * height)])
        pen.line(arc, 0.03, shade(palette.main, 0.6))
    pen.disc(-0.65, -0.1, 0.07, (30, 30, 35))


def _ladybird(pen: Pen, palette: Palette, rng: Rng) -> None:
    for y in (-0.3, 0.1, 0.5):
        pen.line([(-1.0, y - 0.1), (1.0, y - 0.1)], 0.06, (40, 35, 35))
    pen.disc(0, -0.68, 0.32, (40, 35, 35))
    pen.solid(_ellipse(0, 0.1, 0.75, 0.85), palette.main)
    pen.line([(0, -0.7), (0, 0.9)], 0.04, (40, 35, 35))
    for side in (-1, 1):
        for y in (-0.3, 0.1, 0.5):
            pen.disc(side * rng.uniform(0.25, 0.45), y, rng.uniform(0.08, 0.14), (40, 35, 35))


def _gear(pen: Pen, palette: Palette, rng: Rng) -> None:
    teeth = int(rng.integers(8, 15))
    radius = np.where(np.arange(4 * teeth) // 2 % 2, 0.78, 1.0)
    pen.solid(polar(_angles(4 * teeth), radius), palette.main)
    pen.disc(0, 0, rng.uniform(0.2, 0.4), shade(palette.accent, 0.5))


def _wheel(pen: Pen, palette: Palette, rng: Rng) -> None:
    for angle in _angles(int(rng.integers(6, 13))):
        pen.line([(0, 0), polar(angle, 0.9)], 0.06, palette.main)
    for width, tone in ((0.2, 0.55), (0.11, 1.0)):
        pen.line(circle(0, 0, 0.88)[[*range(28), 0]], width, shade(palette.main, tone))
    pen.solid(circle(0, 0, 0.2), palette.accent)


def _heart(pen: Pen, palette: Palette, rng: Rng) -> None:
    t = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    x = np.sin(t) ** 3 * rng.uniform(0.85, 1.0)
    y = (-13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)) / 16
    pen.solid(np.stack([x, y], 1), palette.main)


def _crescent(pen: Pen, palette: Palette, rng: Rng) -> None:
    outer = polar(np.linspace(0.9, 2 * np.pi - 0.9, 40))
    inner = curve([outer[-1], (rng.uniform(-0.9, -0.2), 0), outer[0]], 24)
    pen.fill(np.concatenate([outer, inner]), shade(palette.main, 0.7))
    pen.fill(np.concatenate([outer, inner]) * 0.93 - [0.03, 0], palette.main)


def _fern(pen: Pen, palette: Palette, rng: Rng) -> None:
    for y in np.linspace(0.9, -0.85, int(rng.integers(8, 13))):
        length = 0.75 * (1 - (y + 0.1) ** 2 * 0.75)
        for side in (0.0, np.pi):
            leaf = pen.moved(0, y, side - 0.5 * np.cos(side))
            leaf.fill(petal(length, 0.15, 0.8), shade(palette.main, rng.uniform(0.7, 1.05)))
    pen.line([(0, -1), (0, 3)], 0.06, palette.green)


def _wheat(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.line([(0, 0.8), (rng.normal(0, 0.3), 4)], 0.07, palette.green)
    for y in np.linspace(-0.7, 0.8, int(rng.integers(6, 9))):
        for angle in (-np.pi / 2 - 0.5, -np.pi / 2 + 0.5):
            grain = pen.moved(0, y, angle)
            grain.line([(0.3, 0), (0.75, 0)], 0.015, shade(palette.main, 1.2))
            grain.fill(petal(0.45, 0.24), shade(palette.main, 0.6))
            grain.fill(petal(0.42, 0.15), palette.main)


def _cactus(pen: Pen, palette: Palette, rng: Rng) -> None:
    for side in (-1, 1):
        y = rng.uniform(-0.1, 0.3)
        arm = curve([(0, y + 0.3), (0.85 * side, y + 0.35), (0.7 * side, y - 0.5)])
        pen.line(arm, 0.24, shade(palette.main, 0.8))
    body = mirrored(np.concatenate([curve([(0, -1), (0.34, -1), (0.34, -0.5)]), [(0.3, 1.2)]]))
    _volume(pen, body, palette.main)
    for x in (-0.2, 0, 0.2):
        pen.line([(x, -0.8), (x, 1.1)], 0.03, shade(palette.main, 0.6))


def _palm(pen: Pen, palette: Palette, rng: Rng) -> None:
    pen.line(curve([(0, -0.2), (0.1, 0.6), (rng.normal(0, 0.3), 2)]), 0.14, palette.accent)
    for angle in np.linspace(-np.pi - 0.5, 0.5, int(rng.integers(6, 10))):
        x, y = polar(angle, 0.95)
        frond = curve([(0, -0.2), (0.6 * x, 0.9 * y - 0.4), (x, y + 0.1)])
        pen.line(frond, 0.12, shade(palette.main, 0.7))
        pen.line(frond, 0.06, palette.main)


PRETRAINING_KINDS: dict[str, Subject] = {
    "acorn": _acorn,
    "bottle": _bottle,
    "bowl": _bowl,
    "butterfly": _turned(_butterfly),
    "cactus": _cactus,
    "cherries": _cherries,
    "cobweb": _turned(_cobweb),
    "coil": _turned(_coil),
    "crescent": _turned(_crescent),
    "crown": _crown,
    "eight_petals": _turned(_rosette(8, 0.55, 1.4, 0.34)),
    "fan": _fan,
    "fern": _fern,
    "firework": _turned(_firework),
    "fish": _fish,
    "five_petals": _turned(_rosette(5, 0.85, 1.6, 0.18, notch=0.15)),
    "four_petals": _turned(_rosette(4, 0.95, 1.2, 0.14)),
    "gear": _turned(_gear),
    "goblet": _goblet,
    "heart": _turned(_heart),
    "jellyfish": _jellyfish,
    "knot": _turned(_knot),
    "ladybird": _turned(_ladybird),
    "lamp": _lamp,
    "lantern": _lantern,
    "mug": _mug,
    "mushroom": _mushroom,
    "palm": _palm,
    "pear": _pear,
    "pine_cone": _pine_cone,
    "pinwheel": _turned(_pinwheel),
    "rings": _turned(_rings),
    "scallops": _turned(_scallops),
    "six_petals": _turned(_rosette(6, 0.42, 0.8, 0.2)),
    "snail": _snail,
    "snowflake": _turned(_snowflake),
    "star": _turned(_star),
    "starfish": _turned(_starfish),
    "trefoil": _turned(_trefoil),
    "umbel": _umbel,
    "umbrella": _umbrella,
    "urchin": _turned(_urchin),
    "wheat": _wheat,
    "wheel": _turned(_wheel),
}
