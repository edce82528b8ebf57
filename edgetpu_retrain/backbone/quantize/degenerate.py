"""Find a float network that gives the same embedding for every photo."""

from pathlib import Path

import numpy as np

from edgetpu_retrain.backbone.quantize.quantization import Normalization
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.runtime.interpreter import Interpreter

_MAX_PHOTOS = 20
# Highest standard deviation of a value, by the embeddings' root mean square: 3.6 for
# EfficientNet-Lite0 on flower photos.
_MIN_DEVIATION = 1e-4


def check_embeddings(
    extractor: str | Path, pixels: np.ndarray, normalization: Normalization
) -> None:
    """Runs a float extractor on up to 20 photos, before it is quantized.

    Args:
        extractor: path of the float extractor.
        pixels: [N, height, width, 3] uint8, photos.
        normalization: pixel scaling of the extractor.

    Raises:
        UserError: an embedding has values that are not numbers, or all are the same though the
            photos differ.
    """
    sample = pixels[:: -(-len(pixels) // _MAX_PHOTOS)]
    model = Interpreter(extractor, "cpu")
    embeddings = np.stack([model.run_values(normalization(photo)) for photo in sample])
    if not np.isfinite(embeddings).all():
        raise UserError(
            "The network's embeddings have values that are not numbers (NaN or infinite). Check "
            "the backbone's mean and std first. If they are correct, its training diverged: train "
            "it again with a lower learning rate, or use an earlier checkpoint."
        )
    if np.all(sample == sample[0]):
        return
    deviation = embeddings.std(axis=0).max()
    if deviation <= _MIN_DEVIATION * np.sqrt(np.mean(np.square(embeddings))):
        raise UserError(
            f"The network gives the same embedding for {len(sample)} different photos, so nothing "
            "can be learned from it. Check the backbone's mean and std first: its input ranges "
            f"from {normalization(sample).min():.3g} to {normalization(sample).max():.3g}. If they "
            "are correct, the network is damaged (dead ReLU: an activation that is 0 for every "
            "photo): train it again with a lower learning rate, or use another."
        )
