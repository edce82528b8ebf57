"""The layer that is trained here: weights, biases, and what the classes are called."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files


@dataclass(frozen=True)
class Head:
    """A fully connected layer over D-wide embeddings for C classes.

    Attributes:
        weights: [D, C] float32.
        biases: [C] float32.
        logit_range: (lowest, highest) logit over the training embeddings; None where nobody
            knows, at a loss of resolution in the file.
        classes: names of the classes, in the order of the columns.
        training: how it was trained.
        normalized: whether it takes embeddings scaled to length 1.

    >>> head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), (0, 4), ("cat", "dog"))
    >>> head.logits(np.array([[1, 4]], np.float32))
    array([[1., 4.]], dtype=float32)
    """

    weights: np.ndarray
    biases: np.ndarray
    logit_range: tuple[float, float] | None
    classes: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    normalized: bool = False

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 [N, C], of dequantized embeddings, float32 [N, D]."""
        if self.normalized:
            embeddings = unit(embeddings)
        return embeddings @ self.weights + self.biases

    def save(self, path: str | Path) -> None:
        """Writes an .npz file without pickles; equal contents give equal bytes."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                weights=self.weights,
                biases=self.biases,
                # Empty where it is not known.
                logit_range=np.array(self.logit_range or (), np.float64),
                classes=np.array(self.classes, np.str_),
                training=np.array(json.dumps(self.training, sort_keys=True)),
                normalized=np.array(self.normalized),
            )

    @classmethod
    def load(cls, path: str | Path) -> "Head":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        with files.reading(path), np.load(path, allow_pickle=False) as arrays:
            limits = arrays["logit_range"].tolist()
            return cls(
                weights=arrays["weights"],
                biases=arrays["biases"],
                logit_range=(limits[0], limits[1]) if limits else None,
                classes=tuple(arrays["classes"].tolist()),
                training=json.loads(str(arrays["training"])),
                normalized=bool(arrays["normalized"]),
            )


def unit(rows: np.ndarray) -> np.ndarray:
    """Scales each row [N, D] to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths, lengths, 1)


def write_label_map(classes: tuple[str, ...], path: str | Path) -> None:
    """Writes one line per class, its id and its name: ``0 daisy``."""
    lines = "".join(f"{i} {name}\n" for i, name in enumerate(classes))
    with files.replacing(path) as temporary:
        temporary.write_text(lines, encoding="utf-8")


def read_label_map(path: str | Path) -> dict[int, str]:
    """Reads a label map: lines of an id and a name, or of names alone, numbered from 0.

    Raises:
        UserError: the file is not text.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_label_map(("daisy", "rose"), f"{folder}/label_map.txt")
    ...     read_label_map(f"{folder}/label_map.txt")
    {0: 'daisy', 1: 'rose'}
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a label map: it is not text in UTF-8.") from None
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split(maxsplit=1) for line in lines if line]
    if all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        return {int(identifier): name for identifier, name in pairs}
    return dict(enumerate(lines))


def read_class_names(path: str | Path, count: int) -> tuple[str, ...] | None:
    """Returns the names of the classes that a model carries.

    Args:
        path: of a .tflite file, this project's or another's.
        count: how many scores the model gives.

    Returns:
        The lines of the first file attached to the model that has as many lines; None where
        there is none.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            lines = archive.read(name).decode(errors="replace").splitlines()
            if len(lines) == count:
                return tuple(lines)
    return None
