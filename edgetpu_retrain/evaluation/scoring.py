"""Runs a classifier file: its last layer on stored embeddings, the whole file on a few photos."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import open_photo
from edgetpu_retrain.runtime.interpreter import Interpreter, LayerInterpreter

# Photos that the whole file classifies as a check. Small, because every run has to decode them.
SAMPLE_SIZE = 16


def score(model: str | Path, embeddings: np.ndarray) -> np.ndarray:
    """Returns the scores that a classifier file gives to photos, computed from their embeddings.

    Only the last layer runs: it is cut out of the file and runs in the file's own quantized
    arithmetic. No photo is decoded again, and a million photos take a few seconds.

    Args:
        model: path of a .tflite file made by `tflite.append_head`.
        embeddings: [N, D] uint8 or int8, the output of the file's own extractor.

    Returns:
        [N, C] uint8, scores in steps of 1/256.
    """
    # Imported here because the TFLite schema is slow to import.
    from edgetpu_retrain.tflite.last_layer import last_layer
    from edgetpu_retrain.tflite.model import Model

    content = last_layer(Model.load(model)).to_bytes()
    return LayerInterpreter(content, str(model)).run(embeddings)


def check_on_photos(
    model: str | Path,
    photos: Sequence[Photo],
    scores: np.ndarray,
    device: str = "auto",
    resize: str = "bilinear",
) -> float | None:
    """Checks that the whole file gives raw photos the scores that `score` gave their embeddings.

    Args:
        model: path of the .tflite file.
        photos: N photos; the first `SAMPLE_SIZE` are checked.
        scores: [N, C] uint8, from `score`.
        device: as for `devices.resolve_device`.
        resize: as for `preprocessing.to_pixels`.

    Returns:
        Photos classified per second, including decoding; None without photos.

    Raises:
        UserError: the scores of a photo differ, so the embeddings do not match the file.
    """
    interpreter = Interpreter(model, device)
    min_side = preprocessing.min_decoded_side(interpreter.input_size, resize)
    start = time.perf_counter()
    for photo, expected in zip(photos[:SAMPLE_SIZE], scores, strict=False):
        picture = open_photo(photo.path, photo.sha256, min_side)
        pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
        actual = interpreter.run(pixels)
        if not np.array_equal(actual, expected):
            raise UserError(
                f"{model} gives {photo.path} the scores {actual.tolist()}, but its last layer "
                f"gives the photo's embedding {expected.tolist()}: the embeddings were made with "
                "another extractor or another TFLite runtime. Delete the folder embeddings/ and "
                "run again."
            )
    count = len(photos[:SAMPLE_SIZE])
    return count / (time.perf_counter() - start) if count else None
