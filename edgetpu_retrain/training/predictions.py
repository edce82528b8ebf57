"""Predictions: the scores of all classes for each photo, and the table of them."""

import contextlib
import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files, tables

TEST_DATASET = "test_dataset"
SPLITS = (*manifest.SPLITS, TEST_DATASET)
_NUMBERS = {name: number for number, name in enumerate(SPLITS)}
_COLUMNS = ("path", "sha256", "class", "split", "fold", "predicted")
# Enough digits to restore a float32 exactly.
_FORMAT = "%.9g"


@dataclass(frozen=True)
class Predictions:
    """Scores of N photos, each from a layer that was not trained on the photo.

    Attributes:
        classes: names of the C classes.
        labels: [N] int, true classes.
        splits: [N] int8, indices in `SPLITS`.
        folds: [N] int, fold that the layer was trained without; -1 if the scores are from the
            written model file.
        scores: [N, C] float32, softmax scores.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    folds: np.ndarray
    scores: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """[N] int, predicted classes: those with the highest score."""
        return np.asarray(self.scores.argmax(axis=1))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class OutOfFold:
    """Cross-validated scores by identity, which stays the same if a photo's path or class changes.

    Attributes:
        identities: SHA-256 of the N photos in hexadecimal.
        folds: [N] int, fold that the layer was trained without; from 10 on for predictions by
            another extractor (`fine_tuning.nested`).
        scores: [N, C] float32, softmax scores.
        seen: SHA-256 of the photos that the extractor was fine-tuned on, or on near-copies of
            them. Only another extractor can judge them.
    """

    identities: Sequence[str]
    folds: np.ndarray
    scores: np.ndarray
    seen: Sequence[str] = ()

    @property
    def unjudged(self) -> set[str]:
        """SHA-256 of the photos without a prediction."""
        return set(self.seen).difference(self.identities)

    def save(self, path: str | Path) -> None:
        """Writes an .npz file without pickles; equal scores give identical files."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            identities, seen = (np.array(each, "S64") for each in (self.identities, self.seen))
            np.savez(file, identities=identities, folds=self.folds, scores=self.scores, seen=seen)

    @classmethod
    def load(cls, path: str | Path) -> "OutOfFold":
        """Reads a file written by `save`.

        Raises:
            UserError: the file is damaged.
        """
        with files.reading(path), np.load(path, allow_pickle=False) as arrays:
            identities, seen = (
                [sha256.decode() for sha256 in arrays[name].tolist()]
                for name in ("identities", "seen")
            )
            return cls(identities, arrays["folds"], arrays["scores"], seen)


AddPrediction = Callable[[Photo, int, np.ndarray], None]


@contextlib.contextmanager
def writing(path: str | Path, classes: Sequence[str]) -> Iterator[AddPrediction]:
    """Yields a function that adds a photo, its fold and its scores to a .tsv file.

    The file replaces `path` if the block succeeds. It has six columns (path, sha256, class, split,
    fold, predicted), followed by one column of scores per class.

    Args:
        path: path of the file.
        classes: class names, in the order of the scores.
    """
    with tables.writing(path, (*_COLUMNS, *classes)) as add_row:

        def add(photo: Photo, fold: int, scores: np.ndarray) -> None:
            add_row(
                (
                    photo.path,
                    photo.sha256,
                    photo.label,
                    photo.split,
                    "" if fold < 0 else str(fold),
                    classes[int(scores.argmax())],
                    *(_FORMAT % score for score in scores.tolist()),
                )
            )

        yield add


@dataclass(frozen=True)
class ListedPredictions(Predictions):
    """Predictions with the paths and identities of the photos.

    Attributes:
        paths: paths of the N photos.
        identities: SHA-256 of the N photos in hexadecimal.
    """

    paths: Sequence[str]
    identities: Sequence[str]


def read(path: str | Path, splits: Sequence[str] = SPLITS) -> ListedPredictions:
    """Reads a file written by `writing`.

    Args:
        path: path of the file.
        splits: splits whose photos are returned.

    Raises:
        UserError: the file is damaged.
    """
    labels, split_numbers, folds, scores = array("i"), array("b"), array("h"), array("f")
    paths, identities = [], []
    with tables.open_table(path) as file:
        rows = csv.reader(file, dialect="excel-tab")
        header = tuple(map(tables.unprotect, next(rows, ())))
        classes = header[len(_COLUMNS) :]
        ids = {name: i for i, name in enumerate(classes)}
        try:
            if header[: len(_COLUMNS)] != _COLUMNS:
                raise ValueError(f"its first columns are not {', '.join(_COLUMNS)}")
            for photo, sha256, label, split, fold, _, *values in rows:
                if len(values) != len(classes):
                    raise ValueError(f"number of scores is {len(values)}, expected {len(classes)}")
                photo, label = tables.unprotect(photo), tables.unprotect(label)
                # Parsed before filtering, so that every line is checked.
                parsed = (ids[label], _NUMBERS[split], int(fold or -1), list(map(float, values)))
                if split in splits:
                    paths.append(photo)
                    identities.append(sha256)
                    labels.append(parsed[0])
                    split_numbers.append(parsed[1])
                    folds.append(parsed[2])
                    scores.extend(parsed[3])
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}, line {rows.line_num}: {error}. Delete the file and run again."
            ) from error
    return ListedPredictions(
        classes,
        np.asarray(labels),
        np.asarray(split_numbers),
        np.asarray(folds),
        np.asarray(scores).reshape(len(labels), len(classes)),
        paths,
        identities,
    )
