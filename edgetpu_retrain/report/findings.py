"""What the predictions say, in figures; nothing here knows of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.index.corrections import IN_A_GROUP, Applied
from edgetpu_retrain.index.manifest import Skipped
from edgetpu_retrain.report.duplicates import CopiedTests, Group, copied_tests, find_groups
from edgetpu_retrain.report.suspects import find_suspects
from edgetpu_retrain.training.predictions import ListedPredictions, Predictions

# Scores of two classes that differ by less are near to each other.
_NEAR = 0.5


@dataclass(frozen=True)
class Run:
    """All that a report is made of.

    Attributes:
        dataset: name of the photos.
        backbone: name of the network.
        photos: how many photos each class has.
        predictions: of the N photos that were judged.
        evaluation: what evaluation.json holds.
        groups: [N] int; photos that look alike share a number.
        hashes: [N, 32] uint8, their perceptual hashes.
        skipped: the first photos that were left out, with reasons.
        num_skipped: how many were left out.
        corrections: what became of each correction.
        waiting: how many photos in the unlabelled folders have no label yet.
        models: the model's files.
        settings: what the configuration says, by key.
        comparison: rows of a comparison of backbones that was made before, the best first.
        command: what makes the same again.
        versions: of the programs that took part, by name.
        checksums: SHA-256 by the name of a file.
    """

    dataset: str
    backbone: str
    photos: Mapping[str, int]
    predictions: ListedPredictions
    evaluation: Mapping[str, Any]
    groups: np.ndarray
    hashes: np.ndarray
    skipped: Sequence[Skipped] = ()
    num_skipped: int = 0
    corrections: Sequence[Applied] = ()
    waiting: int = 0
    models: Sequence[Path] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    comparison: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two classes that are taken for each other.

    Attributes:
        first: the one that comes first among the classes.
        second: the other.
        mistakes: photos of either taken for the other.
        photos: of both.
    """

    first: str
    second: str
    mistakes: int
    photos: int


@dataclass(frozen=True)
class Findings:
    """What a run's predictions say.

    Attributes:
        run: the run.
        source: test or cross_validation, whichever judged more photos; None if neither did.
        result: that part of the evaluation; None if there is none.
        suspects: rows of photos whose label is probably wrong, surest first.
        groups: photos that look alike, those of different classes first.
        copied_tests: how the test photos did that look like one of another split.
        pairs: of confused classes, the worst first.
        mistakes: rows of wrong predictions that are not suspects, the most confident first.
    """

    run: Run
    source: str | None
    result: Mapping[str, Any] | None
    suspects: np.ndarray
    groups: list[Group]
    copied_tests: CopiedTests
    pairs: list[Pair]
    mistakes: np.ndarray

    @property
    def guess(self) -> tuple[str, int]:
        """The commonest class among the judged photos, and how many it has."""
        assert self.result is not None
        counts = {name: entry["photos"] for name, entry in self.result["classes"].items()}
        name = max(counts, key=lambda name: counts[name])
        return name, counts[name]


def find(run: Run) -> Findings:
    """Computes what a report shows."""
    predictions = run.predictions
    source, result = headline(run.evaluation)
    # A label that was given to many photos at once is no decision about each of them.
    decided = {one.sha256 for one in run.corrections if one.note != IN_A_GROUP}
    suspects = find_suspects(predictions, decided)
    return Findings(
        run,
        source,
        result,
        suspects,
        find_groups(predictions, run.groups, run.hashes),
        copied_tests(predictions, run.groups),
        confused_pairs(result) if result else [],
        confident_mistakes(predictions, suspects),
    )


def headline(evaluation: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
    """Returns the name and content of the result that judged the most photos."""
    results = [
        (name, evaluation[name])
        for name in ("cross_validation", "test")
        if evaluation.get(name) and evaluation[name]["photos"]
    ]
    return max(results, key=lambda item: item[1]["photos"], default=(None, None))


def confused_pairs(result: Mapping[str, Any]) -> list[Pair]:
    """Returns the pairs of classes that were taken for each other, by number of mistakes."""
    matrix = np.array(result["confusion_matrix"])
    names = list(result["classes"])
    photos = matrix.sum(axis=1)
    mistakes = np.triu(matrix + matrix.T, k=1)
    found = [
        Pair(names[i], names[j], int(mistakes[i, j]), int(photos[i] + photos[j]))
        for i, j in np.argwhere(mistakes)
    ]
    return sorted(found, key=lambda pair: (-pair.mistakes, pair.photos, pair.first, pair.second))


def confident_mistakes(predictions: Predictions, passed_over: np.ndarray) -> np.ndarray:
    """Returns the rows of wrong predictions, the highest score first, without some."""
    rows = np.flatnonzero(predictions.predicted != predictions.labels)
    rows = rows[~np.isin(rows, passed_over)]
    return rows[np.argsort(-predictions.scores[rows].max(axis=1), kind="stable")]


def least_certain(predictions: Predictions, label: int, most: int) -> list[int]:
    """Returns up to `most` rows of a class whose two highest scores are near to each other."""
    rows = np.flatnonzero(predictions.labels == label)
    two = np.sort(predictions.scores[rows], axis=1)[:, -2:]
    margins = two[:, 1] - two[:, 0]
    order = np.argsort(margins, kind="stable")[:most]
    return rows[order[margins[order] < _NEAR]].tolist()
