"""The parts of the page that show photos, each as a small picture with its scores."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetpu_retrain.report import findings, words
from edgetpu_retrain.report.duplicates import Group, tally
from edgetpu_retrain.report.findings import Findings
from edgetpu_retrain.report.thumbnails import thumbnails

_SIDE = 144
# These bound the page: about 700 pictures of some 6 kB each.
_MOST_SUSPECTS = 200
_MOST_GROUPS, _MOST_PER_GROUP = 40, 6
_MOST_PAIRS, _MOST_PER_PAIR = 12, 4
_MOST_CLASSES, _MOST_PER_CLASS = 20, 5


def parts(found: Findings) -> dict[str, Any]:
    """Returns everything that is shown with pictures."""
    predictions = found.run.predictions
    rows = found.suspects[:_MOST_SUSPECTS].tolist()
    groups = found.groups[:_MOST_GROUPS]
    pairs = _pairs(found)
    uncertain = _uncertain(found)
    wanted = [
        *rows,
        *(row for group in groups for row in group.rows[:_MOST_PER_GROUP]),
        *(row for _, _, _, some in pairs[:_MOST_PAIRS] for row in some),
        *(row for _, some in uncertain for row in some),
    ]
    pictures = thumbnails((predictions.paths[row] for row in wanted), _SIDE)
    best = predictions.predicted
    parent = _parent(predictions.paths)

    def card(row: int, choices: Sequence[str] = ()) -> dict[str, Any]:
        path, label = predictions.paths[row], predictions.classes[predictions.labels[row]]
        suggested = predictions.classes[best[row]]
        offered = dict.fromkeys([suggested, *choices])
        offered.pop(label, None)
        return {
            "path": words.shown(path),
            "short": words.shown(os.path.relpath(path, parent)),
            "sha256": predictions.identities[row],
            "thumbnail": pictures.get(path, ""),
            "label": label,
            "best": suggested,
            "score": f"{predictions.scores[row, predictions.labels[row]]:.2f}",
            "best_score": f"{predictions.scores[row, best[row]]:.2f}",
            "choices": list(offered),
        }

    return {
        "judged": len(predictions.labels) > 0,
        "suspects": [card(row) for row in rows],
        "suspects_said": _suspects_said(found),
        "groups": [
            {
                "title": _group_title(group),
                "different": len(group.classes) > 1,
                "cards": [card(row, group.classes) for row in group.rows[:_MOST_PER_GROUP]],
                "more": max(0, len(group.rows) - _MOST_PER_GROUP),
            }
            for group in groups
        ],
        "groups_said": _groups_said(found),
        "copied_said": _copied_said(found),
        "mistakes": [
            {"label": label, "best": answer, "count": number, "cards": [card(r) for r in some]}
            for label, answer, number, some in pairs[:_MOST_PAIRS]
        ],
        "mistakes_more": f"{words.count(len(pairs) - _MOST_PAIRS, 'rarer combination')} of "
        "classes can be found in predictions.tsv."
        if len(pairs) > _MOST_PAIRS
        else "",
        "uncertain": [{"name": n, "cards": [card(row) for row in some]} for n, some in uncertain],
        "uncertain_more": f"only the {_MOST_CLASSES} weakest classes are shown"
        if len(predictions.classes) > _MOST_CLASSES
        else "",
    }


def _suspects_said(found: Findings) -> str:
    number = len(found.suspects)
    said = (
        f"For {words.count(number, 'photo')} another class scored high and the given one low, by "
        "a layer that had not learned from the photo. Some of these labels may be wrong; the "
        "others are right and the photo is hard. The surest come first."
    )
    if number > _MOST_SUSPECTS:
        said += (
            f" The first {_MOST_SUSPECTS} are shown, all are in suspects.tsv; the next come up "
            "once these are decided."
        )
    return said


def _group_title(group: Group) -> str:
    photos = words.count(len(group.rows), "photo")
    what = f"{photos}, {group.kind}"
    if len(group.classes) > 1:
        return f"{what}, in different classes: {words.listed(group.classes, most=6)}"
    return f"{what}: {words.name(group.classes[0])}"


def _groups_said(found: Findings) -> str:
    different, photos = tally(found.groups, different=True)
    groups, photos = len(found.groups), photos + tally(found.groups, different=False)[1]
    said = f"{words.count(photos, 'photo')} in {words.count(groups, 'group')} look alike"
    if different:
        said += f"; {different:,} of the groups {'has' if different == 1 else 'have'} different "
        said += "labels, and come first. Then come the most alike."
    else:
        said += ". The most alike come first."
    if groups > _MOST_GROUPS:
        said += f" {_MOST_GROUPS} groups are shown, all are in copies.tsv."
    return said


def _copied_said(found: Findings) -> str:
    tests = found.copied_tests
    said = "In cross-validation all of a group are held out together. "
    if not (tests.photos + tests.other_photos):
        return said.strip()
    if not tests.photos:
        return said + "No test photo looks like one of the others, so no figure rests on copies."
    said += f"{words.count(tests.photos, 'test photo')} "
    said += f"{'looks' if tests.photos == 1 else 'look'} like one of the other photos, which "
    said += (
        f"makes the test easier: {words.percent(tests.correct, tests.photos)} of these were right"
    )
    if tests.other_photos:
        said += f", {words.percent(tests.other_correct, tests.other_photos)} of the others"
    return said + "."


def _parent(paths: Sequence[str]) -> str:
    """Returns the deepest folder that all paths lie in."""
    # What the first and the last in order have in common, all have.
    ends = [os.path.dirname(path) for path in (min(paths), max(paths))] if paths else []
    return os.path.commonpath(ends) if ends else ""


def _pairs(found: Findings) -> list[tuple[str, str, int, list[int]]]:
    """Returns (label, answer, number, most confident rows) of the mistakes, commonest first."""
    predictions, rows = found.run.predictions, found.mistakes
    names, labels = predictions.classes, predictions.labels[rows]
    answers = predictions.scores[rows].argmax(axis=1)
    kinds, of_kind, numbers = np.unique(
        labels * len(names) + answers, return_inverse=True, return_counts=True
    )
    pairs = []
    for i in np.argsort(-numbers, kind="stable"):
        label, answer = divmod(int(kinds[i]), len(names))
        some = rows[np.flatnonzero(of_kind == i)[:_MOST_PER_PAIR]]
        pairs.append((names[label], names[answer], int(numbers[i]), some.tolist()))
    return pairs


def _uncertain(found: Findings) -> list[tuple[str, list[int]]]:
    """Returns the least certain rows of the classes with the lowest recall."""
    predictions = found.run.predictions
    if not len(predictions.labels):
        return []
    correct = predictions.predicted == predictions.labels
    numbers = np.bincount(predictions.labels, minlength=len(predictions.classes))
    recalls = np.bincount(predictions.labels, correct, len(numbers)) / np.maximum(numbers, 1)
    weakest = np.argsort(recalls, kind="stable")[:_MOST_CLASSES]
    chosen = [(i, findings.least_certain(predictions, i, _MOST_PER_CLASS)) for i in sorted(weakest)]
    return [(predictions.classes[i], rows) for i, rows in chosen if rows]
