"""The views of the labelling page for reviewing photos that already have a label."""

from collections.abc import Collection, Iterable

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.labelling.choose import MOST_CARDS, Group
from edgetpu_retrain.labelling.learner import Learned

TODO, LABELLED, SUSPECTS, COPIES, LEFT_OUT = "todo", "labelled", "suspects", "copies", "left_out"
VIEWS = (TODO, LABELLED, SUSPECTS, COPIES, LEFT_OUT)
_LEFT_OUT = -2
# The same as in `report.suspects`, which says how they were chosen.
_MIN_RATIO, _MIN_SCORE, _LEAST_SCORE = 4, 0.4, 1 / 512


def members_of(copies: np.ndarray, chosen: np.ndarray) -> dict[int, list[int]]:
    """Returns the rows of the chosen photos by their group of near-copies."""
    found: dict[int, list[int]] = {}
    for row in np.flatnonzero(chosen).tolist():
        found.setdefault(int(copies[row]), []).append(row)
    return found


def find(
    view: str,
    codes: np.ndarray,
    present: np.ndarray,
    learned: Learned | None,
    learned_labels: np.ndarray,
    copies: np.ndarray,
    decided: Collection[int],
) -> list[Group]:
    """Returns the groups of a view.

    Args:
        view: one of `VIEWS` other than `TODO`.
        codes: [N] int, the class of every photo; negative without one.
        present: [P] int, the classes that the layer knows.
        learned: the trained layer; None if there is none.
        learned_labels: [N] int, the labels it was trained on, as positions in `present`.
        copies: [N] int, group of near-copies of each photo.
        decided: rows of photos that a person has reviewed one by one; they are not suspects.
    """
    if view == LEFT_OUT:
        return list(_cut(view, -1, np.flatnonzero(codes == _LEFT_OUT)))
    if view == COPIES:
        return _contradicting(codes, copies)
    # The out-of-fold scores of each photo's own class and of its highest class.
    given = np.ones(len(codes), np.float32)
    highest, predicted = given.copy(), codes.copy()
    if learned is not None:
        rows = np.flatnonzero(learned_labels >= 0)
        held_out = learned.held_out
        given[rows] = held_out[np.arange(len(rows)), learned_labels[rows]]
        highest[rows] = held_out.max(axis=1)
        predicted[rows] = present[held_out.argmax(axis=1)]
        # A label may have changed since the training.
        given[(codes >= 0) & (codes == predicted)] = 1
    if view == SUSPECTS:
        ratios = highest / np.maximum(given, _LEAST_SCORE)
        suspected = (codes >= 0) & (predicted != codes)
        suspected &= (ratios >= _MIN_RATIO) & (highest >= _MIN_SCORE)
        suspected[list(decided)] = False
        return [
            group
            for label in np.unique(codes[suspected]).tolist()
            for suggested in np.unique(predicted[suspected & (codes == label)]).tolist()
            for group in _cut(
                view,
                suggested,
                np.flatnonzero(suspected & (codes == label) & (predicted == suggested)),
            )
        ]
    return [
        group
        for label in range(codes.max(initial=-1) + 1)
        for group in _cut(view, label, _sorted(np.flatnonzero(codes == label), given))
    ]


def _sorted(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    return rows[np.argsort(values[rows], kind="stable")]


def _cut(view: str, label: int, rows: np.ndarray) -> Iterable[Group]:
    for some in blocks(len(rows), MOST_CARDS):
        yield Group(view, label, rows[some])


def _contradicting(codes: np.ndarray, copies: np.ndarray) -> list[Group]:
    """Returns the groups of near-copies with different labels."""
    rows = np.flatnonzero(codes >= 0)
    pairs = np.unique(np.stack([copies[rows], codes[rows]]), axis=1)
    numbers, counts = np.unique(pairs[0], return_counts=True)
    return [
        Group(COPIES, -1, np.flatnonzero((copies == number) & (codes >= 0)))
        for number in numbers[counts > 1].tolist()
    ]
