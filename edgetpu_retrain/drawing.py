"""Drawn pseudo-photos of flowers, for a demonstration that needs no download.

Kinds differ in shape only: colours, background, light, pose and noise of every photo are drawn
from the same distributions.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

SUPERSAMPLING = 2
PETAL_HUES = (0.0, 0.06, 0.12, 0.16, 0.6, 0.7, 0.78, 0.86, 0.94)


def _to_colour(rgb: NDArray[np.float64]) -> Colour:
    red, green, blue = (int(channel) for channel in np.clip(rgb, 0, 255))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darkens (factor below 1) or blends towards white (factor from 1 to 2) an RGB colour."""
    rgb = np.asarray(colour, float)
    rgb = rgb * factor if factor <= 1 else rgb + (255 - rgb) * (factor - 1)
    return _to_colour(rgb)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Converts hue, saturation and value, each from 0 to 1, to an RGB colour from 0 to 255."""
    weights = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    rgb = 255 * value * (1 - saturation + saturation * weights)
    return _to_colour(rgb)


@dataclass(frozen=True)
class Palette:
    """Colours of one subject: its main part, its contrasting part and its green parts."""

    main: Colour
    accent: Colour
    green: Colour

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        """Draws the colours, from the same distribution for every kind of subject."""
        hue = rng.choice(PETAL_HUES) + rng.normal(0, 0.015)
        saturation = rng.choice([rng.uniform(0.0, 0.15), rng.uniform(0.45, 0.9)], p=[0.25, 0.75])
        main = hsv(hue % 1, saturation, rng.uniform(0.72, 1.0))
        accent = hsv(rng.uniform(0.07, 0.16), rng.uniform(0.5, 0.95), rng.uniform(0.35, 0.95))
        return cls(main, accent, sample_green(rng))


def sample_green(rng: np.random.Generator) -> Colour:
    """Draws the green of a stem or a leaf."""
    return hsv(rng.uniform(0.22, 0.4), rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.6))


class Pen:
    """Draws on an image in the coordinates of a subject: unit radius, y pointing down."""

    def __init__(self, image: Image.Image, matrix: NDArray[np.float64]) -> None:
        """Takes an RGB image and the affine map [2, 3] from subject to pixel coordinates."""
        self.image = image
        self.matrix = matrix
        self._draw = ImageDraw.Draw(image, "RGBA")
        self._scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    def moved(
        self,
        x: float = 0.0,
        y: float = 0.0,
        angle: float = 0.0,
        scale: float = 1.0,
        squeeze: float = 1.0,
    ) -> Pen:
        """Returns a pen whose axes are squeezed (y only), scaled, turned (radians) and shifted."""
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        local = np.array([[cos, -sin * squeeze, x], [sin, cos * squeeze, y], [0.0, 0.0, 1.0]])
        return Pen(self.image, self.matrix @ local)

    def fill(self, points: ArrayLike, colour: Colour, alpha: int = 255) -> None:
        """Fills a polygon given as points [N, 2]."""
        self._draw.polygon(self._pixels(points), fill=(*colour, alpha))

    def line(self, points: ArrayLike, width: float, colour: Colour, alpha: int = 255) -> None:
        """Draws a polyline through points [N, 2]."""
        pixels = max(1, round(width * self._scale))
        self._draw.line(self._pixels(points), fill=(*colour, alpha), width=pixels, joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Colour, alpha: int = 255) -> None:
        """Fills a circle."""
        self.fill(circle(x, y, radius), colour, alpha)

    def solid(self, points: ArrayLike, colour: Colour) -> None:
        """Fills a polygon with a darker rim and a lighter middle, as if it were curved."""
        points = np.asarray(points, float)
        centre = points.mean(axis=0)
        self.fill(points, shade(colour, 0.68))
        self.fill(centre + 0.9 * (points - centre), shade(colour, 0.9))
        self.fill(centre + 0.72 * (points - centre), colour)
        self.fill(centre + 0.42 * (points - centre), shade(colour, 1.18))

    def _pixels(self, points: ArrayLike) -> list[tuple[float, float]]:
        mapped = np.asarray(points, float) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return [(x, y) for x, y in mapped.tolist()]


Subject = Callable[[Pen, Palette, np.random.Generator], None]


def circle(x: float, y: float, radius: float, corners: int = 28) -> NDArray[np.float64]:
    """Returns the outline [corners, 2] of a circle."""
    return np.array([x, y]) + radius * polar(np.linspace(0, 2 * np.pi, corners, endpoint=False))


def polar(angle: ArrayLike, radius: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Converts angles (radians) and radii to points [..., 2]."""
    angle = np.asarray(angle, float)
    return np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=-1)


def petal(length: float, width: float, fullness: float = 1.0) -> NDArray[np.float64]:
    """Returns the outline [N, 2] of a petal from the origin along x.

    A fullness above 1 moves the widest part towards the tip, below 1 towards the origin.
    """
    t = np.linspace(0, 1, 12)
    half = width / 2 * np.sin(np.pi * t**fullness) ** 0.8
    return np.concatenate([np.stack([t * length, half], 1), np.stack([t * length, -half], 1)[::-1]])


def curve(points: ArrayLike, steps: int = 14) -> NDArray[np.float64]:
    """Returns points [steps, 2] on the Bezier curve of 3 control points."""
    start, control, end = np.asarray(points, float)
    t = np.linspace(0, 1, steps)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def mirrored(profile: ArrayLike) -> NDArray[np.float64]:
    """Closes a right-hand profile [N, 2] with its mirror image about the y axis."""
    profile = np.asarray(profile, float)
    return np.concatenate([profile, (profile * [-1, 1])[::-1]])


def draw_leaf(pen: Pen, length: float, width: float, colour: Colour) -> None:
    """Draws a pointed leaf with a midrib from the origin along x."""
    outline = petal(length, width, 0.7)
    pen.fill(outline, shade(colour, 0.7))
    pen.fill(outline * [0.96, 0.8], colour)
    pen.line([(0, 0), (0.92 * length, 0)], 0.03 * length, shade(colour, 1.25))


def draw_stem(pen: Pen, green: Colour, rng: np.random.Generator) -> None:
    """Draws a stem from the origin downwards, often with leaves."""
    path = curve([(0, 0), (rng.normal(0, 0.3), 1.5), (rng.normal(0, 0.6), 4)], 24)
    pen.line(path, rng.uniform(0.07, 0.13), shade(green, 0.8))
    for _ in range(rng.integers(0, 3)):
        x, y = path[rng.integers(6, 14)]
        side = rng.choice([-1, 1])
        angle = -np.pi / 2 + side * rng.uniform(0.4, 1.3)
        leaf = pen.moved(x, y, angle, squeeze=side)
        draw_leaf(leaf, rng.uniform(0.6, 1.3), rng.uniform(0.2, 0.45), green)


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


def _on_stem(subject: Subject) -> Subject:
    def draw(pen: Pen, palette: Palette, rng: np.random.Generator) -> None:
        if rng.random() < 0.75:
            draw_stem(pen, palette.green, rng)
        pose = pen.moved(angle=rng.uniform(-0.6, 0.6), squeeze=rng.uniform(0.62, 1.0))
        subject(pose.moved(angle=rng.uniform(0, 2 * np.pi)), palette, rng)

    return draw


_FLOWERS: dict[str, Subject] = {
    "bellflower": _bellflower,
    "daisy": _on_stem(_daisy),
    "dandelion": _on_stem(_dandelion),
    "rose": _on_stem(_rose),
    "tulip": _tulip,
}
DEMO_CLASSES: tuple[str, ...] = tuple(_FLOWERS)


def _bokeh(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (48, 48), shade(sample_green(rng), rng.uniform(0.5, 1.2)))
    pen = Pen(image, np.array([[48.0, 0, 0], [0, 48.0, 0]]))
    for _ in range(rng.integers(12, 40)):
        colour = sample_green(rng) if rng.random() < 0.8 else Palette.sample(rng).main
        x, y = rng.uniform(0, 1, 2)
        pen.disc(x, y, rng.uniform(0.04, 0.2), shade(colour, rng.uniform(0.6, 1.4)), 130)
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 3)))
    return blurred.resize((width, height), Image.Resampling.BICUBIC)


def _meadow(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    sky = np.array(hsv(rng.uniform(0.52, 0.62), rng.uniform(0.05, 0.5), rng.uniform(0.7, 1.0)))
    ground = np.array(sample_green(rng))
    horizon = rng.uniform(0.1, 0.9)
    blend = 1 / (1 + np.exp(-(np.linspace(0, 1, height) - horizon) * rng.uniform(6, 30)))
    rows = sky + (ground - sky) * blend[:, None]
    rows = rows * np.linspace(rng.uniform(0.8, 1.1), rng.uniform(0.6, 1.0), height)[:, None]
    pixels = np.repeat(rows[:, None].clip(0, 255).astype(np.uint8), width, axis=1)
    return Image.fromarray(pixels)


def _grass(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    image = _meadow(rng, width, height)
    pen = Pen(image, np.array([[float(width), 0, 0], [0, float(height), 0]]))
    base = sample_green(rng)
    for y in np.linspace(0.2, 1.3, rng.integers(60, 160)):
        x, lean = rng.uniform(-0.1, 1.1), rng.normal(0, 0.12)
        blade = curve([(x, y), (x, y - 0.2), (x + lean, y - rng.uniform(0.2, 0.5))], 6)
        pen.line(blade, rng.uniform(0.006, 0.02), shade(base, rng.uniform(0.5, 1.35)))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))


def _foliage(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    base = sample_green(rng)
    image = Image.new("RGB", (width, height), shade(base, 0.4))
    pen = Pen(image, np.array([[float(width), 0, 0], [0, float(height), 0]]))
    for tone in np.linspace(0.45, 1.15, rng.integers(25, 60)):
        x, y = rng.uniform(-0.1, 1.1, 2)
        leaf = pen.moved(x, y, rng.uniform(0, 2 * np.pi))
        draw_leaf(leaf, rng.uniform(0.15, 0.4), rng.uniform(0.06, 0.16), shade(base, tone))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))


def _soil(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    base = np.array(hsv(rng.uniform(0.05, 0.14), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.8)))
    total = np.zeros((height, width))
    for cells in (4, 12, 40):
        noise = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))
    pixels = base * (1 + rng.uniform(0.05, 0.2) * total[..., None])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


_BACKGROUNDS = (_bokeh, _meadow, _grass, _foliage, _soil)


def _distractors(pen: Pen, rng: np.random.Generator, count: int) -> None:
    for _ in range(count):
        edge = polar(rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 0.85))
        inwards = np.arctan2(-edge[1], -edge[0]) + rng.normal(0, 0.7)
        leaf = pen.moved(edge[0], edge[1], inwards)
        draw_leaf(leaf, rng.uniform(0.3, 0.6), rng.uniform(0.08, 0.2), sample_green(rng))


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32) / 255
    height, width = pixels.shape[:2]
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    gain = 1 + rng.uniform(0, 0.3) * along
    if rng.random() < 0.2:
        edge = (along - rng.uniform(-0.6, 0.6)) * rng.uniform(4, 20)
        gain *= 1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-edge))
    contrast, brightness = rng.uniform(0.7, 1.2), rng.normal(0, 0.07)
    pixels = (pixels - 0.5) * contrast + 0.5 + brightness
    pixels = pixels * gain[..., None] * rng.normal(1, 0.06, 3)
    pixels += rng.normal(0, rng.uniform(0.005, 0.025), pixels.shape)
    return Image.fromarray((pixels * 255).clip(0, 255).astype(np.uint8))


def compose_photo(
    subject: Subject, rng: np.random.Generator, size: tuple[int, int] | None = None
) -> Image.Image:
    """Draws a subject into a scene with random background, pose, light and noise.

    Args:
        subject: draws one specimen within the unit circle of the pen it is given.
        rng: source of every random choice.
        size: width and height in pixels; by default each is drawn from 140 to 180.

    Returns:
        An RGB image.
    """
    width, height = size or (int(side) for side in rng.integers(140, 181, 2))
    canvas = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    image = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))](rng, *canvas)
    unit = min(canvas)
    scene = Pen(image, np.array([[unit, 0, canvas[0] / 2], [0, unit, canvas[1] / 2]], float))
    _distractors(scene, rng, int(rng.integers(0, 4)))

    palette = Palette.sample(rng)
    scale = rng.uniform(0.34, 0.47)
    if rng.random() < 0.2:
        for side in rng.choice([-1, 1], rng.integers(1, 3), replace=False):
            x, y = side * rng.uniform(0.3, 0.45), rng.uniform(-0.35, 0.35)
            far = scene.moved(x, y, rng.normal(0, 0.2), scale * rng.uniform(0.4, 0.7))
            subject(far, palette, rng)
        image.paste(image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2))))
    x, y = rng.normal(0, 0.07, 2)
    subject(scene.moved(x, y, rng.normal(0, 0.18), scale), palette, rng)
    if rng.random() < 0.35:
        _distractors(scene, rng, 1)

    image = image.reduce(SUPERSAMPLING)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    return _light(image, rng)


def draw_photo(
    kind: str, rng: np.random.Generator, size: tuple[int, int] | None = None
) -> Image.Image:
    """Draws an RGB photo of one of DEMO_CLASSES; size is width and height in pixels."""
    return compose_photo(_FLOWERS[kind], rng, size)


def encode_jpeg(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Encodes an image as JPEG of a random quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(70, 96)))
    return buffer.getvalue()


def draw_dataset(folder: Path, photos_per_class: int, seed: int) -> None:
    """Writes folder/CLASS/CLASS_000.jpg and so on for each of DEMO_CLASSES.

    Every photo depends on the seed, its class and its number only, so that asking for more
    photos leaves the others as they are.
    """
    for class_index, kind in enumerate(DEMO_CLASSES):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for index in range(photos_per_class):
            rng = np.random.default_rng((seed, class_index, index))
            photo = encode_jpeg(draw_photo(kind, rng), rng)
            (folder / kind / f"{kind}_{index:03d}.jpg").write_bytes(photo)
