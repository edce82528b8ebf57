"""Perceptual hashes: re-encoded or resized copies of a photo differ in only a few bits."""

import numpy as np
from PIL import Image

HASH_BYTES = 32
_HASH_SIDE = 16


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Returns the 256-bit DCT hash (pHash) of an image as uint8 [32].

    >>> perceptual_hash(Image.new("RGB", (8, 8))).shape
    (32,)
    """
    # Imported here, because imagehash is only installed with the workflow.
    import imagehash

    # imagehash itself resizes with Lanczos, which takes twice as long and finds the same copies.
    side = 4 * _HASH_SIDE
    small = image.convert("L").resize((side, side), Image.Resampling.BILINEAR)
    return np.packbits(imagehash.phash(small, _HASH_SIDE, highfreq_factor=4).hash.reshape(-1))
