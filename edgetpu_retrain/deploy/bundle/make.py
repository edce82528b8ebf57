"""Writes the bundle for a device: the model, a program that runs it, and a test of the board.

The programs in this folder and two modules of `photos/` are copied unchanged. The device does not
have `edgetpu_retrain`: only `learn.py` imports it, from an archive in the bundle.
"""

import heapq
import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgetpu_retrain import photos
from edgetpu_retrain.deploy.stored_embeddings import ClassMeans, StoredEmbeddings
from edgetpu_retrain.head import read_label_map, read_resize
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import PhotoError, open_photo
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.edgetpu_package import min_runtime_version
from edgetpu_retrain.tflite.model import Model

_PARTS = (
    *("classify.py", "photos.py", "check.py", "complete.py", "learn.py"),
    *("README.md", "requirements.txt", "requirements-learn.txt"),
)
_SHARED = ("file_kinds.py", "jpeg_header.py")
_LIBRARY = "edgetpu_retrain.zip"
# The package edgetpu_retrain.
_ROOT = Path(__file__).parents[2]
# How many photos are tried to find one with a high score.
_MAX_TRIED = 50


@dataclass(frozen=True)
class _Example:
    """A photo as the model's input, and its scores from the CPU model.

    Attributes:
        pixels: [height, width, 3] uint8, RGB.
        scores: [C] float32.
    """

    pixels: np.ndarray
    scores: np.ndarray


def write_bundle(
    model: str | Path,
    compiled: str | Path | None,
    label_map: str | Path,
    manifest: Iterable[Photo],
    folder: str | Path,
    archive: str | Path,
    memory: StoredEmbeddings | ClassMeans | None = None,
) -> None:
    """Writes the bundle as a folder and as a ZIP archive; equal input gives equal archives.

    Args:
        model: path of the CPU model.
        compiled: path of the Edge TPU model; None without one.
        label_map: path of their label map.
        manifest: photos of the dataset; one of them becomes the test picture, check.png.
        folder: the folder to write to; other files in it are kept, and are not archived.
        archive: path of the ZIP archive.
        memory: what learn.py needs to train the model again; None to leave it out.

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
    expected = answer(names, example.scores)
    if compiled is not None:
        expected["edgetpu_runtime"] = min_runtime_version(Model.load(compiled))
    write_answer(expected, folder / "check.json")
    modules = {str(path.relative_to(_ROOT.parent)): path for path in _ROOT.rglob("*.py")}
    _pack(modules, folder / _LIBRARY)
    for one in (StoredEmbeddings, ClassMeans):
        # The other one would say more than is wanted.
        (folder / one.FILE_NAME).unlink(missing_ok=True)
    if memory is not None:
        memory.save(folder / memory.FILE_NAME)
    made_files = file_names(compiled is not None, memory.FILE_NAME if memory else None)
    _pack({f"{folder.name}/{name}": folder / name for name in made_files}, archive)


def answer(names: Sequence[str], scores: np.ndarray) -> dict[str, object]:
    """Returns the content of check.json: the scores of all classes, and the predicted class."""
    by_name = {name: float(score) for name, score in zip(names, scores, strict=True)}
    return {"class": names[int(scores.argmax())], "scores": by_name}


def write_answer(expected: Mapping[str, object], path: Path) -> None:
    """Writes check.json."""
    with files.replacing(path) as made:
        made.write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")


def _pack(paths: Mapping[str, Path], archive: str | Path) -> None:
    """Writes a ZIP archive of files, by their names in it; equal files give equal archives."""
    with files.replacing(archive) as made, zipfile.ZipFile(made, "w") as packed:
        for name, path in sorted(paths.items()):
            # ZipInfo has a fixed date.
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def file_names(compiled: bool, memory: str | None = None) -> list[str]:
    """Returns the names of a bundle's files.

    Args:
        compiled: whether there is a model for the Edge TPU.
        memory: name of the file that learn.py needs; None without it.
    """
    models = ["model.tflite", "model_edgetpu.tflite"] if compiled else ["model.tflite"]
    models += [memory] if memory else []
    return [*_PARTS, *_SHARED, _LIBRARY, *models, "labels.txt", "check.png", "check.json"]


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
        rank = (names[int(scores.argmax())] == photo.label, float(scores.max()))
        if best is None or rank > best:
            best, example = rank, _Example(pixels, scores)
    if best is None:
        raise ValueError("no photo can be decoded")
    return example
