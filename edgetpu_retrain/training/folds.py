"""Divide photos into folds for cross-validation."""

import numpy as np


def assign_folds(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Divides photos into stratified folds, with all photos of a group in the same fold.

    The result is deterministic and depends only on the order of the photos, not on the numbering of
    the classes. Photos sorted by identity are in random order.

    Args:
        labels: [N] int, classes.
        groups: [N] int; near-copies have the same number.
        count: number of folds.

    Returns:
        [N] int16, the fold of each photo.

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
    # Largest groups first, so that smaller ones can even out the folds.
    for group in large[np.lexsort((firsts, -sizes[large]))]:
        rows = by_group[ends[group] - sizes[group] : ends[group]]
        group_classes, photos = np.unique(labels[rows], return_counts=True)
        fold = np.lexsort((filled.sum(axis=1), filled[:, group_classes].max(axis=1)))[0]
        folds[rows] = fold
        filled[fold, group_classes] += photos
    for label in classes[np.argsort(first)]:
        rows = np.flatnonzero((labels == label) & (folds < 0))
        # The next photo goes to the fold with the fewest photos of the class, then of all classes.
        order = np.argsort(np.argsort(filled.sum(axis=1), kind="stable"))
        assigned = _fill(filled[:, label], order, len(rows))
        folds[rows] = assigned
        filled[:, label] += np.bincount(assigned, minlength=count)
    return folds


def _fill(filled: np.ndarray, order: np.ndarray, photos: int) -> np.ndarray:
    """Assigns `photos` photos of a class, each to the fold with the fewest, then by `order`."""
    level = int(filled.min())
    while np.sum(np.maximum(level - filled, 0)) < photos:
        level += max(1, (photos - int(np.sum(np.maximum(level - filled, 0)))) // len(filled))
    folds = np.repeat(np.arange(len(filled)), np.maximum(level - filled, 0))
    levels = np.concatenate([np.arange(count, level) for count in filled])
    return folds[np.lexsort((order[folds], levels))][:photos]
