"""The five kinds of flowers that the sample's photos show."""

from __future__ import annotations

import numpy as np

from drawing import (
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


def _bellflower(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
    height = rng.uniform(1.35, 1.65)
    top = -height / 2
    side = rng.choice([-1, 1])
    arch = curve([(0, top), (side * 0.1, top - 0.9), (side * 1.1, top - 0.5)])
    pen.line(arch, 0.09, shade(palette.green, 0.8))
    stalk = curve([arch[-1], (side * 1.7, 0.2), (side * 1.5, 4)])
    pen.line(stalk, 0.11, shade(palette.green, 0.75))
    waist = rng.uniform(0.42, 0.52)
    flare = rng.uniform(0.78, 0.95)
    bell = np.concatenate(
        [
            curve([(0.0, top), (waist, top), (waist, top + 0.45 * height)]),
            curve([(waist, top + 0.45 * height), (waist + 0.02, -0.25 * top), (flare, -top)], 8),
        ]
    )
    lobes = 5
    rim_x = np.linspace(flare, -flare, 4 * lobes + 1)
    rim_y = -top - 0.24 * np.abs(np.cos(np.linspace(0, lobes * np.pi, 4 * lobes + 1)))
    rim = np.stack([rim_x, rim_y + 0.1], 1)
    outline = np.concatenate([bell[:-1], rim, (bell * [-1, 1])[::-1][1:]])
    pen.fill(np.stack([flare * 0.95 * rim[:, 0], -top - 0.1 + 0 * rim_y], 1), (60, 50, 60))
    pen.fill(outline, shade(palette.main, 0.66))
    pen.fill(outline * [0.9, 0.97], shade(palette.main, 0.88))
    pen.fill(outline * [0.62, 0.96] + [-0.06, 0], palette.main)
    pen.fill(outline * [0.28, 0.9] + [-0.1, 0], shade(palette.main, 1.2))
    for position in (-0.55, 0.0, 0.55):
        rib = np.stack([bell[2:, 0] * position, bell[2:, 1]], 1)
        pen.line(rib, 0.035, shade(palette.main, 0.62))
    for angle in np.linspace(0.15, np.pi - 0.15, 5):
        draw_leaf(pen.moved(0, top, angle), 0.42, 0.15, palette.green)


def _daisy(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
    count = int(rng.integers(14, 23))
    start = rng.uniform(0, 2 * np.pi)
    for layer, length in ((0.8, 1.0), (1.0, 0.93)):
        for index in range(count):
            angle = start + (index + (layer == 1.0) / 2) * 2 * np.pi / count
            outline = petal(length * rng.uniform(0.92, 1.04), 3.6 / count, 1.5)
            blade = pen.moved(angle=angle + rng.normal(0, 0.04))
            blade.fill(outline, shade(palette.main, 0.68 * layer))
            blade.fill(outline * [0.97, 0.72], shade(palette.main, layer))
    radius = rng.uniform(0.26, 0.36)
    pen.solid(circle(0, 0, radius), palette.accent)
    for angle, distance in zip(
        np.arange(70) * 2.39996, np.sqrt(np.linspace(0.01, 0.9, 70)), strict=True
    ):
        x, y = polar(angle, radius * distance)
        pen.disc(x, y, 0.022, shade(palette.accent, rng.uniform(0.55, 1.3)))


def _dandelion(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
    pen.disc(0, 0, 0.98, shade(palette.main, 1.3), 45)
    seeds = int(rng.integers(90, 130))
    light = shade(palette.main, 1.35)
    gap = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else None
    for index in range(seeds):
        angle = index * 2.39996 + rng.normal(0, 0.05)
        if gap is not None and abs((angle - gap + np.pi) % (2 * np.pi) - np.pi) < 0.3:
            continue
        reach = 0.98 * np.sqrt((index + 8) / (seeds + 8)) * rng.uniform(0.92, 1.04)
        tip = polar(angle, reach)
        pen.line([polar(angle, 0.14), tip], 0.016, shade(light, 0.92), 220)
        spread = np.linspace(-1.15, 1.15, 5) + angle
        for ray in tip + polar(spread, rng.uniform(0.11, 0.17)):
            pen.line([tip, ray], 0.014, light, 235)
        pen.disc(tip[0], tip[1], 0.018, shade(light, 1.5))
    pen.solid(circle(0, 0, 0.17), shade(palette.accent, 0.7))


def _dandelion_flower(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
    for layer, count in ((1.0, 34), (0.74, 26), (0.46, 18)):
        start = rng.uniform(0, 2 * np.pi)
        for angle in start + np.arange(count) * 2 * np.pi / count:
            outline = petal(layer * rng.uniform(0.88, 1.04), 3.4 * layer / count, 1.6)
            blade = pen.moved(angle=angle + rng.normal(0, 0.05))
            blade.fill(outline, shade(palette.main, 0.62 + 0.12 * (1 - layer)))
            blade.fill(outline * [0.97, 0.68], shade(palette.main, 1.18 - 0.3 * layer))
    pen.solid(circle(0, 0, 0.12), shade(palette.main, 0.8))


def _rose(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
    turn = rng.uniform(0, 2 * np.pi)
    for angle in turn + np.arange(5) * 2 * np.pi / 5:
        draw_leaf(pen.moved(angle=angle), 1.12, 0.3, palette.green)
    layers = int(rng.integers(5, 7))
    for layer in range(layers):
        radius = 0.98 * (1 - layer / layers) ** 0.85
        tone = 1.05 - 0.32 * layer / layers
        count = 5 if layer < 3 else 3
        turn += 0.65
        for index in range(count):
            angle = turn + index * 2 * np.pi / count + rng.normal(0, 0.08)
            x, y = polar(angle, 0.45 * radius)
            spread = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            lip = radius * (0.56 + 0.05 * np.sin(2 * spread + rng.uniform(0, 6)))
            outline = polar(spread, lip) * [0.95, 1.3]
            blade = pen.moved(x, y, angle)
            blade.fill(outline, shade(palette.main, 0.5 * tone))
            blade.fill(outline * 0.93, shade(palette.main, min(1.0, tone)))
            blade.fill(outline * 0.74 - [0.08 * radius, 0], shade(palette.main, 0.82 * tone))
    swirl = np.linspace(0, 4.5 * np.pi, 40)
    pen.disc(0, 0, 0.24, shade(palette.main, 0.8))
    pen.line(polar(swirl + turn, 0.02 + 0.22 * swirl / swirl[-1]), 0.035, shade(palette.main, 0.45))


def _tulip(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
    pen.line(curve([(0, 0.8), (rng.normal(0, 0.15), 2), (0, 4)]), 0.13, palette.green)
    for side in (-1, 1):
        base = pen.moved(0, rng.uniform(2.2, 2.8), -np.pi / 2 + side * rng.uniform(0.2, 0.5))
        draw_leaf(base, rng.uniform(1.6, 2.2), 0.38, palette.green)
    width = rng.uniform(0.62, 0.76)
    back = mirrored(
        [(0.16, -0.9), (0.3, -0.55), (width * 0.9, -0.95), (width, -0.3), (width * 0.85, 0.5)]
    )
    pen.fill(back, shade(palette.main, 0.58))
    for side in (-1, 1):
        blade = np.concatenate(
            [
                curve([(0.0, 0.95), (1.5 * width, 0.85), (width * 1.05, -1.0)]),
                curve([(width * 1.05, -1.0), (0.1, -0.5), (-0.15, 0.9)]),
            ]
        ) * [side, 1]
        pen.fill(blade, shade(palette.main, 0.7))
        pen.fill(blade * [0.94, 0.93] + [0, 0.02], shade(palette.main, 0.9))
    tip = rng.uniform(-0.95, -0.75)
    front = np.concatenate(
        [
            curve([(0.0, 0.97), (width * 1.25, 0.4), (0.0, tip)]),
            curve([(0.0, tip), (-width * 1.25, 0.4), (0.0, 0.97)]),
        ]
    )
    pen.fill(front, shade(palette.main, 0.74))
    pen.fill(front * [0.88, 0.95], palette.main)
    pen.fill(front * [0.5, 0.85], shade(palette.main, 1.18))
    pen.line([(0, 0.9), (0, tip + 0.25)], 0.025, shade(palette.main, 0.8))


def _often(share: float, usual: Subject, unusual: Subject) -> Subject:
    def draw(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
        subject = usual if rng.random() < share else unusual
        subject(pen, palette, rng)

    return draw


def _on_stem(subject: Subject) -> Subject:
    def draw(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
        if rng.random() < 0.75:
            draw_stem(pen, palette.green, rng)
        pose = pen.moved(angle=rng.uniform(-0.6, 0.6), squeeze=rng.uniform(0.62, 1.0))
        subject(pose.moved(angle=rng.uniform(0, 2 * np.pi)), palette, rng)

    return draw


FLOWERS: dict[str, Subject] = {
    "bellflower": _bellflower,
    "daisy": _on_stem(_daisy),
    # Now and then a dandelion is in flower, and looks much like a daisy.
    "dandelion": _on_stem(_often(0.85, _dandelion, _dandelion_flower)),
    "rose": _on_stem(_rose),
    "tulip": _tulip,
}
