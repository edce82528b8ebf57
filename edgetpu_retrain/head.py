"""The trained last layer of a classifier: weights, biases, class names and the gate of `none`."""

import contextlib
import json
import logging
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import preprocessing

log = logging.getLogger(__name__)

# The file in a model's archive that says how photos are resized.
RESIZE = "resize.txt"
_MAX_ASSOCIATED_BYTES = 1 << 24
# The class of photos that belong to no other class.
NONE = "none"


@dataclass(frozen=True)
class Gate:
    """Tells photos that are like the training photos from others, which get the class `none`.

    The embeddings of the training photos lie near a subspace, those of other things farther away.
    The energy of a photo is the squared length, from 0 to 1, of the projection of its L2-normalized
    embedding onto that subspace.

    Attributes:
        axes: [D, K] float32, orthonormal axes of the subspace.
        threshold: energy of a photo with the score 0.5.
        slope: increase of the score's logit per unit of energy.
        limits: (lowest, highest) coordinate of a training photo along any of the axes.
    """

    axes: np.ndarray
    threshold: float
    slope: float
    limits: tuple[float, float]

    def known(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns how much photos are like the training photos, float32 [N], from 0 to 1.

        Args:
            embeddings: [N, D] float32, dequantized.
        """
        return self.scores(energies(embeddings, self.axes))

    def scores(self, photo_energies: np.ndarray) -> np.ndarray:
        """Returns the scores [N] float32 of photos with these energies [N]."""
        logits = np.asarray(self.slope * (photo_energies - self.threshold), np.float32)
        # The logistic function, in a form that does not overflow.
        return np.asarray((1 + np.tanh(logits / 2)) / 2)


def energies(embeddings: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Returns the energies [N] of embeddings [N, D] in the subspace with the axes [D, K]."""
    return np.asarray(np.square(l2_normalize(embeddings) @ axes).sum(axis=1))


def with_none(scores: np.ndarray, known: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Returns scores that include the class `none`; those of a photo still add up to 1.

    Args:
        scores: [N, C] scores of the trained classes.
        known: [N], from `Gate.known`.
        classes: their names. If there are photos of a class `none`, its score is increased;
            otherwise it is added as the last class.
    """
    gated, rest = scores * known[:, np.newaxis], 1 - known
    if NONE not in classes:
        return np.concatenate([gated, rest[:, np.newaxis]], axis=1)
    gated[:, classes.index(NONE)] += rest
    return np.asarray(gated)


@dataclass(frozen=True)
class Head:
    """A fully connected layer from D-dimensional embeddings to C classes.

    Attributes:
        weights: [D, C] float32.
        biases: [C] float32.
        logit_range: (lowest, highest) logit over the training embeddings. If it is None
            (unknown), the quantized logits have a coarser resolution.
        classes: class names, in the order of the columns of `weights`. With a gate, `none` follows
            as the last one unless it is among them.
        training: how the layer was trained: recipe, hyperparameters and results, as JSON values.
        normalized: whether embeddings are L2-normalized before the layer.
        gate: what tells photos of no class; None without it.

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
    gate: Gate | None = None

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 [N, C], of dequantized embeddings, float32 [N, D]."""
        if self.normalized:
            embeddings = l2_normalize(embeddings)
        return np.asarray(embeddings @ self.weights + self.biases)

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the scores of all classes, float32, of dequantized embeddings [N, D]."""
        logits = self.logits(embeddings)
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        if self.gate is None:
            return np.asarray(scores)
        return with_none(scores, self.gate.known(embeddings), self.classes[: len(self.biases)])

    def save(self, path: str | Path) -> None:
        """Writes an .npz file without pickles; equal heads give identical files."""
        arrays: dict[str, Any] = {
            "weights": self.weights,
            "biases": self.biases,
            # Empty if unknown.
            "logit_range": np.array(self.logit_range or (), np.float64),
            "classes": np.array(self.classes, np.str_),
            "training": np.array(json.dumps(self.training, sort_keys=True)),
            "normalized": np.array(self.normalized),
        }
        if self.gate is not None:
            numbers = [self.gate.threshold, self.gate.slope, *self.gate.limits]
            arrays |= {"gate_axes": self.gate.axes, "gate": np.array(numbers, np.float64)}
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Head":
        """Reads a file written by `save`.

        Raises:
            UserError: the file is damaged.
        """
        with files.reading(path):
            loaded = np.load(path, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it is not an .npz file")
            with loaded as arrays:
                weights, biases, classes = (
                    arrays[name] for name in ("weights", "biases", "classes")
                )
                logit_range = arrays["logit_range"].reshape(-1).tolist()
                training = json.loads(str(arrays["training"]))
                normalized = bool(arrays["normalized"])
                gate = _read_gate(arrays) if "gate_axes" in arrays else None
            names = tuple(map(str, classes.tolist()))
            is_added = gate is not None and len(names) == len(biases) + 1 and names[-1] == NONE
            if not (
                weights.ndim == 2
                and biases.shape == weights.shape[1:]
                and (len(names) in (0, len(biases)) or is_added)
                and (gate is None or gate.axes.shape[:1] == weights.shape[:1])
                and len(logit_range) in (0, 2)
                and {weights.dtype, biases.dtype} == {np.dtype(np.float32)}
                and isinstance(training, dict)
            ):
                raise ValueError("its arrays are not those of a head")
        return cls(
            weights=weights,
            biases=biases,
            logit_range=(logit_range[0], logit_range[1]) if logit_range else None,
            classes=names,
            training=training,
            normalized=normalized,
            gate=gate,
        )


def _read_gate(arrays: Mapping[str, np.ndarray]) -> Gate:
    threshold, slope, low, high = arrays["gate"].tolist()
    return Gate(arrays["gate_axes"], threshold, slope, (low, high))


def l2_normalize(rows: np.ndarray) -> np.ndarray:
    """Returns the rows [N, D] scaled to unit L2 norm; rows of zeros are unchanged."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths, lengths, 1)


def write_label_map(classes: tuple[str, ...], path: str | Path) -> None:
    """Writes one line per class with its id and name, as in ``0 daisy``."""
    lines = "".join(f"{i} {name}\n" for i, name in enumerate(classes))
    with files.replacing(path) as temporary:
        temporary.write_text(lines, encoding="utf-8")


def read_label_map(path: str | Path) -> dict[int, str]:
    """Reads a label map: lines with an id and a name, or with names only, numbered from 0.

    Raises:
        UserError: the file is not UTF-8 text.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_label_map(("daisy", "rose"), f"{folder}/label_map.txt")
    ...     read_label_map(f"{folder}/label_map.txt")
    {0: 'daisy', 1: 'rose'}
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a label map: it is not UTF-8 text.") from None
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split(maxsplit=1) for line in lines if line]
    if all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        return {int(identifier): name for identifier, name in pairs}
    return dict(enumerate(lines))


def read_class_names(path: str | Path, count: int) -> tuple[str, ...] | None:
    """Returns the class names stored in a model.

    Args:
        path: path of any .tflite file, with or without TFLite metadata.
        count: number of scores the model outputs.

    Returns:
        The lines of the first associated file with `count` lines, or None if there is none.

    Raises:
        UserError: the archive with these files is damaged.
    """
    lines = (text.splitlines() for text in _associated_files(path).values())
    return next((tuple(names) for names in lines if len(names) == count), None)


def read_resize(path: str | Path) -> str:
    """Returns how photos are resized for a model, as for `preprocessing.to_pixels`.

    Args:
        path: path of any .tflite file.

    Returns:
        What the model says, if it was trained here; "bilinear" if it says nothing.
    """
    resize = ""
    # A damaged archive is reported when class names are read.
    with contextlib.suppress(UserError):
        resize = _associated_files(path, RESIZE).get(RESIZE, "")
    return resize if resize in preprocessing.RESIZES else "bilinear"


def _associated_files(path: str | Path, wanted: str = "") -> dict[str, str]:
    """Returns the text of the files in the archive at a model's end, or of one of them, by name."""
    if not zipfile.is_zipfile(path):
        return {}
    texts = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if wanted not in ("", entry.filename):
                    continue
                if entry.file_size > _MAX_ASSOCIATED_BYTES:
                    log.warning(
                        "%s: the file %s in it is too large for class names (%d bytes).",
                        *(path, entry.filename, entry.file_size),
                    )
                    continue
                texts[entry.filename] = archive.read(entry).decode(errors="replace")
    # zipfile raises RuntimeError or NotImplementedError where damage looks like encryption.
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError, OSError) as error:
        raise UserError(
            f"The class names in {path} cannot be read: the archive at its end is damaged "
            f"({error}). Use the label map that was made with the model."
        ) from error
    return texts
