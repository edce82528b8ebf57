"""Quantize a float extractor, calibrated on photos."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.runtime.interpreter import Interpreter
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
# Photos on which two ways to quantize are compared.
_COMPARED = 40

Ranges = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Normalization:
    """What a float network takes: (pixel - mean) / std."""

    mean: float
    std: float

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns float32 values of uint8 pixels."""
        return (pixels.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)

    def with_integer_mean(self) -> "Normalization":
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
    photos reach, in whichever of two ways gives the nearer embeddings; the input's range is that of
    all pixels, so that no pixel is clipped.

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
    whole = normalization.with_integer_mean()
    with _understandable(network):
        calibrated = _calibrate(extractor, (whole(photo) for photo in pixels), num_threads)
    made = {
        name: take_raw_rgb(_quantize(network, extractor, ranges, whole), whole.mean, whole.std)
        for name, ranges in calibrated.items()
    }
    shown = pixels[:: -(-len(pixels) // _COMPARED)]
    near = {name: _cosine(extractor, model, shown, normalization) for name, model in made.items()}
    best = max(near, key=near.__getitem__)
    log.debug("Mean cosine to float, by ranges of activations: %s; taken: %s", near, best)
    made[best].save(output)


def _quantize(
    network: Model, extractor: str | Path, ranges: Ranges, normalization: Normalization
) -> Model:
    image = network.full_name(int(network.subgraph.inputs[0]))
    for key, pixel in (("min", 0), ("max", 255)):
        value = normalization(np.array(pixel, np.uint8))
        ranges[image][key] = np.full_like(ranges[image][key], value)
    with _understandable(network), silenced():
        quantized = _quantizer(extractor).quantize(
            ranges, enable_progress_bar=False, enable_progress_report=False
        )
    model = Model.parse(bytes(quantized.quantized_model), f"{extractor}, quantized,")
    repaired = restore_biases(model, network)
    log.debug("%d channels have a scale that was raised to fit their bias", repaired)
    _check_quantized(model, network)
    check_extractor(model)
    # The float network's versions may be too high or too low.
    return raise_versions(lower_versions(model))


def _cosine(
    extractor: str | Path, model: Model, pixels: np.ndarray, normalization: Normalization
) -> float:
    """Returns the mean cosine of a quantized extractor's embeddings to the float one's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "quantized.tflite")
        model.save(path)
        found, expected = embed_both(extractor, path, pixels, normalization)
    return float(cosines(found, expected).mean())


def embed_both(
    extractor: str | Path,
    quantized: str | Path,
    pixels: np.ndarray,
    normalization: Normalization,
    num_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the real embeddings [N, D] of a quantized extractor, and those of the float one."""
    model, network = (Interpreter(path, "cpu", num_threads) for path in (quantized, extractor))
    return (
        np.stack([model.scores(photo) for photo in pixels]),
        np.stack([network.run_values(normalization(photo)) for photo in pixels]),
    )


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns the cosine [N] of every row of two matrices [N, D]."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    return np.sum(expected * found, axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)


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


def _calibrate(
    extractor: str | Path, photos: Iterable[np.ndarray], num_threads: int
) -> dict[str, Ranges]:
    """Returns the range of every tensor, by name, in two ways.

    "whole" is from the lowest to the highest value over all photos, which is best where every photo
    is much like the others; "mean" is from the mean lowest to the mean highest value of a photo,
    where single photos go far beyond. (The quantizer's own default, a moving average, forgets all
    but the last dozens of photos.)
    """
    from ai_edge_quantizer import calibrator, recipe_manager

    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(_quantizer(extractor).get_quantization_recipe())
    with silenced():
        runner = calibrator.Calibrator(
            str(extractor), num_threads=num_threads, qsv_update_func=_add_photo
        )
    for photo in photos:
        with silenced():
            runner.calibrate({SIGNATURE: [{IMAGE: photo[np.newaxis]}]}, recipes)
    found = runner.get_model_qsvs()
    # Of one photo both are the same.
    mean = {
        name: {"min": one.get("low", one["min"]), "max": one.get("high", one["max"])}
        for name, one in found.items()
        if one
    }
    whole = {name: {"min": one["min"], "max": one["max"]} for name, one in found.items() if one}
    return {"whole": whole, "mean": mean}


def _add_photo(known: dict[str, Any], photo: dict[str, Any]) -> dict[str, Any]:
    """Adds the range of a tensor on one more photo to what is known of it."""
    count = known.get("count", 1)
    low, high = known.get("low", known["min"]), known.get("high", known["max"])
    return {
        "min": np.minimum(known["min"], photo["min"]),
        "max": np.maximum(known["max"], photo["max"]),
        "low": (count * low + photo["min"]) / (count + 1),
        "high": (count * high + photo["max"]) / (count + 1),
        "count": count + 1,
    }


@contextlib.contextmanager
def silenced() -> Iterator[None]:
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
