"""Computes what the report shows, independently of how the page looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.evaluation.unlabelled import Unlabelled
from edgetpu_retrain.index.corrections import IN_A_GROUP, AppliedCorrection
from edgetpu_retrain.index.manifest import Skipped
from edgetpu_retrain.report.duplicates import Group, Leakage, find_groups, measure_leakage
from edgetpu_retrain.report.suspects import find_suspects
from edgetpu_retrain.training.predictions import ListedPredictions, Predictions

# A photo is ambiguous if its two highest scores differ by less than this.
_AMBIGUOUS_MARGIN = 0.5


@dataclass(frozen=True)
class Run:
    """The input of a report.

    Attributes:
        dataset: name of the dataset.
        backbone: name of the backbone.
        photos: number of photos by class.
        predictions: predictions for the N photos that were held out or cross-validated.
        evaluation: the content of evaluation.json.
        groups: [N] int, group numbers; look-alike photos share one.
        hashes: [N, 32] uint8, perceptual hashes of the photos.
        skipped: the first skipped files, with reasons.
        num_skipped: number of skipped files.
        corrections: the outcome of each correction.
        unlabelled: what the model says of the photos that have no label yet; None without any.
        models: paths of the model's files.
        settings: the configuration, by key.
        fine_tuning: the content of fine_tuning.json; None if the network was not fine-tuned.
        comparison: rows of an earlier comparison of backbones, best first; empty without one.
        commands: shell commands by what they do: again (reproduce the model), bundle, compare,
            correct (apply corrections.tsv) and labels (say which networks know the classes).
        known_classes: the classes that networks know by name, by the networks' names.
        cut: where the backbone is cut, and why; "" if it is in front of its last layer.
        edgetpu_model: name of the model for the Edge TPU that can be made besides; "" if none can.
        versions: versions of Python and the packages, by name.
        checksums: SHA-256 by file name.
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
    corrections: Sequence[AppliedCorrection] = ()
    unlabelled: Unlabelled | None = None
    models: Sequence[Path] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    fine_tuning: Mapping[str, Any] | None = None
    comparison: Sequence[Mapping[str, Any]] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    known_classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cut: str = ""
    edgetpu_model: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two classes that are confused with each other.

    Attributes:
        first: the class that comes first in the order of the classes.
        second: the other class.
        mistakes: photos of either class that were classified as the other.
        photos: photos of both classes.
    """

    first: str
    second: str
    mistakes: int
    photos: int


@dataclass(frozen=True)
class Findings:
    """The content of a report, computed from a run.

    Attributes:
        run: the run.
        source: "test" or "cross_validation", whichever covers more photos; None without either.
        result: that part of the evaluation; None without either.
        suspects: [M] int, rows of photos whose label is probably wrong, most likely errors first.
        groups: look-alike photos, groups with different classes first.
        leakage: results on test photos with and without a look-alike outside the test split.
        pairs: confused classes, most frequent first.
        mistakes: [M] int, rows of wrong predictions that are not suspects, highest scores first.
    """

    run: Run
    source: str | None
    result: Mapping[str, Any] | None
    suspects: np.ndarray
    groups: list[Group]
    leakage: Leakage
    pairs: list[Pair]
    mistakes: np.ndarray

    @property
    def majority_class(self) -> tuple[str, int]:
        """The most common class among the evaluated photos, and its number of photos."""
        assert self.result is not None
        counts = {name: entry["photos"] for name, entry in self.result["classes"].items()}
        name = max(counts, key=lambda name: counts[name])
        return name, counts[name]


def find(run: Run) -> Findings:
    """Computes the content of a report from a run."""
    predictions = run.predictions
    source, result = headline(run.evaluation)
    # A label given to many photos at once is not a review of each of them.
    decided = {correction.sha256 for correction in run.corrections if correction.note != IN_A_GROUP}
    suspects = find_suspects(predictions, decided)
    return Findings(
        run,
        source,
        result,
        suspects,
        find_groups(predictions, run.groups, run.hashes),
        measure_leakage(predictions, run.groups),
        confused_pairs(result) if result else [],
        confident_mistakes(predictions, suspects),
    )


def headline(evaluation: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
    """Returns the name and content of the result with the most photos; None without results."""
    results = [
        (name, evaluation[name])
        for name in ("cross_validation", "test")
        if evaluation.get(name) and evaluation[name]["photos"]
    ]
    return max(results, key=lambda item: item[1]["photos"], default=(None, None))


def confused_pairs(result: Mapping[str, Any]) -> list[Pair]:
    """Returns the pairs of classes that were confused, most frequent first."""
    matrix = np.array(result["confusion_matrix"])
    names = list(result["classes"])
    photos = matrix.sum(axis=1)
    mistakes = np.triu(matrix + matrix.T, k=1)
    pairs = [
        Pair(names[i], names[j], int(mistakes[i, j]), int(photos[i] + photos[j]))
        for i, j in np.argwhere(mistakes)
    ]
    return sorted(pairs, key=lambda pair: (-pair.mistakes, pair.photos, pair.first, pair.second))


def confident_mistakes(predictions: Predictions, exclude: np.ndarray) -> np.ndarray:
    """Returns [M] int, rows of wrong predictions, highest scores first, except those excluded."""
    rows = np.flatnonzero(predictions.predicted != predictions.labels)
    rows = rows[~np.isin(rows, exclude)]
    return rows[np.argsort(-predictions.scores[rows].max(axis=1), kind="stable")]


def most_ambiguous(predictions: Predictions, label: int, most: int) -> list[int]:
    """Returns up to `most` rows of a class whose two highest scores are closest together."""
    rows = np.flatnonzero(predictions.labels == label)
    top_two = np.sort(predictions.scores[rows], axis=1)[:, -2:]
    margins = top_two[:, 1] - top_two[:, 0]
    order = np.argsort(margins, kind="stable")[:most]
    return [int(row) for row in rows[order[margins[order] < _AMBIGUOUS_MARGIN]]]
