"""Quantize a float extractor with ai-edge-quantizer, calibrated on photos."""

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
# Photos on which the two calibration ranges are compared.
_COMPARED_PHOTOS = 40

# The "min" and "max" of each tensor, by tensor name.
Ranges = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Normalization:
    """The pixel scaling of a float network: (pixel - mean) / std."""

    mean: float
    std: float

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the float32 input values for uint8 pixels."""
        return (pixels.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)

    def with_integer_mean(self) -> "Normalization":
        """Returns it with the mean rounded, as required for a uint8 zero point."""
        return Normalization(float(round(self.mean)), self.std)


def quantize(
    extractor: str | Path,
    output: str | Path,
    pixels: np.ndarray,
    normalization: Normalization,
    allow_cpu_operators: bool = False,
    num_threads: int = 1,
) -> None:
    """Quantizes a float extractor fully to int8 with ai-edge-quantizer.

    Weights are quantized symmetrically, per channel in convolutions and per tensor in fully
    connected layers, as the Edge TPU compiler requires. Activations are quantized asymmetrically,
    over a range measured on the photos. Of the two ranges that `_calibrate` returns, the one whose
    embeddings are closer to those of the float extractor is used. The range of the input covers all
    pixel values, so no pixel is clipped.

    Args:
        extractor: path of a float extractor made by `float_extractor`.
        output: path of the quantized extractor, which takes raw RGB bytes.
        pixels: [N, height, width, 3] uint8, photos to calibrate on.
        normalization: the network's pixel scaling.
        allow_cpu_operators: accept operators the Edge TPU does not support.
        num_threads: number of CPU threads.

    Raises:
        UserError: the extractor has operators that cannot be quantized or that the Edge TPU does
            not support.
    """
    network = Model.load(extractor)
    check_operators(network, allow_cpu_operators)
    rounded = normalization.with_integer_mean()
    with _quantizer_errors(network):
        calibrations = _calibrate(extractor, (rounded(photo) for photo in pixels), num_threads)
    candidates = {
        name: take_raw_rgb(
            _quantize(network, extractor, ranges, rounded), rounded.mean, rounded.std
        )
        for name, ranges in calibrations.items()
    }
    sample = pixels[:: -(-len(pixels) // _COMPARED_PHOTOS)]
    similarities = {
        name: _cosine(extractor, model, sample, normalization) for name, model in candidates.items()
    }
    best = max(similarities, key=similarities.__getitem__)
    log.debug(
        "Mean cosine to float embeddings by activation range: %s; best: %s", similarities, best
    )
    candidates[best].save(output)


def _quantize(
    network: Model, extractor: str | Path, ranges: Ranges, normalization: Normalization
) -> Model:
    image = network.full_name(int(network.subgraph.inputs[0]))
    for key, pixel in (("min", 0), ("max", 255)):
        value = normalization(np.array(pixel, np.uint8))
        ranges[image][key] = np.full_like(ranges[image][key], value)
    with _quantizer_errors(network), silenced():
        quantized = _make_quantizer(extractor).quantize(
            ranges, enable_progress_bar=False, enable_progress_report=False
        )
    model = Model.parse(bytes(quantized.quantized_model), f"{extractor}, quantized,")
    model.unpacked.description = network.unpacked.description
    repaired = restore_biases(model, network)
    log.debug("Channels whose scale was raised to fit their bias: %d", repaired)
    _check_quantized(model, network)
    check_extractor(model)
    # The operators still have the float network's versions, too high or too low for int8.
    return raise_versions(lower_versions(model))


def _cosine(
    extractor: str | Path, model: Model, pixels: np.ndarray, normalization: Normalization
) -> float:
    """Returns the mean cosine similarity of quantized and float embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "quantized.tflite")
        model.save(path)
        quantized, expected = embed_both(extractor, path, pixels, normalization)
    return float(cosines(quantized, expected).mean())


def embed_both(
    extractor: str | Path,
    quantized: str | Path,
    pixels: np.ndarray,
    normalization: Normalization,
    num_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the dequantized embeddings of the quantized extractor, and the float embeddings.

    Both are [N, D] float.
    """
    model, network = (Interpreter(path, "cpu", num_threads) for path in (quantized, extractor))
    return (
        np.stack([model.scores(photo) for photo in pixels]),
        np.stack([network.run_values(normalization(photo)) for photo in pixels]),
    )


def cosines(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns the cosine similarities [N] of the rows of two matrices [N, D]."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    products = np.sum(expected * actual, axis=1)
    return np.asarray(products / np.maximum(lengths, np.finfo(np.float32).tiny))


@contextlib.contextmanager
def _quantizer_errors(network: Model) -> Iterator[None]:
    """Turns exceptions of the quantizer into a UserError with the network's operators."""
    try:
        yield
    except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        names = ", ".join(sorted({operator.name for operator in network.operators}))
        raise network.error(
            f"cannot be quantized by ai-edge-quantizer: {reason[:_MAX_REASON]}\nIts operators are "
            f"{names}. Quantize it with another tool and give it as tflite."
        ) from error


def _check_quantized(model: Model, network: Model) -> None:
    """Raises a UserError if the quantizer left an operator in float."""
    float_operators = [
        f"  {operator.name} -> {model.tensor(operator.outputs[0])}"
        for operator in model.operators
        if operator.name != "DEQUANTIZE" and model.tensor(operator.outputs[0]).dtype == "float32"
    ]
    if float_operators:
        raise network.error(
            "has operators that ai-edge-quantizer cannot quantize:\n"
            + "\n".join(float_operators[:_MAX_SHOWN])
            + "\nBuild the network without them, or quantize it with another tool, such as "
            "TensorFlow's TFLiteConverter, and give it as tflite."
        )


def _make_quantizer(extractor: str | Path) -> Any:
    from ai_edge_quantizer import qtyping, quantizer, recipe

    result = quantizer.Quantizer(str(extractor))
    result.load_quantization_recipe(recipe.static_wi8_ai8())
    result.add_static_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
        activation_num_bits=8,
        weight_num_bits=8,
        weight_granularity=qtyping.QuantGranularity.TENSORWISE,
    )
    return result


def _calibrate(
    extractor: str | Path, photos: Iterable[np.ndarray], num_threads: int
) -> dict[str, Ranges]:
    """Returns two alternative ranges of every tensor.

    "whole" is from the lowest to the highest value over all photos, which is best if the photos
    are similar. "mean" is from the mean of the photos' lowest values to the mean of their highest,
    which is best if there are outliers. (The quantizer's default is a moving average, which depends
    on the last few dozen photos only.)
    """
    from ai_edge_quantizer import calibrator, recipe_manager

    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(_make_quantizer(extractor).get_quantization_recipe())
    with silenced():
        runner = calibrator.Calibrator(
            str(extractor), num_threads=num_threads, qsv_update_func=_add_photo
        )
    for photo in photos:
        with silenced():
            runner.calibrate({SIGNATURE: [{IMAGE: photo[np.newaxis]}]}, recipes)
    statistics = {name: stats for name, stats in runner.get_model_qsvs().items() if stats}
    # `_add_photo` sets "low" and "high" from the second photo on.
    mean = {
        name: {"min": stats.get("low", stats["min"]), "max": stats.get("high", stats["max"])}
        for name, stats in statistics.items()
    }
    whole = {name: {"min": stats["min"], "max": stats["max"]} for name, stats in statistics.items()}
    return {"whole": whole, "mean": mean}


def _add_photo(known: dict[str, Any], photo: dict[str, Any]) -> dict[str, Any]:
    """Adds a tensor's range on one photo to its statistics over the photos before.

    "min" and "max" are over all photos; "low" and "high" are the mean of each photo's.
    """
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
    """Suppresses the quantizer's output, log messages up to WARNING, and warnings."""
    discarded = io.StringIO()
    disabled = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(discarded))
        stack.enter_context(contextlib.redirect_stderr(discarded))
        stack.enter_context(warnings.catch_warnings())
        stack.callback(logging.disable, disabled)
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        yield
