"""Evaluates a classifier file: test photos, cross-validation and an extra test dataset."""

import heapq
import json
import logging
from array import array
from collections import Counter
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
from edgetpu_retrain.head import NONE, Head
from edgetpu_retrain.index import layout
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, preprocessing, walk
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.edgetpu_package import streamed_bytes
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.training import predictions
from edgetpu_retrain.training.predictions import OutOfFold, Predictions

log = logging.getLogger(__name__)

# The classifier's output is uint8 with a scale of 1/256.
_STEPS = 256
_STEP = np.float32(1 / _STEPS)
# Photos whose embeddings are dequantized to float32 at a time.
_BLOCK = 1_024


@dataclass(frozen=True)
class Evaluation:
    """The results of a classifier file.

    Attributes:
        model: path of the file.
        device: what it ran on, as for `devices.resolve_device`.
        training: how its head was trained (`Head.training`).
        out_of_fold: predictions from cross-validation.
        test: the file's predictions for the test split.
        test_dataset: the file's predictions for the test dataset.
        agreement: fraction of photos for which the file and the float head predict the same class.
        photos_per_second: speed on raw photos, including decoding; None without photos.
        strangers: number of photos of other things by predicted class; None without such photos.
        streamed_bytes: bytes of parameters that the file sends to the Edge TPU for every image,
            which is slow; None for a CPU file.
        nested: number of photos that were judged by other extractors, because that of the file
            was fine-tuned on them.
    """

    model: str
    device: str
    training: Mapping[str, Any]
    out_of_fold: Predictions
    test: Predictions
    test_dataset: Predictions
    agreement: float
    photos_per_second: float | None
    strangers: Mapping[str, int] | None = None
    streamed_bytes: int | None = None
    nested: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Returns the content of evaluation.json."""
        temperature = self.training.get("temperature", 1.0)
        return {
            "model": self.model,
            "device": self.device,
            "recipe": self.training["recipe"],
            "classes": list(self.test.classes),
            "test": _result(self.test),
            "cross_validation": _result(self.out_of_fold),
            "nested": self.nested,
            "test_dataset": _result(self.test_dataset),
            "learning_curve": self.training.get("learning_curve", []),
            "strengths": self.training.get("strengths", []),
            "strength": self.training.get("strength"),
            "class_weights": self.training.get("class_weights"),
            "softmax_regression": self.training.get("softmax_regression"),
            "temperature": temperature,
            "calibration": _calibration(self.test, self.out_of_fold, temperature),
            "thresholds": figures.thresholds(
                self.out_of_fold.labels, _quantize(self.out_of_fold.scores)
            ),
            "agreement_with_float_head": self.agreement,
            "photos_per_second": self.photos_per_second,
            "streamed_bytes": self.streamed_bytes,
            **{k: v for k, v in self.training.items() if k == "pseudo_labels"},
        } | self._none()

    def _none(self) -> dict[str, Any]:
        """Returns the entry on the gate for photos of no class; nothing without one."""
        left_out = self.training.get("left_out")
        if left_out is None:
            return {}
        classes = self.out_of_fold.classes
        none = classes.index(NONE)
        confusion = figures.confusion_matrix(
            self.out_of_fold.labels, self.out_of_fold.predicted, len(classes)
        )
        known = {
            name: {"photos": int(row.sum()), "none": int(row[none])}
            for name, row in zip(classes, confusion, strict=True)
            if name != NONE
        }
        return {"none": {"known": known, "left_out": left_out, "strangers": self.strangers}}


def _quantize(scores: np.ndarray) -> np.ndarray:
    """Rounds scores to the 256 values that a uint8 output can represent."""
    rounded = scores * _STEPS
    np.round(rounded, out=rounded).clip(0, _STEPS - 1, out=rounded)
    rounded /= _STEPS
    return rounded


def _result(predictions: Predictions) -> dict[str, Any] | None:
    return figures.result(predictions.labels, predictions.predicted, predictions.classes)


def _calibration(test: Predictions, out_of_fold: Predictions, temperature: float) -> dict[str, Any]:
    """Returns the calibration error of 8-bit scores before and after temperature scaling.

    It is measured on the file's scores for the test photos. Without test photos, it is measured on
    the out-of-fold scores, rounded as the file would round them.
    """
    of, scores, labels = "test", test.scores, test.labels
    if not len(labels):
        of, scores, labels = "cross_validation", _quantize(out_of_fold.scores), out_of_fold.labels
    # softmax(logits / t) ** t is softmax(logits), up to normalization.
    before = scores.astype(np.float64)
    before **= temperature
    before /= before.sum(axis=1, keepdims=True)
    after, bins = figures.calibration(labels, scores)
    return {
        "of": of,
        "before": figures.calibration(labels, before)[0],
        "after": after,
        "bins": bins,
    }


def evaluate(
    model: str | Path,
    head: Head,
    labelled: LabelledEmbeddings,
    out_of_fold: OutOfFold,
    table: str | Path,
    test_dataset: str | Path | None = None,
    strangers: str | Path | None = None,
    device: str = "auto",
    resize: str = "bilinear",
) -> Evaluation:
    """Evaluates a classifier file on the test split and, if there is one, on the test dataset.

    The file's last layer runs on the embeddings of all photos, and the whole file on a few raw
    photos as a check.

    Args:
        model: path of the .tflite file.
        head: the float head that the file was made from.
        labelled: the embeddings of all photos.
        out_of_fold: scores from cross-validation of all photos outside the test split; the others
            are those that the extractor was fine-tuned on, which are left out of the evaluation.
        table: path of predictions.tsv, which is written as by `predictions.writing`.
        test_dataset: a folder with one folder of photos per class.
        strangers: a folder of photos of other things.
        device: as for `devices.resolve_device`.
        resize: as for `preprocessing.to_pixels`.

    Raises:
        UserError: the whole file and its last layer give different scores, a photo was not
            cross-validated, a folder of the test dataset is not one of the classes, or no photo of
            other things can be read.
    """
    labelled = without_unjudged(out_of_fold, labelled)
    cross_validated = cross_validation_predictions(out_of_fold, labelled, head.classes)
    # The last layer is fast enough to run on all photos, for the agreement with the float head.
    scores = scoring.score(model, labelled.vectors)
    test = labelled.select(labelled.splits == TEST)
    checked = test if len(test) else labelled
    # The lowest hashes are a reproducible random sample of all classes.
    sample = heapq.nsmallest(
        scoring.SAMPLE_SIZE, checked.in_manifest_order(), key=lambda item: item[1].sha256
    )
    rows = checked.rows[[i for i, _ in sample]]
    photos_per_second = scoring.check_on_photos(
        model, [photo for _, photo in sample], scores[rows], device, resize
    )
    with predictions.writing(table, head.classes) as add:
        out_of_fold_rows = zip(cross_validated.folds.tolist(), cross_validated.scores, strict=True)
        for i, photo in labelled.in_manifest_order():
            if labelled.splits[i] == TEST:
                add(photo, -1, scores[labelled.rows[i]] * _STEP)
            else:
                add(photo, *next(out_of_fold_rows))
        on_test_dataset = _predict_folder(model, test_dataset, head.classes, device, resize, add)
    return Evaluation(
        model=str(model),
        device=device,
        training=head.training,
        out_of_fold=cross_validated,
        test=_file_predictions(head.classes, test.labels, TEST, scores[test.rows] * _STEP),
        test_dataset=on_test_dataset,
        agreement=_agreement(head, labelled, scores),
        photos_per_second=photos_per_second and round(photos_per_second, 1),
        strangers=_classify_strangers(model, strangers, head.classes, device, resize),
        streamed_bytes=streamed_bytes(Model.load(model)),
        nested=len(set(out_of_fold.seen).intersection(out_of_fold.identities)),
    )


def without_unjudged(out_of_fold: OutOfFold, labelled: LabelledEmbeddings) -> LabelledEmbeddings:
    """Returns the photos that were cross-validated, and the test photos."""
    if not out_of_fold.unjudged:
        return labelled
    return labelled.select(~labelled.are_of(out_of_fold.unjudged) | (labelled.splits == TEST))


def cross_validation_predictions(
    out_of_fold: OutOfFold, labelled: LabelledEmbeddings, classes: tuple[str, ...]
) -> Predictions:
    """Returns the predictions for all photos outside the test split, in the manifest's order.

    Args:
        out_of_fold: scores by identity.
        labelled: all photos.
        classes: names of the classes, in the order of the scores.

    Raises:
        UserError: one of them was not cross-validated.
    """
    row_of = {sha256: row for row, sha256 in enumerate(out_of_fold.identities)}
    lines = np.argsort(labelled.lines)
    lines = lines[labelled.splits[lines] != TEST]
    identities = (labelled.identities[row] for row in labelled.rows[lines].tolist())
    rows = np.array([row_of.get(sha256, -1) for sha256 in identities], int)
    if np.any(rows < 0):
        raise UserError(
            "out_of_fold.npz belongs to a different set of photos. Delete it and run again."
        )
    return Predictions(
        classes,
        labelled.labels[lines],
        labelled.splits[lines],
        out_of_fold.folds[rows],
        out_of_fold.scores[rows],
    )


def _file_predictions(
    classes: tuple[str, ...], labels: np.ndarray, split: int, scores: np.ndarray
) -> Predictions:
    splits, folds = (np.full(len(labels), value, np.int8) for value in (split, -1))
    return Predictions(classes, labels, splits, folds, scores)


def _agreement(head: Head, labelled: LabelledEmbeddings, scores: np.ndarray) -> float:
    """Returns the fraction of photos for which the file and the float head agree on the class."""
    same = 0
    for block in blocks(len(scores), _BLOCK):
        floats = head.scores(labelled.quantization.dequantize(labelled.vectors[block]))
        same += int(np.sum(floats.argmax(axis=1) == scores[block].argmax(axis=1)))
    return same / len(scores)


def _predict_folder(
    model: str | Path,
    folder: str | Path | None,
    classes: tuple[str, ...],
    device: str,
    resize: str,
    add: predictions.AddPrediction,
) -> Predictions:
    """Runs the model on the photos of a folder; unreadable photos are skipped with a warning.

    Raises:
        UserError: one of its folders is not one of the classes.
    """
    labels, scores = array("i"), array("f")
    if folder is not None:
        interpreter = Interpreter(model, device)
        min_side = preprocessing.min_decoded_side(interpreter.input_size, resize)
        for photo, picture in _pictures(Path(folder), classes, min_side):
            pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
            photo_scores = interpreter.run(pixels) * _STEP
            add(photo, -1, photo_scores)
            labels.append(classes.index(photo.label))
            scores.extend(photo_scores)
    values = np.asarray(scores).reshape(len(labels), len(classes))
    split = predictions.SPLITS.index(predictions.TEST_DATASET)
    return _file_predictions(classes, np.asarray(labels), split, values)


def _pictures(
    folder: Path, classes: Sequence[str], min_side: int | None
) -> Iterator[tuple[Photo, Image.Image]]:
    for class_folder in layout.find(folder).folders:
        name = class_folder.label
        if name not in classes:
            raise UserError(
                f"config: test_dataset has a folder {class_folder.path.name!r}, which is not one "
                f"of the classes: {', '.join(classes)}."
            )
        for path, picture in _readable(class_folder.path, name, min_side):
            yield Photo(path, name, predictions.TEST_DATASET, files.sha256(path)), picture


def _readable(folder: Path, name: str, min_side: int | None) -> Iterator[tuple[str, Image.Image]]:
    """Yields the paths and pictures of a folder; unreadable photos are skipped with a warning."""
    for path, _ in tqdm(walk.find_photos(folder), desc=f"Classifying {name}", unit="photo"):
        try:
            picture = decode.read_file(path, min_side)
        except decode.PhotoError as error:
            log.warning("Skipping %s: %s", path, error)
            continue
        yield path, picture


def _classify_strangers(
    model: str | Path,
    folder: str | Path | None,
    classes: tuple[str, ...],
    device: str,
    resize: str,
) -> dict[str, int] | None:
    """Returns the number of photos in a folder by predicted class; None without a folder.

    Raises:
        UserError: none of its photos can be read.
    """
    if folder is None:
        return None
    interpreter = Interpreter(model, device)
    min_side = preprocessing.min_decoded_side(interpreter.input_size, resize)
    counts: Counter[str] = Counter()
    for _, picture in _readable(Path(folder), "strangers", min_side):
        pixels = preprocessing.to_pixels(picture, interpreter.input_size, resize)
        counts[classes[interpreter.run(pixels).argmax()]] += 1
    if not counts:
        raise UserError(f"config: strangers: no photo in the folder {folder} can be read.")
    return {name: counts[name] for name in classes}


def save(evaluation: Evaluation, path: str | Path) -> None:
    """Writes evaluation.json; `docs/reference/files.md` describes its keys."""
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")
