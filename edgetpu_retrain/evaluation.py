"""Measure a classifier file on photos."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from edgetpu_retrain import figures, files, photos, preprocessing, scoring
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.index import class_folders
from edgetpu_retrain.interpreter import Interpreter
from edgetpu_retrain.manifest import Photo
from edgetpu_retrain.predictions import Predictions

log = logging.getLogger(__name__)

TEST_DATASET = "test_dataset"
# A file writes scores in steps of 1/256.
_STEPS = 256
_PART = 8_192


@dataclass(frozen=True)
class Evaluation:
    """How a classifier file does.

    Attributes:
        model: path of the file.
        device: what it ran on.
        training: how its head was trained (`Head.training`).
        predictions: out of fold, and from the file on photos of the split test and of the test
            dataset.
        agreement: the fraction of photos of which the file says what the float head says.
        photos_per_second: decoding included; None without photos.
    """

    model: str
    device: str
    training: Mapping[str, Any]
    predictions: Predictions
    agreement: float
    photos_per_second: float | None

    def of_split(self, name: str) -> Predictions:
        """The predictions of the file for a split or the test dataset."""
        return self.predictions.take(self.predictions.splits == name)

    def as_dict(self) -> dict[str, Any]:
        """Returns what evaluation.json holds."""
        out_of_fold, tested = self.predictions.out_of_fold, self.of_split("test")
        temperature = self.training.get("temperature", 1.0)
        return {
            "model": self.model,
            "device": self.device,
            "recipe": self.training["recipe"],
            "classes": list(self.predictions.classes),
            "test": _result(tested),
            "cross_validation": _result(out_of_fold),
            "test_dataset": _result(self.of_split(TEST_DATASET)),
            "learning_curve": self.training.get("learning_curve", []),
            "strengths": self.training.get("strengths", []),
            "strength": self.training.get("strength"),
            "class_weights": self.training.get("class_weights"),
            "softmax_regression": self.training.get("softmax_regression"),
            "temperature": temperature,
            "calibration": _calibration(tested, out_of_fold, temperature),
            "thresholds": figures.thresholds(out_of_fold.labels, _as_written(out_of_fold.scores)),
            "agreement_with_float_head": self.agreement,
            "photos_per_second": self.photos_per_second,
        }


def _as_written(scores: np.ndarray) -> np.ndarray:
    """Rounds scores as a file does."""
    return np.round(scores * _STEPS).clip(0, _STEPS - 1) / _STEPS


def _result(predictions: Predictions) -> dict[str, Any] | None:
    return figures.result(predictions.labels, predictions.predicted, predictions.classes)


def _calibration(
    tested: Predictions, out_of_fold: Predictions, temperature: float
) -> dict[str, Any]:
    """Returns the calibration error of 8-bit scores before and after the temperature.

    It is that of the file on test photos, or, where there are none, that of the scores out of fold
    in steps of 1/256, as the file would write them.
    """
    of, scores = "test", tested.scores
    if not len(tested.labels):
        of, tested = "cross_validation", out_of_fold
        scores = _as_written(out_of_fold.scores)
    # softmax(logits / t) ** t is softmax(logits), but for the sum.
    before = scores.astype(np.float64) ** temperature
    before /= before.sum(axis=1, keepdims=True)
    after, bins = figures.calibration(tested.labels, scores)
    return {
        "of": of,
        "before": figures.calibration(tested.labels, before)[0],
        "after": after,
        "bins": bins,
    }


def evaluate(
    model: str | Path,
    head: Head,
    manifest: Sequence[Photo],
    embeddings: Embeddings,
    out_of_fold: Predictions,
    test_dataset: str | Path | None = None,
    device: str = "auto",
    resize: str = "bilinear",
) -> Evaluation:
    """Runs a classifier file on the split test: on embeddings, and on a few of the raw photos.

    The file is compared with the float head on the embeddings of all photos.

    Args:
        model: path of the .tflite file.
        head: the float head that the file was made with.
        manifest: of all photos.
        embeddings: those of all shards.
        out_of_fold: predictions of the cross-validation.
        test_dataset: a folder of one folder of photos per class.
        device: as `devices.resolve_device` takes it.
        resize: as `preprocessing.to_pixels` takes it.

    Raises:
        UserError: the file gives other scores for a photo than its last layer for the embedding,
            or the test dataset has other classes.
    """
    undecodable = embeddings.why_undecodable()
    # By identity, so that the sample of raw photos is of all classes.
    listed = sorted(
        (photo for photo in manifest if photo.sha256 not in undecodable),
        key=lambda photo: photo.sha256,
    )
    tested = [photo for photo in listed if photo.split == "test"]
    # The last layer takes so little that the file is compared with the float head on all photos.
    scores = scoring.score(model, embeddings.embeddings)
    agreement = _agreement(head, embeddings, scores)
    compared = tested or listed
    scores = scores[embeddings.rows(photo.sha256 for photo in compared)]
    photos_per_second = scoring.check_on_photos(model, compared, scores, device, resize)
    parts = [out_of_fold]
    if tested:
        parts.append(_predictions(tested, scores / _STEPS, head.classes))
    if test_dataset is not None:
        interpreter = Interpreter(model, device)
        parts.append(_classify_folder(interpreter, Path(test_dataset), head.classes, resize))
    return Evaluation(
        model=str(model),
        device=device,
        training=head.training,
        predictions=Predictions.concatenate(parts),
        agreement=agreement,
        photos_per_second=photos_per_second and round(photos_per_second, 1),
    )


def _agreement(head: Head, embeddings: Embeddings, scores: np.ndarray) -> float:
    """Returns the fraction of photos whose highest score in the file is the float head's too."""
    same = 0
    for start in range(0, len(scores), _PART):
        part = slice(start, start + _PART)
        values = embeddings.quantization.dequantize(embeddings.embeddings[part])
        same += int(np.sum(head.logits(values).argmax(axis=1) == scores[part].argmax(axis=1)))
    return same / len(scores)


def _predictions(
    photos: Sequence[Photo], scores: Sequence[np.ndarray] | np.ndarray, classes: tuple[str, ...]
) -> Predictions:
    return Predictions(
        tuple(photo.path for photo in photos),
        np.array([photo.sha256 for photo in photos], "S64"),
        classes,
        np.array([classes.index(photo.label) for photo in photos], int),
        np.array([photo.split for photo in photos], np.str_),
        np.full(len(photos), -1),
        np.array(scores, np.float32).reshape(len(photos), len(classes)),
    )


def _classify_folder(
    interpreter: Interpreter, folder: Path, classes: tuple[str, ...], resize: str
) -> Predictions:
    """Runs the model on the photos of a folder that was not indexed; unreadable ones are left out.

    Raises:
        UserError: a folder in it is none of the classes.
    """
    found, scores = [], []
    for class_folder in class_folders(folder, descend=False):
        if class_folder.name not in classes:
            raise UserError(
                f"config: test_dataset has a folder {class_folder.name!r}, which is not one of "
                f"the classes: {', '.join(classes)}."
            )
        paths = [path for path, _ in photos.find_photos(class_folder)]
        for path in tqdm(paths, desc=f"Classifying {class_folder.name}", unit="photo"):
            try:
                picture = photos.read_file(path)
            except photos.PhotoError as error:
                log.warning("%s is left out: %s", path, error)
                continue
            pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
            scores.append(interpreter.run(pixels) / _STEPS)
            found.append(Photo(str(path), class_folder.name, TEST_DATASET, files.sha256(path)))
    return _predictions(found, scores, classes)


def save(evaluation: Evaluation, path: str | Path) -> None:
    """Writes evaluation.json."""
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")
