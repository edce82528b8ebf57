"""Check whether pixels are scaled as the float network expects."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain.backbone.quantize.quantization import Normalization
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.float_network import first_layer
from edgetpu_retrain.tflite.model import Model

_MAX_PHOTOS = 20
# The limit of ReLU6.
_SATURATED = 6.0
# Measured in trained networks: 0.9 to 1.3 with correct pixels, above 100 if pixels are 0..255
# instead of -1..1, below 0.01 if they are -1..1 instead of 0..255.
_MIN_DEVIATION, _MAX_DEVIATION = 0.05, 20.0


@dataclass(frozen=True)
class FirstLayer:
    """Statistics of the first layer with weights on photos, before its activation.

    Attributes:
        lowest: lowest value of the network's input.
        highest: highest value of the network's input.
        deviation: standard deviation of the layer's output, median over its channels.
        saturated: share of the output with an absolute value above 6, where ReLU6 saturates.
    """

    lowest: float
    highest: float
    deviation: float
    saturated: float

    @property
    def warning(self) -> str | None:
        """A warning if the deviation is implausible, with what to do; otherwise None."""
        if _MIN_DEVIATION <= self.deviation <= _MAX_DEVIATION:
            return None
        return (
            "The network's pixels seem to be scaled wrongly. Its input ranges from "
            f"{self.lowest:.3g} to {self.highest:.3g}, and the output of its first layer has a "
            f"standard deviation of {self.deviation:.2g} ({self.saturated:.0%} is saturated, "
            "beyond 6); about 1 is usual. Check the backbone's mean and std: 127.5 and 127.5 for "
            "-1..1, 0 and 255 for 0..1, 0 and 1 for 0..255 or if the network scales its pixels "
            "itself."
        )


def measure(extractor: str | Path, pixels: np.ndarray, normalization: Normalization) -> FirstLayer:
    """Runs the first layer with weights of a float extractor on up to 20 photos.

    Args:
        extractor: path of the float extractor.
        pixels: [N, height, width, 3] uint8, photos.
        normalization: the network's pixel scaling.
    """
    sample = pixels[:: -(-len(pixels) // _MAX_PHOTOS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "first_layer.tflite")
        layer = first_layer(Model.load(extractor))
        layer.save(path)
        model = Interpreter(path, "cpu")
        values = np.stack([model.run_values(normalization(photo)) for photo in sample])
    values = values.reshape(-1, layer.outputs[0].shape[-1])
    extremes = normalization(np.array([pixels.min(), pixels.max()], np.uint8))
    return FirstLayer(
        lowest=float(extremes[0]),
        highest=float(extremes[1]),
        deviation=float(np.median(values.std(axis=0))),
        saturated=float(np.mean(np.abs(values) > _SATURATED)),
    )
