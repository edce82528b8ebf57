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
        [N] int16, the fold of every photo.

    >>> assign_folds(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]), 2)
    array([0, 1, 0, 1], dtype=int16)
    """
    folds = np.full(len(labels), -1, np.int16)
    classes, first = np.unique(labels, return_index=True)
    filled = np.zeros((count, labels.max(initial=0) + 1), int)
    by_group = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.diff(groups[by_group], append=-1)) + 1
    sizes = np.diff(ends, prepend=0)
    large = np.flatnonzero(sizes > 1)
    firsts = by_group[ends[large] - sizes[large]]
    # The largest first: the small ones then even out what these leave.
    for group in large[np.lexsort((firsts, -sizes[large]))]:
        rows = by_group[ends[group] - sizes[group] : ends[group]]
        found, photos = np.unique(labels[rows], return_counts=True)
        fold = np.lexsort((filled.sum(axis=1), filled[:, found].max(axis=1)))[0]
        folds[rows] = fold
        filled[fold, found] += photos
    for label in classes[np.argsort(first)]:
        rows = np.flatnonzero((labels == label) & (folds < 0))
        # Which fold takes the next photo: the one with the fewest of the class, then of all.
        order = np.argsort(np.argsort(filled.sum(axis=1), kind="stable"))
        turns = _turns(filled[:, label], order, len(rows))
        folds[rows] = turns
        filled[:, label] += np.bincount(turns, minlength=count)
    return folds


def _turns(filled: np.ndarray, order: np.ndarray, photos: int) -> np.ndarray:
    """Returns which fold takes each of so many photos: that with the fewest, then the first."""
    full = int(filled.min())
    while np.sum(np.maximum(full - filled, 0)) < photos:
        full += max(1, (photos - int(np.sum(np.maximum(full - filled, 0)))) // len(filled))
    room = np.maximum(full - filled, 0)
    folds = np.repeat(np.arange(len(filled)), room)
    levels = np.concatenate([np.arange(level, full) for level in filled])
    return folds[np.lexsort((order[folds], levels))][:photos]
