"""Quantize a float extractor, calibrated on photos."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.tflite.checks import check_extractor
from edgetpu_retrain.tflite.edgetpu_operators import check_operators
from edgetpu_retrain.tflite.float_network import IMAGE, SIGNATURE
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.raw_input import take_raw_rgb
from edgetpu_retrain.tflite.restore_biases import restore_biases
from edgetpu_retrain.tflite.versions import lower_versions, raise_versions

log = logging.getLogger(__name__)

_MAX_SHOWN = 5
_MAX_REASON = 300

Ranges = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Normalization:
    """What a float network takes: (pixel - mean) / std."""

    mean: float
    std: float

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns float32 values of uint8 pixels."""
        return (pixels.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)

    def whole(self) -> "Normalization":
        """Returns the nearest one with a whole mean, which uint8 needs for its zero point."""
        return Normalization(float(round(self.mean)), self.std)


def quantize(
    extractor: str | Path,
    output: str | Path,
    pixels: np.ndarray,
    normalization: Normalization,
    allow_cpu_operators: bool = False,
    num_threads: int = 1,
) -> None:
    """Quantizes a float extractor to int8 throughout, by ai-edge-quantizer.

    Weights are symmetric, per channel in convolutions and per tensor in fully connected layers,
    which is what the Edge TPU compiler knows. Activations are asymmetric, over the range that the
    photos reach; the input's is that of all pixels, so that no pixel is clipped.

    Args:
        extractor: as `float_extractor` makes it.
        output: where the quantized one goes, which takes raw RGB bytes.
        pixels: [N, height, width, 3] uint8, photos to calibrate on.
        normalization: of the network.
        allow_cpu_operators: let it hold operators that the Edge TPU has not.
        num_threads: how many threads the CPU may use.

    Raises:
        UserError: it holds operators that cannot be quantized or that the Edge TPU has not.
    """
    network = Model.load(extractor)
    check_operators(network, allow_cpu_operators)
    whole = normalization.whole()
    with _understandable(network):
        ranges = _calibrate(extractor, (whole(photo) for photo in pixels), num_threads)
    image = network.full_name(int(network.subgraph.inputs[0]))
    for key, pixel in (("min", 0), ("max", 255)):
        ranges[image][key] = np.full_like(ranges[image][key], whole(np.array(pixel, np.uint8)))
    with _understandable(network), quietly():
        quantized = _quantizer(extractor).quantize(
            ranges, enable_progress_bar=False, enable_progress_report=False
        )
    model = Model.parse(bytes(quantized.quantized_model), f"{extractor}, quantized,")
    repaired = restore_biases(model, network)
    log.debug("%d channels have a scale that was raised to fit their bias", repaired)
    _check_quantized(model, network)
    check_extractor(model)
    # The float network's versions may be too high or too low.
    model = raise_versions(lower_versions(model))
    take_raw_rgb(model, whole.mean, whole.std).save(output)


@contextlib.contextmanager
def _understandable(network: Model) -> Iterator[None]:
    """Makes a UserError of whatever the quantizer raises on a network that it cannot take."""
    try:
        yield
    except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        names = ", ".join(sorted({operator.name for operator in network.operators}))
        raise network.error(
            f"cannot be quantized by ai-edge-quantizer: {reason[:_MAX_REASON]}\nIts operators are "
            f"{names}. Quantize it elsewhere and give it as a quantized tflite."
        ) from error


def _check_quantized(model: Model, network: Model) -> None:
    """Raises a UserError where the quantizer left an operator in float."""
    left = [
        f"  {operator.name} -> {model.tensor(operator.outputs[0])}"
        for operator in model.operators
        if operator.name != "DEQUANTIZE" and model.tensor(operator.outputs[0]).dtype == "float32"
    ]
    if left:
        raise network.error(
            "holds operators that ai-edge-quantizer cannot quantize:\n"
            + "\n".join(left[:_MAX_SHOWN])
            + "\nBuild the network without them, or quantize it elsewhere (TensorFlow's "
            "TFLiteConverter, say) and give it as a quantized tflite."
        )


def _quantizer(extractor: str | Path) -> Any:
    from ai_edge_quantizer import qtyping, quantizer, recipe

    made = quantizer.Quantizer(str(extractor))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    made.add_static_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
        activation_num_bits=8,
        weight_num_bits=8,
        weight_granularity=qtyping.QuantGranularity.TENSORWISE,
    )
    return made


def _calibrate(extractor: str | Path, photos: Iterable[np.ndarray], num_threads: int) -> Ranges:
    """Returns the lowest and the highest value of every tensor over all photos, by name.

    The quantizer's own default, a moving average, forgets all but the last dozens of photos.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(_quantizer(extractor).get_quantization_recipe())
    with quietly():
        runner = calibrator.Calibrator(
            str(extractor), num_threads=num_threads, qsv_update_func=qsv_utils.min_max_update
        )
    for photo in photos:
        with quietly():
            runner.calibrate({SIGNATURE: [{IMAGE: photo[np.newaxis]}]}, recipes)
    return runner.get_model_qsvs()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps progress bars, notes and warnings of the quantizer off the screen and the log."""
    off = io.StringIO()
    disabled = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(off))
        stack.enter_context(contextlib.redirect_stderr(off))
        stack.enter_context(warnings.catch_warnings())
        stack.callback(logging.disable, disabled)
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        yield
