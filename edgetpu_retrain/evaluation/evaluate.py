"""Measure a classifier file on photos."""

import heapq
import json
import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation import figures, scoring
from edgetpu_retrain.head import Head
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.index.scan import class_folders
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, preprocessing, walk
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.training import predictions
from edgetpu_retrain.training.predictions import OutOfFold, Predictions

log = logging.getLogger(__name__)

# A file writes scores in steps of 1/256.
_STEPS = 256
_STEP = np.float32(1 / _STEPS)
# Photos whose embeddings are float32 at once.
_BLOCK = 1_024


@dataclass(frozen=True)
class Evaluation:
    """How a classifier file does.

    Attributes:
        model: path of the file.
        device: what it ran on.
        training: how its head was trained (`Head.training`).
        out_of_fold: predictions of the cross-validation.
        tested: those of the file for the split test.
        test_dataset: those of the file for the test dataset.
        agreement: the fraction of photos of which the file says what the float head says.
        photos_per_second: decoding included; None without photos.
    """

    model: str
    device: str
    training: Mapping[str, Any]
    out_of_fold: Predictions
    tested: Predictions
    test_dataset: Predictions
    agreement: float
    photos_per_second: float | None

    def as_dict(self) -> dict[str, Any]:
        """Returns what evaluation.json holds."""
        temperature = self.training.get("temperature", 1.0)
        return {
            "model": self.model,
            "device": self.device,
            "recipe": self.training["recipe"],
            "classes": list(self.tested.classes),
            "test": _result(self.tested),
            "cross_validation": _result(self.out_of_fold),
            "test_dataset": _result(self.test_dataset),
            "learning_curve": self.training.get("learning_curve", []),
            "strengths": self.training.get("strengths", []),
            "strength": self.training.get("strength"),
            "class_weights": self.training.get("class_weights"),
            "softmax_regression": self.training.get("softmax_regression"),
            "temperature": temperature,
            "calibration": _calibration(self.tested, self.out_of_fold, temperature),
            "thresholds": figures.thresholds(
                self.out_of_fold.labels, _as_written(self.out_of_fold.scores)
            ),
            "agreement_with_float_head": self.agreement,
            "photos_per_second": self.photos_per_second,
        }


def _as_written(scores: np.ndarray) -> np.ndarray:
    """Rounds scores as a file does."""
    found = scores * _STEPS
    np.round(found, out=found).clip(0, _STEPS - 1, out=found)
    found /= _STEPS
    return found


def _result(judged: Predictions) -> dict[str, Any] | None:
    return figures.result(judged.labels, judged.predicted, judged.classes)


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
    before = scores.astype(np.float64)
    before **= temperature
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
    labelled: LabelledEmbeddings,
    out_of_fold: OutOfFold,
    predicted: str | Path,
    test_dataset: str | Path | None = None,
    device: str = "auto",
    resize: str = "bilinear",
) -> Evaluation:
    """Runs a classifier file on the split test: on embeddings, and on a few of the raw photos.

    The file is compared with the float head on the embeddings of all photos.

    Args:
        model: path of the .tflite file.
        head: the float head that the file was made with.
        labelled: the embeddings of all photos.
        out_of_fold: what the cross-validation says of the photos that are not for testing.
        predicted: where to write all predictions, as `predictions.writing` does.
        test_dataset: a folder of one folder of photos per class.
        device: as `devices.resolve_device` takes it.
        resize: as `preprocessing.to_pixels` takes it.

    Raises:
        UserError: the file gives other scores for a photo than its last layer for the embedding,
            a photo was not cross-validated, or the test dataset has other classes.
    """
    judged = cross_validated(out_of_fold, labelled)
    # The last layer takes so little that the file is compared with the float head on all photos.
    scores = scoring.score(model, labelled.vectors)
    tested = labelled.select(labelled.splits == TEST)
    compared = tested if len(tested) else labelled
    # By identity, so that the sample of raw photos is of all classes.
    sample = heapq.nsmallest(
        scoring.SAMPLE, compared.in_manifest_order(), key=lambda found: found[1].sha256
    )
    rows = compared.rows[[i for i, _ in sample]]
    photos_per_second = scoring.check_on_photos(
        model, [photo for _, photo in sample], scores[rows], device, resize
    )
    with predictions.writing(predicted, head.classes) as add:
        answers = zip(judged.folds.tolist(), judged.scores, strict=True)
        for i, photo in labelled.in_manifest_order():
            is_tested = labelled.splits[i] == TEST
            fold, found = (-1, scores[labelled.rows[i]] * _STEP) if is_tested else next(answers)
            add(photo, fold, found)
        others = _judge_folder(model, test_dataset, head.classes, device, resize, add)
    return Evaluation(
        model=str(model),
        device=device,
        training=head.training,
        out_of_fold=judged,
        tested=_by_file(head.classes, tested.labels, TEST, scores[tested.rows] * _STEP),
        test_dataset=others,
        agreement=_agreement(head, labelled, scores),
        photos_per_second=photos_per_second and round(photos_per_second, 1),
    )


def cross_validated(out_of_fold: OutOfFold, labelled: LabelledEmbeddings) -> Predictions:
    """Returns the predictions of the photos that are not for testing, in the manifest's order.

    Raises:
        UserError: one of them was not cross-validated.
    """
    place_of = {sha256: place for place, sha256 in enumerate(out_of_fold.identities)}
    lines = np.argsort(labelled.lines)
    lines = lines[labelled.splits[lines] != TEST]
    identities = (labelled.identities[row] for row in labelled.rows[lines].tolist())
    places = np.array([place_of.get(sha256, -1) for sha256 in identities], int)
    if np.any(places < 0):
        raise UserError(
            "The cross-validation is of other photos. Delete out_of_fold.npz, run again."
        )
    return Predictions(
        labelled.classes,
        labelled.labels[lines],
        labelled.splits[lines],
        out_of_fold.folds[places],
        out_of_fold.scores[places],
    )


def _by_file(
    classes: tuple[str, ...], labels: np.ndarray, split: int, scores: np.ndarray
) -> Predictions:
    splits, folds = (np.full(len(labels), number, np.int8) for number in (split, -1))
    return Predictions(classes, labels, splits, folds, scores)


def _agreement(head: Head, labelled: LabelledEmbeddings, scores: np.ndarray) -> float:
    """Returns the fraction of photos whose highest score in the file is the float head's too."""
    same = 0
    for block in blocks(len(scores), _BLOCK):
        logits = head.logits(labelled.quantization.dequantize(labelled.vectors[block]))
        same += int(np.sum(logits.argmax(axis=1) == scores[block].argmax(axis=1)))
    return same / len(scores)


def _judge_folder(
    model: str | Path,
    folder: str | Path | None,
    classes: tuple[str, ...],
    device: str,
    resize: str,
    add: predictions.AddPrediction,
) -> Predictions:
    """Runs the model on the photos of a folder that was not indexed; unreadable ones are left out.

    Raises:
        UserError: a folder in it is none of the classes.
    """
    labels, scores = array("i"), array("f")
    if folder is not None:
        interpreter = Interpreter(model, device)
        for photo, picture in _pictures(Path(folder), classes):
            pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
            found = interpreter.run(pixels) * _STEP
            add(photo, -1, found)
            labels.append(classes.index(photo.label))
            scores.extend(found)
    values = np.asarray(scores).reshape(len(labels), len(classes))
    number = predictions.SPLITS.index(predictions.TEST_DATASET)
    return _by_file(classes, np.asarray(labels), number, values)


def _pictures(folder: Path, classes: Sequence[str]) -> Iterator[tuple[Photo, Image.Image]]:
    for class_folder in class_folders(folder, descend=False):
        if class_folder.name not in classes:
            raise UserError(
                f"config: test_dataset has a folder {class_folder.name!r}, which is not one of "
                f"the classes: {', '.join(classes)}."
            )
        found = walk.find_photos(class_folder)
        for path, _ in tqdm(found, desc=f"Classifying {class_folder.name}", unit="photo"):
            try:
                picture = decode.read_file(path)
            except decode.PhotoError as error:
                log.warning("%s is left out: %s", path, error)
                continue
            name, sha256 = class_folder.name, files.sha256(path)
            yield Photo(str(path), name, predictions.TEST_DATASET, sha256), picture


def save(evaluation: Evaluation, path: str | Path) -> None:
    """Writes evaluation.json."""
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")
