"""One folder for a device: the model, a program that runs it, and a test of the board.

`classify.py`, `check.py`, `README.md` and `requirements.txt` beside this file go there as they are.
The programs stand alone: on the device there is no `edgetpu_retrain`.
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

from edgetpu_retrain.head import read_label_map
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import PhotoError, open_photo
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.edgetpu_package import min_runtime_version
from edgetpu_retrain.tflite.model import Model

_PARTS = ("classify.py", "check.py", "README.md", "requirements.txt")
# So many photos are tried to find one that the model is sure of.
_MAX_TRIED = 50


@dataclass(frozen=True)
class _Example:
    """A picture, float32 [C] scores that the CPU model gives it, and the class it is taken for."""

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
    """Writes the folder for a device, and the same as a ZIP archive.

    Args:
        model: the classifier for the CPU.
        compiled: the same for the Edge TPU, if there is one.
        label_map: their label map.
        manifest: photos, one of which becomes the picture to test a board with.
        folder: where to; other files in it stay, and are not in the archive.
        archive: path of the ZIP archive.
    """
    labels = read_label_map(label_map)
    names = [labels[i] for i in range(len(labels))]
    example = _find_example(model, names, manifest)
    here, folder = Path(__file__).parent, Path(folder)
    copies: dict[str, str | Path] = {name: here / name for name in _PARTS}
    copies |= {"model.tflite": model, "labels.txt": label_map}
    if compiled is not None:
        copies["model_edgetpu.tflite"] = compiled
    for name, source in copies.items():
        with files.replacing(folder / name) as made:
            shutil.copyfile(source, made)
    # Without loss, and of the size that the model takes, so that it is the same everywhere.
    with files.replacing(folder / "check.png") as made:
        Image.fromarray(example.pixels).save(made, format="PNG")
    scores = {name: float(score) for name, score in zip(names, example.scores, strict=True)}
    answer: dict[str, object] = {"class": example.predicted, "scores": scores}
    if compiled is not None:
        answer["edgetpu_runtime"] = min_runtime_version(Model.load(compiled))
    with files.replacing(folder / "check.json") as made:
        made.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    with files.replacing(archive) as made, zipfile.ZipFile(made, "w") as packed:
        for name in sorted(names_of_files(compiled is not None)):
            # Without dates, so that the same model gives the same archive.
            entry = zipfile.ZipInfo(f"{folder.name}/{name}")
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)


def names_of_files(compiled: bool) -> list[str]:
    """Returns the names of a bundle's files, with or without a model for the Edge TPU."""
    models = ["model.tflite", "model_edgetpu.tflite"] if compiled else ["model.tflite"]
    return [*_PARTS, *models, "labels.txt", "check.png", "check.json"]


def _find_example(model: str | Path, names: Sequence[str], manifest: Iterable[Photo]) -> _Example:
    """Returns that of some photos, those for testing first, which the model is surest of.

    One of the right class is preferred: other processors should give the same answer.
    """
    interpreter = Interpreter(model, "cpu")
    min_side = preprocessing.min_decoded_side(interpreter.input_size)
    tried = heapq.nsmallest(
        _MAX_TRIED, manifest, key=lambda photo: (photo.split != "test", photo.sha256)
    )
    best: tuple[bool, float] | None = None
    for photo in tried:
        try:
            picture = open_photo(photo.path, photo.sha256, min_side)
        except PhotoError:
            continue
        pixels = preprocessing.to_pixels(picture, interpreter.input_size)
        scores = interpreter.scores(pixels)
        predicted = names[int(scores.argmax())]
        rank = (predicted == photo.label, float(scores.max()))
        if best is None or rank > best:
            best, example = rank, _Example(pixels, scores, predicted)
    if best is None:
        raise ValueError("no photo can be decoded")
    return example
