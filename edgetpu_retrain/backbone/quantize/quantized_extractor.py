"""From a float extractor and photos to a quantized extractor, and a report on it."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgetpu_retrain.backbone.quantize import calibration, first_layer
from edgetpu_retrain.backbone.quantize.quantization import Normalization, quantize
from edgetpu_retrain.backbone.quantize.quantization_check import check
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, preprocessing
from edgetpu_retrain.photos.decode import open_photo
from edgetpu_retrain.tflite.model import Model

log = logging.getLogger(__name__)

# Accuracy on these many is known to a point or two.
_CHECK_PHOTOS = 500


def make(
    extractor: str | Path,
    manifest: Sequence[Photo],
    chosen: Iterable[str],
    output: str | Path,
    report: str | Path,
    mean: float,
    std: float,
    resize: str = "bilinear",
    allow_cpu_operators: bool = False,
    num_threads: int = 1,
) -> None:
    """Quantizes a float extractor, and compares the two on photos that were not chosen.

    Args:
        extractor: path of the float extractor.
        manifest: all photos.
        chosen: identities of those to calibrate on; what is not listed any more is left out.
        output: where the quantized extractor goes, which takes raw RGB bytes.
        report: where the comparison goes, as JSON.
        mean: the pixel value that stands for 0.
        std: how many pixel values stand for 1.
        resize: as `preprocessing.to_pixels` takes it.
        allow_cpu_operators: let it hold operators that the Edge TPU has not.
        num_threads: how many threads the CPU may use.

    Raises:
        UserError: it cannot be quantized, or no photo is left to calibrate on.
    """
    (image,) = Model.load(extractor).inputs
    size = (image.shape[2], image.shape[1])
    listed = {photo.sha256: photo for photo in manifest}
    wanted = list(chosen)
    calibrated, _ = _read(wanted, listed, size, resize)
    if not len(calibrated):
        raise UserError(
            f"None of the {len(wanted)} photos that {extractor} is to be calibrated on can be "
            "read any more; run again with --config calibration='{refresh: true}'."
        )
    normalization = Normalization(mean, std)
    first = first_layer.look(extractor, calibrated, normalization)
    with files.replacing(output) as temporary:
        quantize(extractor, temporary, calibrated, normalization, allow_cpu_operators, num_threads)
        others = calibration.choose_for_check(manifest, _CHECK_PHOTOS, set(wanted))
        pixels, labels = _read(others, listed, size, resize)
        checked = check(extractor, temporary, pixels, labels, normalization, num_threads)
    if checked is not None:
        log.info("Quantized on %d photos. %s", len(calibrated), checked)
    warnings = [text for text in (first.warning, checked and checked.warning) if text]
    for text in warnings:
        log.warning("Warning: %s", text)
    content = {
        "calibrated_on": len(calibrated),
        "first_layer": asdict(first),
        "check": None if checked is None else asdict(checked),
        "warnings": warnings,
    }
    with files.replacing(report) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(
    identities: Iterable[str], listed: Mapping[str, Photo], size: tuple[int, int], resize: str
) -> tuple[np.ndarray, list[str]]:
    """Returns the pixels [N, height, width, 3] of those photos that can be read, and classes."""
    pixels, labels = [], []
    # Decoded as for embedding, so that the network sees the same pixels.
    min_side = preprocessing.min_decoded_side(size, resize)
    for sha256 in identities:
        photo = listed.get(sha256)
        if photo is None:
            continue
        try:
            opened = open_photo(photo.path, sha256, min_side)
        except decode.PhotoError as error:
            log.debug("%s is left out: %s", photo.path, error)
            continue
        pixels.append(preprocessing.to_pixels(opened, size, resize))
        labels.append(photo.label)
    shape = (0, size[1], size[0], 3)
    return np.stack(pixels) if pixels else np.empty(shape, np.uint8), labels
