"""Prepares the sections of the report that show photos, as cards with a thumbnail and scores."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.report import words
from edgetpu_retrain.report.duplicates import Group, Leakage, tally
from edgetpu_retrain.report.findings import Findings, most_ambiguous
from edgetpu_retrain.report.thumbnails import thumbnails

THUMBNAIL_SIDE = 144
# These limit the size of the page: about 700 thumbnails of some 6 kB each.
_MAX_SUSPECTS = 200
_MAX_GROUPS, _MAX_PER_GROUP = 40, 6
_MAX_PAIRS, _MAX_PER_PAIR = 12, 4
_MAX_CLASSES, _MAX_PER_CLASS = 20, 5
# More than these are folded.
_OPEN_SUSPECTS, _OPEN_GROUPS, _OPEN_CLASSES = 12, 2, 1


def photo_sections(findings: Findings) -> dict[str, Any]:
    """Returns the template's variables for the sections that show photos."""
    predictions = findings.run.predictions
    rows = findings.suspects[:_MAX_SUSPECTS].tolist()
    groups = findings.groups[:_MAX_GROUPS]
    pairs = _pairs(findings)
    uncertain = _uncertain(findings)
    shown = [
        *rows,
        *(row for group in groups for row in group.rows[:_MAX_PER_GROUP]),
        *(row for _, _, _, examples in pairs[:_MAX_PAIRS] for row in examples),
        *(row for _, examples in uncertain for row in examples),
    ]
    pictures = thumbnails((predictions.paths[row] for row in shown), THUMBNAIL_SIDE)
    predicted = predictions.predicted
    parent = common_folder(predictions.paths)

    def card(row: int, choices: Sequence[str] = ()) -> dict[str, Any]:
        path, label = predictions.paths[row], predictions.classes[predictions.labels[row]]
        prediction = predictions.classes[predicted[row]]
        names = dict.fromkeys([prediction, *choices])
        # No label is right for `none` without photos; there is a button to leave the photo out.
        offered = [name for name in names if name != label and name in findings.run.photos]
        return {
            "path": words.printable(path),
            # To be shown in full size, as long as it is where it was.
            "address": Path(path).absolute().as_uri(),
            "short": words.printable(os.path.relpath(path, parent)),
            "sha256": predictions.identities[row],
            "thumbnail": pictures.get(path, ""),
            "label": label,
            "predicted": prediction,
            "score": f"{predictions.scores[row, predictions.labels[row]]:.2f}",
            "predicted_score": f"{predictions.scores[row, predicted[row]]:.2f}",
            "choices": offered,
        }

    return {
        "open_suspects": _OPEN_SUSPECTS,
        "open_groups": _OPEN_GROUPS,
        "open_classes": _OPEN_CLASSES,
        "has_predictions": len(predictions.labels) > 0,
        "suspects": [card(row) for row in rows],
        "suspects_text": _suspects_text(len(findings.suspects)),
        "groups": [
            {
                "title": _group_title(group),
                "conflicting": len(group.classes) > 1,
                "cards": [card(row, group.classes) for row in group.rows[:_MAX_PER_GROUP]],
                "more": max(0, len(group.rows) - _MAX_PER_GROUP),
            }
            for group in groups
        ],
        "groups_text": _groups_text(findings),
        "leakage_text": _leakage_text(findings.leakage),
        "mistakes": [
            {
                "label": label,
                "predicted": prediction,
                "count": number,
                "cards": [card(row) for row in examples],
            }
            for label, prediction, number, examples in pairs[:_MAX_PAIRS]
        ],
        "mistakes_more": f"{words.count(len(pairs) - _MAX_PAIRS, 'less frequent pair')} of classes "
        "can be found in predictions.tsv."
        if len(pairs) > _MAX_PAIRS
        else "",
        "uncertain": [
            {"name": name, "cards": [card(row) for row in examples]} for name, examples in uncertain
        ],
        "uncertain_more": f"Only the {_MAX_CLASSES} classes with the lowest recall are shown."
        if len(predictions.classes) > _MAX_CLASSES
        else "",
    }


def _suspects_text(number: int) -> str:
    text = (
        f"For {words.count(number, 'photo')}, a layer that was not trained on the photo gave "
        "another class a high score and the given class a low one. "
    )
    if number == 1:
        return text + "The label may be wrong, or the photo may just be hard to classify."
    text += (
        "Some of these labels are probably wrong; the other photos are just hard to classify. The "
        "most likely errors come first."
    )
    if number > _MAX_SUSPECTS:
        text += (
            f" The first {_MAX_SUSPECTS} are shown; suspects.tsv lists all of them. The next ones "
            "appear after you have reviewed these and run again."
        )
    return text


def _group_title(group: Group) -> str:
    photos = words.count(len(group.rows), f"{group.kind} photo")
    if len(group.classes) > 1:
        return f"{photos} in different classes: {words.join(group.classes, most=6)}"
    return f"{photos}: {words.isolate(group.classes[0])}"


def _groups_text(findings: Findings) -> str:
    conflicting, photos = tally(findings.groups, conflicting=True)
    groups, photos = len(findings.groups), photos + tally(findings.groups, conflicting=False)[1]
    text = f"{words.count(photos, 'photo')} in {words.count(groups, 'group')} look alike. "
    if conflicting:
        verbs = (
            "has different labels and comes"
            if conflicting == 1
            else "have different labels and come"
        )
        text += f"{words.count(conflicting, 'group')} {verbs} first; then come the closest matches."
    else:
        text += "The closest matches come first."
    if groups > _MAX_GROUPS:
        text += f" {_MAX_GROUPS} groups are shown; copies.tsv lists all of them."
    return text


def _leakage_text(leakage: Leakage) -> str:
    text = "Cross-validation holds out all photos of a group together."
    if not (leakage.photos + leakage.other_photos):
        return text
    if not leakage.photos:
        return f"{text} No test photo has a look-alike outside the test split."
    verb, those = ("has", "it") if leakage.photos == 1 else ("have", "these")
    text += (
        f" {words.count(leakage.photos, 'test photo')} {verb} a look-alike outside the test split, "
        f"which makes the test easier: the accuracy on {those} is "
        f"{words.percent(leakage.correct, leakage.photos)}"
    )
    if leakage.other_photos:
        others = words.percent(leakage.other_correct, leakage.other_photos)
        text += f", compared with {others} on the other test photos"
    return f"{text}."


def common_folder(paths: Sequence[str]) -> str:
    """Returns the deepest folder that contains all paths."""
    # A prefix shared by the first and the last in sorted order is shared by all.
    ends = [os.path.dirname(path) for path in (min(paths), max(paths))] if paths else []
    return os.path.commonpath(ends) if ends else ""


def _pairs(findings: Findings) -> list[tuple[str, str, int, list[int]]]:
    """Returns the mistakes by pair of classes, most frequent first.

    Each pair is (label, predicted class, number of mistakes, rows with the highest scores).
    """
    predictions, rows = findings.run.predictions, findings.mistakes
    names, labels = predictions.classes, predictions.labels[rows]
    predicted = predictions.scores[rows].argmax(axis=1)
    codes, code_of, numbers = np.unique(
        labels * len(names) + predicted, return_inverse=True, return_counts=True
    )
    pairs = []
    for i in np.argsort(-numbers, kind="stable"):
        label, prediction = divmod(int(codes[i]), len(names))
        examples = rows[np.flatnonzero(code_of == i)[:_MAX_PER_PAIR]]
        pairs.append((names[label], names[prediction], int(numbers[i]), examples.tolist()))
    return pairs


def _uncertain(findings: Findings) -> list[tuple[str, list[int]]]:
    """Returns the most ambiguous rows of the classes with the lowest recall, by class name."""
    predictions = findings.run.predictions
    if not len(predictions.labels):
        return []
    correct = predictions.predicted == predictions.labels
    numbers = np.bincount(predictions.labels, minlength=len(predictions.classes))
    recalls = np.bincount(predictions.labels, correct, len(numbers)) / np.maximum(numbers, 1)
    weakest = np.argsort(recalls, kind="stable")[:_MAX_CLASSES]
    ambiguous = [(i, most_ambiguous(predictions, i, _MAX_PER_CLASS)) for i in sorted(weakest)]
    return [(predictions.classes[i], rows) for i, rows in ambiguous if rows]
