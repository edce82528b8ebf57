"""Divide photos into folds for cross-validation."""

import numpy as np


def assign_folds(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Divides photos so that each fold has its share of each class and no group is divided.

    What depends on the order of the photos alone: other class numbers give the same folds, and no
    chance is in it. Photos in the order of their identities are in random order.

    Args:
        labels: [N] int, classes.
        groups: [N] int; near-copies have the same number.
        count: how many folds.

    Returns:
        [N] int, the fold of every photo.

    >>> assign_folds(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]), 2)
    array([0, 1, 0, 1])
    """
    folds = np.full(len(labels), -1)
    sizes = np.bincount(groups)
    classes, first = np.unique(labels, return_index=True)
    filled = np.zeros((count, labels.max(initial=0) + 1), int)
    large = np.flatnonzero(sizes > 1)
    members = _members(groups, large)
    # The largest first: the small ones then even out what these leave.
    for rows in sorted(members, key=lambda rows: (-len(rows), rows[0])):
        found, photos = np.unique(labels[rows], return_counts=True)
        fold = np.lexsort((filled.sum(axis=1), filled[:, found].max(axis=1)))[0]
        folds[rows] = fold
        filled[fold, found] += photos
    for label in classes[np.argsort(first)]:
        rows = np.flatnonzero((labels == label) & (folds < 0))
        # Which fold takes the next photo: the one with the fewest of the class, then of all.
        order = np.argsort(np.argsort(filled.sum(axis=1), kind="stable"))
        levels = filled[:, label] + np.arange(len(rows))[:, np.newaxis]
        turns = np.lexsort((np.tile(order, len(rows)), levels.reshape(-1)))[: len(rows)]
        folds[rows] = turns % count
        filled[:, label] += np.bincount(turns % count, minlength=count)
    return folds


def _members(groups: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of each of the wanted groups' photos."""
    rows = np.flatnonzero(np.isin(groups, wanted))
    rows = rows[np.argsort(groups[rows], kind="stable")]
    return [part for part in np.split(rows, np.flatnonzero(np.diff(groups[rows])) + 1) if len(part)]
