"""The table of predictions: a score for every class for every photo."""

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
# As many digits as give a float32 back.
_FORMAT = "%.9g"


@dataclass(frozen=True)
class Predictions:
    """Scores of N photos, none of which the layer that scored it was trained on.

    Attributes:
        classes: names of the C classes.
        labels: [N] int, true classes.
        splits: [N] int8, positions in `SPLITS`.
        folds: [N] int, the fold whose held-out layer gave the scores; -1 where the written file
            did.
        scores: [N, C] float32, of softmax.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    folds: np.ndarray
    scores: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """[N] int, the classes of the highest score."""
        return self.scores.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class OutOfFold:
    """What the cross-validation says of each photo, by identity: paths and classes may change.

    Attributes:
        identities: of the N photos, SHA-256 in hexadecimal.
        folds: [N] int, the fold whose held-out layer gave the scores.
        scores: [N, C] float32, of softmax.
    """

    identities: Sequence[str]
    folds: np.ndarray
    scores: np.ndarray

    def save(self, path: str | Path) -> None:
        """Writes an .npz file; equal contents give equal bytes."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            identities = np.array(self.identities, "S64")
            np.savez(file, identities=identities, folds=self.folds, scores=self.scores)

    @classmethod
    def load(cls, path: str | Path) -> "OutOfFold":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        with files.reading(path), np.load(path, allow_pickle=False) as arrays:
            identities = [sha256.decode() for sha256 in arrays["identities"].tolist()]
            return cls(identities, arrays["folds"], arrays["scores"])


AddPrediction = Callable[[Photo, int, np.ndarray], None]


@contextlib.contextmanager
def writing(path: str | Path, classes: Sequence[str]) -> Iterator[AddPrediction]:
    """Yields a function that adds a photo, its fold and its scores to a .tsv file.

    The file replaces `path` if the block succeeds. After six columns it has one per class.
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
    """Predictions with the photos that they are of.

    Attributes:
        paths: of the N photos.
        identities: of the N photos, SHA-256 in hexadecimal.
    """

    paths: Sequence[str]
    identities: Sequence[str]


def read(path: str | Path, splits: Sequence[str] = SPLITS) -> ListedPredictions:
    """Reads what `writing` wrote.

    Args:
        path: of the table.
        splits: those whose photos are wanted.

    Raises:
        UserError: it is damaged.
    """
    labels, numbers, folds, scores = array("i"), array("b"), array("h"), array("f")
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
                    raise ValueError(f"{len(values)} scores for {len(classes)} classes")
                photo, label = tables.unprotect(photo), tables.unprotect(label)
                found = (ids[label], _NUMBERS[split], int(fold or -1), list(map(float, values)))
                if split in splits:
                    paths.append(photo)
                    identities.append(sha256)
                    labels.append(found[0])
                    numbers.append(found[1])
                    folds.append(found[2])
                    scores.extend(found[3])
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}, line {rows.line_num}: {error}. Delete the file and run again."
            ) from error
    return ListedPredictions(
        classes,
        np.asarray(labels),
        np.asarray(numbers),
        np.asarray(folds),
        np.asarray(scores).reshape(len(labels), len(classes)),
        paths,
        identities,
    )
