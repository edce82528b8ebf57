"""Photos as numbers, by Pillow alone."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image


def resized(photo: str | Path | BinaryIO, size: int, resize: str = "nearest") -> np.ndarray:
    """A photo stretched to [size, size, 3] uint8."""
    with Image.open(photo) as image:
        rgb = image.convert("RGB")
    return np.asarray(rgb.resize((size, size), Image.Resampling[resize.upper()]))
