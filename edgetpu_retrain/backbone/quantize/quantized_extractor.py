"""Quantize a float extractor, and report what quantization costs."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgetpu_retrain.backbone.quantize import calibration, degenerate, first_layer
from edgetpu_retrain.backbone.quantize.quantization import Normalization, quantize
from edgetpu_retrain.backbone.quantize.quantization_check import check
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, preprocessing
from edgetpu_retrain.photos.decode import open_photo
from edgetpu_retrain.tflite.model import Model

log = logging.getLogger(__name__)

# Enough to know the accuracy to within a point or two.
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
    """Quantizes a float extractor, and compares the two on photos not used for calibration.

    Args:
        extractor: path of the float extractor.
        manifest: all photos.
        chosen: identities of the photos to calibrate on; those not in the manifest are ignored.
        output: path of the quantized extractor, which takes raw RGB bytes.
        report: path of the comparison, a JSON file.
        mean: pixel value that the network takes as 0.
        std: number of pixel values per unit of the network's input.
        resize: as in `preprocessing.to_pixels`.
        allow_cpu_operators: accept operators the Edge TPU does not support.
        num_threads: number of CPU threads.

    Raises:
        UserError: the extractor cannot be quantized, or none of the photos to calibrate on can be
            read.
    """
    (image,) = Model.load(extractor).inputs
    size = (image.shape[2], image.shape[1])
    by_identity = {photo.sha256: photo for photo in manifest}
    wanted = list(chosen)
    calibrated, _ = _read(wanted, by_identity, size, resize)
    if not len(calibrated):
        raise UserError(
            f"None of the photos chosen to calibrate {extractor} can be read any more. To choose "
            "others, run again with --config calibration='{refresh: true}'."
        )
    normalization = Normalization(mean, std)
    degenerate.check_embeddings(extractor, calibrated, normalization)
    first = first_layer.measure(extractor, calibrated, normalization)
    with files.replacing(output) as temporary:
        quantize(extractor, temporary, calibrated, normalization, allow_cpu_operators, num_threads)
        others = calibration.choose_for_check(manifest, _CHECK_PHOTOS, set(wanted))
        pixels, labels = _read(others, by_identity, size, resize)
        checked = check(extractor, temporary, pixels, labels, normalization, num_threads)
    if checked is not None:
        count = "1 photo" if len(calibrated) == 1 else f"{len(calibrated)} photos"
        log.info("Quantized, calibrated on %s. %s", count, checked)
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
    identities: Iterable[str], by_identity: Mapping[str, Photo], size: tuple[int, int], resize: str
) -> tuple[np.ndarray, list[str]]:
    """Returns the pixels [N, height, width, 3] and classes of the photos that can be read."""
    pixels, labels = [], []
    # Decoded as for embedding, so that the network sees the same pixels.
    min_side = preprocessing.min_decoded_side(size, resize)
    for sha256 in identities:
        photo = by_identity.get(sha256)
        if photo is None:
            continue
        try:
            opened = open_photo(photo.path, sha256, min_side)
        except decode.PhotoError as error:
            log.debug("%s is skipped: %s", photo.path, error)
            continue
        pixels.append(preprocessing.to_pixels(opened, size, resize))
        labels.append(photo.label)
    shape = (0, size[1], size[0], 3)
    return np.stack(pixels) if pixels else np.empty(shape, np.uint8), labels
