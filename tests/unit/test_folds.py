import numpy as np

from edgetpu_retrain.training.folds import assign_folds


def test_folds_are_stratified_and_keep_groups_together():
    random = np.random.default_rng(0)
    labels = random.choice(5, 1000, p=[0.4, 0.3, 0.2, 0.09, 0.01])
    groups = random.integers(0, 700, 1000)
    folds = assign_folds(labels, groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups.tolist()))
    for label in range(5):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 3
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 6


def test_without_copies_no_fold_has_two_photos_of_a_class_more():
    labels = np.repeat([0, 1, 2], [7, 33, 60])
    folds = assign_folds(labels, np.arange(100), 5)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(folds).tolist() == [20] * 5


def test_other_names_of_classes_give_the_same_folds():
    random = np.random.default_rng(1)
    labels, groups = random.integers(0, 4, 200), random.integers(0, 150, 200)
    renamed = np.array([2, 0, 3, 1])[labels]
    assert np.array_equal(assign_folds(labels, groups, 5), assign_folds(renamed, groups, 5))
