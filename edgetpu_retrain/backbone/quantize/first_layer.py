"""See whether photos look to a float network as those did that it was trained on."""

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
# In trained networks that were measured the deviation is 0.9 to 1.3; with pixels of 0..255 where
# -1..1 was meant it is above 100, with -1..1 for 0..255 below 0.01.
_MIN_DEVIATION, _MAX_DEVIATION = 0.05, 20.0


@dataclass(frozen=True)
class FirstLayer:
    """What the first layer with weights computes of photos, before its activation.

    Attributes:
        lowest: value that the network takes.
        highest: value that the network takes.
        deviation: standard deviation of what the layer computes, the median over its channels.
        saturated: the share of its values beyond 6, where ReLU6 saturates.
    """

    lowest: float
    highest: float
    deviation: float
    saturated: float

    @property
    def warning(self) -> str | None:
        """What is odd about it, and what to do; None where nothing is."""
        if _MIN_DEVIATION <= self.deviation <= _MAX_DEVIATION:
            return None
        return (
            f"The photos look wrong to the network. It takes values from {self.lowest:.3g} to "
            f"{self.highest:.3g}, and what its first layer makes of them has a standard deviation "
            f"of {self.deviation:.2g} ({self.saturated:.0%} is saturated, beyond 6); about 1 is "
            "usual. Check the backbone's mean and std: 127.5 and 127.5 for a network that takes "
            "-1..1, 0 and 255 for 0..1, 0 and 1 for one that takes 0..255 or scales by itself."
        )


def measure(extractor: str | Path, pixels: np.ndarray, normalization: Normalization) -> FirstLayer:
    """Runs the first layer of a float extractor alone.

    Args:
        extractor: path of it.
        pixels: [N, height, width, 3] uint8, photos.
        normalization: of the network.
    """
    shown = pixels[:: -(-len(pixels) // _MAX_PHOTOS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "first_layer.tflite")
        layer = first_layer(Model.load(extractor))
        layer.save(path)
        model = Interpreter(path, "cpu")
        values = np.stack([model.run_values(normalization(photo)) for photo in shown])
    values = values.reshape(-1, layer.outputs[0].shape[-1])
    seen = normalization(np.array([pixels.min(), pixels.max()], np.uint8))
    return FirstLayer(
        lowest=float(seen[0]),
        highest=float(seen[1]),
        deviation=float(np.median(values.std(axis=0))),
        saturated=float(np.mean(np.abs(values) > _SATURATED)),
    )
