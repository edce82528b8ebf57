"""Draws pseudo-photos: a subject, given as a function, in a scene.

Subjects differ in shape only: colours, background, light and noise of every photo are drawn from
the same distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
