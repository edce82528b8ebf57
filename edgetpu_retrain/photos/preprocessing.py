"""From an RGB picture to the bytes that a network takes."""

import math

import numpy as np
from PIL import Image

RESIZES = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
# Raised whenever the same photo would give other bytes than before.
_VERSION = 2
# How many pixels per pixel of the network are left for the antialiased resize. From 4000 x 3000 to
# 224 x 224 a JPEG is decoded at 1/8, and no picture is ever magnified.
_DECODED_PIXELS_PER_SIDE = 1.5


def version(resize: str) -> str:
    """Returns what identifies the way from photo to bytes; other versions do not mix.

    >>> version("bilinear")
    'bilinear 2'
    """
    return f"{resize} {_VERSION}"


def decoded_at_least(size: tuple[int, int], resize: str = "bilinear") -> int | None:
    """Returns how small a photo may be decoded (`decode.read_photo`); None: only as it is.

    Args:
        size: (width, height) in pixels that the network takes.
        resize: as `to_pixels` takes it. What ``nearest`` takes are pixels of the whole photo.

    >>> decoded_at_least((224, 224))
    336
    """
    if resize != "bilinear":
        return None
    return math.ceil(_DECODED_PIXELS_PER_SIDE * max(size))


def stretch(photo: Image.Image, size: tuple[int, int], resize: str = "bilinear") -> Image.Image:
    """Returns the picture that `to_pixels` gives the bytes of."""
    return photo.resize(size, RESIZES[resize])


def to_pixels(photo: Image.Image, size: tuple[int, int], resize: str = "bilinear") -> np.ndarray:
    """Stretches a photo to the size that a network takes.

    Args:
        photo: in mode RGB, of any size.
        size: (width, height) in pixels.
        resize: ``bilinear``, which averages over all pixels that fall into one (antialiasing), or
            ``nearest``, which takes one of them, as Coral's guide does.

    Returns:
        [height, width, 3] uint8, raw RGB bytes. Mean and standard deviation of the network are
        the business of its file: an extractor takes raw bytes (`tflite.raw_input`).

    >>> photo = Image.new("RGB", (640, 480), (250, 128, 0))
    >>> pixels = to_pixels(photo, (224, 224))
    >>> pixels.shape, pixels[0, 0].tolist()
    ((224, 224, 3), [250, 128, 0])
    """
    return np.asarray(stretch(photo, size, resize))


def as_dtype(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turns raw bytes into what a network takes that is not one of this project's.

    Args:
        pixels: uint8.
        dtype: of the network's input; int8 values are taken for pixel - 128, float ones for
            pixels in -1..1.
    """
    if dtype == np.int8:
        return (pixels ^ 0x80).view(np.int8)
    if dtype == np.float32:
        return (pixels.astype(np.float32) - 127.5) / 127.5
    return pixels
