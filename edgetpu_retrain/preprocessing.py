"""From an RGB picture to the bytes that a network takes."""

import numpy as np
from PIL import Image

RESIZES = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
# Raised whenever the same photo would give other bytes than before.
_VERSION = 1


def version(resize: str) -> str:
    """Returns what identifies the way from photo to bytes; other versions do not mix.

    >>> version("bilinear")
    'bilinear 1'
    """
    return f"{resize} {_VERSION}"


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
    """
    return np.asarray(photo.resize(size, RESIZES[resize]))


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
