"""The table of predictions: a score for every class for every photo."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain import files
from edgetpu_retrain.errors import UserError

_COLUMNS = ("path", "sha256", "class", "split", "fold", "predicted")
# As many digits as give a float32 back.
_FORMAT = "%.9g"


@dataclass(frozen=True)
class Predictions:
    """Scores of N photos, none of which the layer that scored it was trained on.

    Attributes:
        paths: where the photos are.
        identities: [N] S64, their SHA-256 in hexadecimal.
        classes: names of the C classes.
        labels: [N] int, true classes.
        splits: [N] str, each train, validation, test or test_dataset.
        folds: [N] int, the fold whose held-out layer gave the scores; -1 where the written file
            did.
        scores: [N, C] float32, of softmax.
    """

    paths: tuple[str, ...]
    identities: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    folds: np.ndarray
    scores: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """[N] int, the classes of the highest score."""
        return self.scores.argmax(axis=1)

    def take(self, chosen: np.ndarray) -> "Predictions":
        """Returns the photos that a mask or positions choose."""
        positions = np.arange(len(self.paths))[chosen]
        return Predictions(
            tuple(self.paths[i] for i in positions),
            self.identities[chosen],
            self.classes,
            self.labels[chosen],
            self.splits[chosen],
            self.folds[chosen],
            self.scores[chosen],
        )

    @property
    def out_of_fold(self) -> "Predictions":
        """The photos that layers of the cross-validation scored."""
        return self.take(self.folds >= 0)

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Joins tables of the same classes."""
        return cls(
            tuple(path for part in parts for path in part.paths),
            np.concatenate([part.identities for part in parts]),
            parts[0].classes,
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.splits for part in parts]),
            np.concatenate([part.folds for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )

    def write(self, path: str | Path) -> None:
        """Writes a .tsv file: a line per photo, after six columns a score per class."""
        with (
            files.replacing(path) as temporary,
            # File names need not be valid UTF-8.
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
            # The module csv quotes a carriage return only where lines end in one.
            quoting = csv.writer(
                file, dialect="excel-tab", lineterminator="\n", quoting=csv.QUOTE_ALL
            )
            writer.writerow((*_COLUMNS, *self.classes))
            for i, predicted in enumerate(self.predicted.tolist()):
                fold = int(self.folds[i])
                row = (
                    self.paths[i],
                    self.identities[i].decode(),
                    self.classes[self.labels[i]],
                    str(self.splits[i]),
                    "" if fold < 0 else str(fold),
                    self.classes[predicted],
                    *(_FORMAT % score for score in self.scores[i].tolist()),
                )
                (quoting if "\r" in row[0] + row[2] + row[5] else writer).writerow(row)

    @classmethod
    def read(cls, path: str | Path) -> "Predictions":
        """Reads what `write` wrote.

        Raises:
            UserError: it is damaged.
        """
        paths, identities, labels, splits, folds, scores = [], [], [], [], [], []
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, dialect="excel-tab")
            header = tuple(next(rows, ()))
            classes = header[len(_COLUMNS) :]
            ids = {name: i for i, name in enumerate(classes)}
            try:
                if header[: len(_COLUMNS)] != _COLUMNS:
                    raise ValueError(f"its first columns are not {', '.join(_COLUMNS)}")
                for photo, sha256, label, split, fold, _, *values in rows:
                    paths.append(photo)
                    identities.append(sha256)
                    labels.append(ids[label])
                    splits.append(split)
                    folds.append(int(fold or -1))
                    if len(values) != len(classes):
                        raise ValueError(f"{len(values)} scores for {len(classes)} classes")
                    scores.append(np.array(values, np.float32))
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{path}, line {rows.line_num}: {error}. Delete the file and run again."
                ) from error
        return cls(
            tuple(paths),
            np.array(identities, "S64"),
            classes,
            np.array(labels, int),
            np.array(splits, np.str_),
            np.array(folds, int),
            np.array(scores, np.float32).reshape(len(paths), len(classes)),
        )
