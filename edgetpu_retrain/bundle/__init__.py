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

from edgetpu_retrain import files, preprocessing
from edgetpu_retrain.embeddings import open_photo
from edgetpu_retrain.head import read_label_map
from edgetpu_retrain.interpreter import Interpreter
from edgetpu_retrain.manifest import Photo
from edgetpu_retrain.photos import PhotoError

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
        folder: where to; what is there is replaced.
        archive: path of the ZIP archive.
    """
    labels = read_label_map(label_map)
    names = [labels[i] for i in range(len(labels))]
    example = _find_example(model, names, manifest)
    here = Path(__file__).parent
    with files.replacing(folder) as made:
        made.mkdir()
        for name in _PARTS:
            shutil.copyfile(here / name, made / name)
        shutil.copyfile(model, made / "model.tflite")
        if compiled is not None:
            shutil.copyfile(compiled, made / "model_edgetpu.tflite")
        shutil.copyfile(label_map, made / "labels.txt")
        # Without loss, and of the size that the model takes, so that it is the same everywhere.
        Image.fromarray(example.pixels).save(made / "check.png", format="PNG")
        scores = {name: float(score) for name, score in zip(names, example.scores, strict=True)}
        answer = {"class": example.predicted, "scores": scores}
        (made / "check.json").write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    with files.replacing(archive) as made, zipfile.ZipFile(made, "w") as packed:
        for path in sorted(Path(folder).iterdir()):
            # Without dates, so that the same model gives the same archive.
            entry = zipfile.ZipInfo(f"{Path(folder).name}/{path.name}")
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _find_example(model: str | Path, names: Sequence[str], manifest: Iterable[Photo]) -> _Example:
    """Returns that of some photos, those for testing first, which the model is surest of.

    One of the right class is preferred: other processors should give the same answer.
    """
    interpreter = Interpreter(model, "cpu")
    at_least = preprocessing.decoded_at_least(interpreter.input_size)
    tried = heapq.nsmallest(
        _MAX_TRIED, manifest, key=lambda photo: (photo.split != "test", photo.sha256)
    )
    best: tuple[bool, float] | None = None
    for photo in tried:
        try:
            picture = open_photo(photo.path, photo.sha256, at_least)
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
