"""Divide photos into those for training, validation and testing, by their identities alone."""

import numpy as np

from edgetpu_retrain.index.manifest import SPLITS

_TRAIN, _VALIDATION, _TEST = range(3)
_MIN_PHOTOS_FOR_EVERY_SPLIT = 10


def assign_splits(
    positions: np.ndarray, labels: np.ndarray, validation: float, test: float
) -> np.ndarray:
    """Returns the split of every photo.

    A photo whose position, as a fraction of 2**64, is below `test` is for testing, below `test` +
    `validation` for validation, else for training. So adding photos moves no other, with one
    exception: a class of ten or more photos that would have none in a split gives it the nearest
    photo of another one. Copies of a photo are in one split.

    Args:
        positions: [N] uint64, the first 64 bits of every photo's identity.
        labels: [N] int, the class of every photo, in the order of classes.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).

    Returns:
        [N] int8, positions in `SPLITS`.

    >>> low, high = 0, 2**64 - 1
    >>> assign_splits(np.array([low, high], np.uint64), np.array([0, 1]), 0.1, 0.1).tolist()
    [2, 0]
    """
    wanted = [s for s, share in ((_TEST, test), (_VALIDATION, validation)) if share > 0]
    by_class = positions[np.lexsort((positions, labels))]
    moved: dict[int, int] = {}
    for of_class in np.split(by_class, np.cumsum(np.bincount(labels))[:-1]):
        members = np.unique(of_class)
        if len(members) >= _MIN_PHOTOS_FOR_EVERY_SPLIT:
            splits = _natural_splits(members, validation, test)
            if moved:
                # A copy may have been moved for another class.
                for i, position in enumerate(members.tolist()):
                    splits[i] = moved.get(position, splits[i])
            for split in (*wanted, _TRAIN):
                donor = _donor(split, splits)
                if donor is not None:
                    splits[donor] = moved[int(members[donor])] = split
    del by_class
    found = _natural_splits(positions, validation, test)
    if moved:
        keys = np.array(sorted(moved), np.uint64)
        places = np.searchsorted(keys, positions).clip(max=len(keys) - 1)
        there = keys[places] == positions
        found[there] = np.array([moved[key] for key in keys.tolist()], np.int8)[places[there]]
    return found


def _natural_splits(positions: np.ndarray, validation: float, test: float) -> np.ndarray:
    where = positions / 2.0**64
    splits = np.full(len(positions), _TRAIN, np.int8)
    splits[where < test + validation] = _VALIDATION
    splits[where < test] = _TEST
    return splits


def _donor(split: int, splits: np.ndarray) -> int | None:
    """Returns which of a class's photos, sorted, a split gets where it has none."""
    counts = np.bincount(splits, minlength=len(SPLITS))
    if counts[split]:
        return None
    donors = np.flatnonzero(counts[splits] > 1)
    if split == _TRAIN:
        donors = donors[::-1]
    # Validation lies between the other two.
    others = donors[splits[donors] != _TEST]
    return int((others if len(others) else donors)[0])
