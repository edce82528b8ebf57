"""Convert an RGB image to the input values of a network."""

import math

import numpy as np
from PIL import Image

RESIZES = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
# Increased whenever the same photo yields different bytes than before, or can now be read, or not.
_VERSION = 3
# Minimum size of a decoded photo relative to the network's input, so that the antialiased resize
# still averages: for 224 x 224, a JPEG of 4000 x 3000 is decoded at 1/8. Nothing is magnified.
_DECODED_PIXELS_PER_SIDE = 1.5


def version(resize: str) -> str:
    """Returns the version of the preprocessing; embeddings of different versions must not be mixed.

    >>> version("bilinear")
    'bilinear 3'
    """
    return f"{resize} {_VERSION}"


def min_decoded_side(size: tuple[int, int], resize: str = "bilinear") -> int | None:
    """Returns `min_side` for `decode.read_photo`; None if photos must be decoded at full size.

    Args:
        size: (width, height) of the network's input in pixels.
        resize: as for `to_pixels`. ``nearest`` picks pixels of the full-size photo.

    >>> min_decoded_side((224, 224))
    336
    """
    if resize != "bilinear":
        return None
    return math.ceil(_DECODED_PIXELS_PER_SIDE * max(size))


def stretch(photo: Image.Image, size: tuple[int, int], resize: str = "bilinear") -> Image.Image:
    """Returns the resized image whose pixels `to_pixels` returns."""
    return photo.resize(size, RESIZES[resize])


def to_pixels(photo: Image.Image, size: tuple[int, int], resize: str = "bilinear") -> np.ndarray:
    """Resizes a photo to a network's input size, without keeping the aspect ratio.

    Args:
        photo: an image in mode RGB, of any size.
        size: (width, height) of the network's input in pixels.
        resize: ``bilinear``, which averages over all pixels that fall into an output pixel
            (antialiasing), or ``nearest``, which picks one of them, as Coral's guide does.

    Returns:
        [height, width, 3] uint8, raw RGB bytes. They are not normalized: the extractor takes raw
        bytes and handles mean and standard deviation itself (`tflite.raw_input`).

    >>> photo = Image.new("RGB", (640, 480), (250, 128, 0))
    >>> pixels = to_pixels(photo, (224, 224))
    >>> pixels.shape, pixels[0, 0].tolist()
    ((224, 224, 3), [250, 128, 0])
    """
    return np.asarray(stretch(photo, size, resize))


def as_dtype(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts raw bytes to the input dtype of a network that was not made by this project.

    Args:
        pixels: uint8, of any shape.
        dtype: the network's input dtype. int8 inputs are assumed to be pixel - 128, float32
            inputs to be scaled to -1..1. For any other dtype, `pixels` is returned unchanged.
    """
    if dtype == np.int8:
        return (pixels ^ 0x80).view(np.int8)
    if dtype == np.float32:
        return (pixels.astype(np.float32) - 127.5) / 127.5
    return pixels
