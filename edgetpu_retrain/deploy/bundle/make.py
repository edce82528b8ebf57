"""Writes the bundle for a device: the model, a program that runs it, and a test of the board.

The programs in this folder and two modules of `photos/` are copied unchanged. They do not import
`edgetpu_retrain`, which is not installed on the device.
"""

import heapq
import json
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgetpu_retrain import photos
from edgetpu_retrain.head import read_label_map, read_resize
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import PhotoError, open_photo
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.edgetpu_package import min_runtime_version
from edgetpu_retrain.tflite.model import Model

_PARTS = ("classify.py", "photos.py", "check.py", "README.md", "requirements.txt")
_SHARED = ("file_kinds.py", "jpeg_header.py")
# How many photos are tried to find one with a high score.
_MAX_TRIED = 50


@dataclass(frozen=True)
class _Example:
    """A photo as the model's input, its scores from the CPU model and its predicted class.

    Attributes:
        pixels: [height, width, 3] uint8, RGB.
        scores: [C] float32.
        predicted: name of the predicted class.
    """

    pixels: np.ndarray
    scores: np.ndarray
    predicted: str


def write_bundle(
    model: str | Path,
    compiled: str | Path | None,
    label_map: str | Path,
    manifest: Iterable[Photo],
    folder: str | Path,
    archive: str | Path,
) -> None:
    """Writes the bundle as a folder and as a ZIP archive; equal input gives equal archives.

    Args:
        model: path of the CPU model.
        compiled: path of the Edge TPU model; None without one.
        label_map: path of their label map.
        manifest: photos of the dataset; one of them becomes the test picture, check.png.
        folder: the folder to write to; other files in it are kept, and are not archived.
        archive: path of the ZIP archive.

    Raises:
        ValueError: no photo could be decoded.
    """
    labels = read_label_map(label_map)
    names = [labels[i] for i in range(len(labels))]
    example = _find_example(model, names, manifest)
    here, folder = Path(__file__).parent, Path(folder)
    copies: dict[str, str | Path] = {name: here / name for name in _PARTS}
    copies |= {name: Path(photos.__file__).with_name(name) for name in _SHARED}
    copies |= {"model.tflite": model, "labels.txt": label_map}
    if compiled is not None:
        copies["model_edgetpu.tflite"] = compiled
    for name, source in copies.items():
        with files.replacing(folder / name) as made:
            shutil.copyfile(source, made)
    # Lossless and in the model's input size, so that every device classifies the same pixels.
    with files.replacing(folder / "check.png") as made:
        Image.fromarray(example.pixels).save(made, format="PNG")
    scores = {name: float(score) for name, score in zip(names, example.scores, strict=True)}
    answer: dict[str, object] = {"class": example.predicted, "scores": scores}
    if compiled is not None:
        answer["edgetpu_runtime"] = min_runtime_version(Model.load(compiled))
    with files.replacing(folder / "check.json") as made:
        made.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    with files.replacing(archive) as made, zipfile.ZipFile(made, "w") as packed:
        for name in sorted(file_names(compiled is not None)):
            # ZipInfo has a fixed date, which makes the archive reproducible.
            entry = zipfile.ZipInfo(f"{folder.name}/{name}")
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)


def file_names(compiled: bool) -> list[str]:
    """Returns the names of a bundle's files, with or without the Edge TPU model."""
    models = ["model.tflite", "model_edgetpu.tflite"] if compiled else ["model.tflite"]
    return [*_PARTS, *_SHARED, *models, "labels.txt", "check.png", "check.json"]


def _find_example(model: str | Path, names: Sequence[str], manifest: Iterable[Photo]) -> _Example:
    """Returns the correctly classified photo with the highest score, out of at most 50 photos.

    Test photos are tried first. A high score makes the prediction robust to the rounding of other
    processors. If no photo is classified correctly, the one with the highest score is returned.
    """
    interpreter, resize = Interpreter(model, "cpu"), read_resize(model)
    min_side = preprocessing.min_decoded_side(interpreter.input_size, resize)
    tried = heapq.nsmallest(
        _MAX_TRIED, manifest, key=lambda photo: (photo.split != "test", photo.sha256)
    )
    best: tuple[bool, float] | None = None
    for photo in tried:
        try:
            picture = open_photo(photo.path, photo.sha256, min_side)
        except PhotoError:
            continue
        pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
        scores = interpreter.scores(pixels)
        predicted = names[int(scores.argmax())]
        rank = (predicted == photo.label, float(scores.max()))
        if best is None or rank > best:
            best, example = rank, _Example(pixels, scores, predicted)
    if best is None:
        raise ValueError("no photo can be decoded")
    return example
