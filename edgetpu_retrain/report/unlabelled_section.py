"""Prepares the report's section on photos without a label."""

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.evaluation.unlabelled import Unlabelled
from edgetpu_retrain.head import NONE
from edgetpu_retrain.report import words
from edgetpu_retrain.report.cards import THUMBNAIL_SIDE, common_folder
from edgetpu_retrain.report.thumbnails import thumbnails

_MAX_CLASSES, _MAX_PER_GROUP = 20, 5
# More than these are folded.
_OPEN_TEACHING = 12


def unlabelled_section(found: Unlabelled, labelled: Container[str]) -> dict[str, Any]:
    """Returns what the template shows of photos without a label.

    Args:
        found: what the model says of them.
        labelled: the classes with photos; `none` may not be among them.
    """
    counts = np.bincount(found.predicted, minlength=len(found.classes))
    sure = np.zeros(len(found.paths), bool)
    if found.threshold is not None:
        sure = found.scores >= found.threshold
    order = np.argsort(-counts, kind="stable").tolist()
    surest = [(i, found.surest[i]) for i in order[:_MAX_CLASSES] if len(found.surest[i])]
    shown = [
        *found.teaching,
        *(row for _, rows in surest for row in rows),
        *(row for rows in found.unlike for row in rows[:_MAX_PER_GROUP]),
    ]
    pictures = thumbnails((found.paths[row] for row in shown), THUMBNAIL_SIDE)
    parent = common_folder(found.paths.tolist())

    def card(row: int) -> dict[str, Any]:
        path, predicted = found.paths[row], found.classes[found.predicted[row]]
        return {
            "path": words.printable(path),
            "address": Path(path).absolute().as_uri(),
            "short": words.printable(os.path.relpath(path, parent)),
            "sha256": found.identities[row],
            "thumbnail": pictures.get(path, ""),
            "label": "",
            "predicted": predicted,
            "predicted_score": f"{found.scores[row]:.2f}",
            "choices": [
                name
                for name in (predicted, found.classes[found.second[row]])
                if name != NONE or name in labelled
            ],
        }

    return {
        "text": _text(len(found.paths), int(sure.sum()), found.threshold),
        "rows": [
            {
                "name": found.classes[i],
                "photos": int(counts[i]),
                "sure": int(np.sum(sure & (found.predicted == i))),
            }
            for i in order
            if counts[i]
        ],
        "has_threshold": found.threshold is not None,
        "open_teaching": _OPEN_TEACHING,
        "teaching": [card(row) for row in found.teaching.tolist()],
        "surest": [
            {"name": found.classes[i], "cards": [card(row) for row in rows.tolist()]}
            for i, rows in surest
        ],
        "unlike_text": _unlike_text(found.num_unlike, len(found.paths)),
        "unlike": [
            {
                "title": words.count(len(rows), "photo"),
                "cards": [card(row) for row in rows[:_MAX_PER_GROUP].tolist()],
                "more": max(0, len(rows) - _MAX_PER_GROUP),
            }
            for rows in found.unlike
        ],
    }


def _text(photos: int, sure: int, threshold: float | None) -> str:
    text = f"{words.count(photos, 'photo')} {'has' if photos == 1 else 'have'} no label yet. "
    if threshold is None:
        return f"{text}No score is high enough for 95% of the predictions to be correct."
    return (
        f"{text}For {sure:,} of them, the model's score is {threshold:.2f} or higher; 95% of such "
        "predictions were correct in cross-validation. Expect more mistakes among photos that are "
        "harder than the labelled ones."
    )


def _unlike_text(number: int, photos: int) -> str:
    if not number:
        return ""
    return (
        f"{words.count(number, 'photo')} ({words.percent(number, photos)}) "
        f"{'is' if number == 1 else 'are'} less like any labelled photo than 95% of the labelled "
        "photos are like another."
    )
