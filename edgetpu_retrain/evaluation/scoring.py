"""Run a written classifier: its last layer on stored embeddings, the whole file on a few photos."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import open_photo
from edgetpu_retrain.runtime.interpreter import Interpreter, LayerInterpreter

# How many photos are classified by the whole file: every run pays for them.
SAMPLE = 16


def score(model: str | Path, embeddings: np.ndarray) -> np.ndarray:
    """Returns what a classifier file gives for photos, from their embeddings.

    Only the last layer runs, which is cut out of the file, in the file's own arithmetic. So a
    photo is not decoded again, and a million of them take some seconds.

    Args:
        model: path of a .tflite file as `tflite.append_head` makes them.
        embeddings: [N, D] uint8 or int8, as the file's own extractor gave them.

    Returns:
        [N, C] uint8, scores in steps of 1/256.
    """
    # The schema takes a while to import, and a program that only embeds does not need it.
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
    """Checks that the whole file gives for raw photos what `score` gave for their embeddings.

    Args:
        model: path of the .tflite file.
        photos: N photos, the first `SAMPLE` of which are taken.
        scores: [N, C], from `score`.
        device: as `devices.resolve_device` takes it.
        resize: as `preprocessing.to_pixels` takes it.

    Returns:
        How many photos per second the file classifies, decoding included; None without photos.

    Raises:
        UserError: the scores of a photo differ, so a file in between is not what it should be.
    """
    interpreter = Interpreter(model, device)
    min_side = preprocessing.min_decoded_side(interpreter.input_size, resize)
    start = time.perf_counter()
    for photo, expected in zip(photos[:SAMPLE], scores, strict=False):
        picture = open_photo(photo.path, photo.sha256, min_side)
        pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
        found = interpreter.run(pixels)
        if not np.array_equal(found, expected):
            raise UserError(
                f"{model} gives the scores {found.tolist()} for {photo.path}, but its last layer "
                f"gives {expected.tolist()} for the photo's embedding: the embeddings are of "
                "another extractor or another TFLite runtime. Delete the folder embeddings/ and "
                "run again."
            )
    count = len(photos[:SAMPLE])
    return count / (time.perf_counter() - start) if count else None
