"""Views of photos, and what the layers in front of the trained ones make of them.

The layers in front do not change, so their output is computed once for a few views of each photo.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from edgetpu_retrain.embeddings.embed import InterpreterPool, in_threads
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import memory, preprocessing
from edgetpu_retrain.photos.decode import read_content, read_photo
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import cut_at

# The photo as it is, and altered versions of it.
VIEWS = 4
# An altered view shows at least this share of the photo's width and height.
_MIN_SIDE = 0.8
# Its brightness and its contrast are changed by at most this share.
_MAX_CHANGE = 0.2
# Photos per file of activations: 50 MB for 14 x 14 x 512 values.
_PER_FILE = 128


def view(
    photo: Image.Image,
    sha256: str,
    number: int,
    size: tuple[int, int],
    mirror: bool = True,
    resize: str = "bilinear",
) -> np.ndarray:
    """Returns one of the views of a photo, which are the same in every run.

    Args:
        photo: an image in mode RGB.
        sha256: its identity.
        number: 0 for the photo as it is; others are cropped, and brightened or darkened.
        size: (width, height) of the network's input in pixels.
        mirror: whether every second view is mirrored.
        resize: as for `preprocessing.to_pixels`.

    Returns:
        [height, width, 3] uint8.
    """
    if not number:
        return preprocessing.to_pixels(photo, size, resize)
    random = np.random.default_rng([int(sha256[:16], 16), number])
    width, height = np.array(photo.size) * random.uniform(_MIN_SIDE, 1)
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    box = (left, top, left + width, top + height)
    altered = photo.resize(size, preprocessing.RESIZES[resize], box=box)
    if mirror and number % 2:
        altered = altered.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        altered = enhance(altered).enhance(random.uniform(1 - _MAX_CHANGE, 1 + _MAX_CHANGE))
    return np.asarray(altered)


@dataclass(frozen=True)
class Activations:
    """The values of one tensor of a network, for the views of N photos.

    Attributes:
        parts: arrays on disk, uint8 or int8, [at most 128, VIEWS, ...].
    """

    parts: list[np.ndarray]

    def __getitem__(self, chosen: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Returns [n, ...] for the indices [n] of photos and the numbers [n] of their views."""
        photos, views = chosen
        pairs = zip(photos.tolist(), views.tolist(), strict=True)
        return np.stack([self.parts[i // _PER_FILE][i % _PER_FILE, j] for i, j in pairs])


def compute(
    model: Model,
    tensor: int,
    photos: Sequence[tuple[str, str]],
    folder: Path,
    mirror: bool = True,
    resize: str = "bilinear",
    num_threads: int = 1,
) -> Activations:
    """Computes the values of a tensor for the views of photos; continues what was interrupted.

    Args:
        model: an extractor for the CPU.
        tensor: index of the tensor.
        photos: (path, identity) of each photo.
        folder: where the values are kept.
        mirror: as for `view`.
        resize: as for `preprocessing.to_pixels`.
        num_threads: number of threads; the result does not depend on it.

    Raises:
        UserError: a photo has changed since it was indexed.
        PhotoError: a photo cannot be decoded.
    """
    # Imported here because only the workflow depends on it.
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    front = _Front(model, tensor, mirror, resize)
    paths = []
    with tqdm(total=len(photos), desc="Preparing photos", unit="photo", disable=None) as bar:
        for start in range(0, len(photos), _PER_FILE):
            part = photos[start : start + _PER_FILE]
            path = folder / f"views-{start:06d}.npy"
            paths.append(path)
            if not path.exists():
                values = np.stack(list(in_threads(front.run, part, num_threads)))
                with files.replacing(path) as temporary, temporary.open("wb") as file:
                    np.save(file, values)
            bar.update(len(part))
    return Activations([np.load(path, mmap_mode="r") for path in paths])


class _Front:
    """The layers in front of a tensor; may be used by several threads."""

    def __init__(self, model: Model, tensor: int, mirror: bool, resize: str) -> None:
        self._shape = model.tensor(tensor).shape[1:]
        self._mirror, self._resize = mirror, resize
        (image,) = model.inputs
        self._size = (image.shape[2], image.shape[1])
        self._dtype = np.dtype(image.dtype)
        self._is_input = tensor in model.subgraph.inputs
        self._content = b"" if self._is_input else cut_at(model, tensor).to_bytes()
        self._pool = InterpreterPool(self._load)

    def run(self, photo: tuple[str, str]) -> np.ndarray:
        """Returns the tensor's values for all views of a photo (path, identity)."""
        path, sha256 = photo
        min_side = preprocessing.min_decoded_side(self._size, self._resize)
        content = read_content(path, sha256)
        with memory.for_photo(content, min_side):
            picture = read_photo(content, min_side)
            views = [
                view(picture, sha256, number, self._size, self._mirror, self._resize)
                for number in range(VIEWS)
            ]
        if self._is_input:
            return np.stack([preprocessing.as_dtype(each, self._dtype) for each in views])
        with self._pool.borrow() as interpreter:
            return np.stack([interpreter.run(each).reshape(self._shape) for each in views])

    def _load(self) -> Interpreter:
        with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
            Path(file.name).write_bytes(self._content)
            return Interpreter(file.name, "cpu")
