"""Split photos into training, validation and test sets by their identities alone."""

import numpy as np

from edgetpu_retrain.index.manifest import SPLITS

_TRAIN, _VALIDATION, _TEST = range(3)
_MIN_PHOTOS_FOR_EVERY_SPLIT = 10


def assign_splits(
    positions: np.ndarray, labels: np.ndarray, validation: float, test: float
) -> np.ndarray:
    """Returns the split of every photo.

    A photo whose position, divided by 2**64, is below `test` is in the test split; below `test` +
    `validation`, in the validation split; otherwise in the training split. So adding photos does
    not change the splits of others, with one exception: if a split would get no photo of a class
    with ten or more photos, the nearest photo of the class is moved to it. All copies of a photo
    are in the same split.

    Args:
        positions: [N] uint64, the first 64 bits of every photo's identity.
        labels: [N] int, class ids.
        validation: the fraction of photos for validation, in [0, 1).
        test: the fraction of photos for testing, in [0, 1).

    Returns:
        [N] int8, indices into `SPLITS`.

    >>> low, high = 0, 2**64 - 1
    >>> assign_splits(np.array([low, high], np.uint64), np.array([0, 1]), 0.1, 0.1).tolist()
    [2, 0]
    """
    held_out = [s for s, share in ((_TEST, test), (_VALIDATION, validation)) if share > 0]
    by_class = positions[np.lexsort((positions, labels))]
    moved: dict[int, int] = {}
    for of_class in np.split(by_class, np.cumsum(np.bincount(labels))[:-1]):
        members = np.unique(of_class)
        if len(members) >= _MIN_PHOTOS_FOR_EVERY_SPLIT:
            splits = _natural_splits(members, validation, test)
            if moved:
                # A copy in another class may have been moved already.
                for i, position in enumerate(members.tolist()):
                    splits[i] = moved.get(position, splits[i])
            for split in (*held_out, _TRAIN):
                donor = _donor(split, splits)
                if donor is not None:
                    splits[donor] = moved[int(members[donor])] = split
    del by_class
    result = _natural_splits(positions, validation, test)
    if moved:
        keys = np.array(sorted(moved), np.uint64)
        indices = np.searchsorted(keys, positions).clip(max=len(keys) - 1)
        is_moved = keys[indices] == positions
        new_splits = np.array([moved[key] for key in keys.tolist()], np.int8)
        result[is_moved] = new_splits[indices[is_moved]]
    return result


def _natural_splits(positions: np.ndarray, validation: float, test: float) -> np.ndarray:
    """Returns the splits before photos are moved, [N] int8."""
    fractions = positions / 2.0**64
    splits = np.full(len(positions), _TRAIN, np.int8)
    splits[fractions < test + validation] = _VALIDATION
    splits[fractions < test] = _TEST
    return splits


def _donor(split: int, splits: np.ndarray) -> int | None:
    """Returns which of a class's photos, sorted by position, to move to a split that has none."""
    counts = np.bincount(splits, minlength=len(SPLITS))
    if counts[split]:
        return None
    donors = np.flatnonzero(counts[splits] > 1)
    if split == _TRAIN:
        donors = donors[::-1]
    # Not from the test split if possible: validation lies between the other two.
    not_test = donors[splits[donors] != _TEST]
    return int((not_test if len(not_test) else donors)[0])
