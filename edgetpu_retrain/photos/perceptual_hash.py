"""Hash a picture so that copies of it, re-encoded or resized, differ in few bits."""

import numpy as np
from PIL import Image

HASH_BYTES = 32
_HASH_SIDE = 16


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Returns the 256-bit DCT hash of a picture, as uint8 [32].

    >>> perceptual_hash(Image.new("RGB", (8, 8))).shape
    (32,)
    """
    # Importing the library should not need what only the workflow does.
    import imagehash

    # imagehash would resize with Lanczos, which takes twice as long and finds the same copies.
    side = 4 * _HASH_SIDE
    small = image.convert("L").resize((side, side), Image.Resampling.BILINEAR)
    return np.packbits(imagehash.phash(small, _HASH_SIDE, highfreq_factor=4).hash.reshape(-1))
