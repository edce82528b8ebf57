"""Which photos are for training, validation and testing."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from edgetpu_retrain.index import splits as dividing
from edgetpu_retrain.index.manifest import SPLITS


def assign_splits(photos: list[tuple[str, str]], validation: float, test: float) -> dict[str, str]:
    """Returns the split of every identity, for (identity, class) of photos."""
    positions = np.array([int(sha256[:16], 16) for sha256, _ in photos], np.uint64)
    classes = sorted({label for _, label in photos})
    labels = np.array([classes.index(label) for _, label in photos])
    found = dividing.assign_splits(positions, labels, validation, test)
    by_identity: dict[str, set[str]] = {}
    for (sha256, _), split in zip(photos, found, strict=True):
        by_identity.setdefault(sha256, set()).add(SPLITS[split])
    # Copies are in one split.
    assert all(len(names) == 1 for names in by_identity.values())
    return {sha256: names.pop() for sha256, names in by_identity.items()}


def identities(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [random.bytes(32).hex() for _ in range(count)]


def listed(count: int, label: str = "a", seed: int = 0) -> list[tuple[str, str]]:
    return [(sha256, label) for sha256 in identities(count, seed)]


def test_adding_photos_moves_no_other():
    first = listed(40, "a", 1) + listed(40, "b", 2)
    before = assign_splits(first, 0.1, 0.1)
    more = first + listed(20, "a", 3) + listed(5, "b", 4)
    after = assign_splits(more, 0.1, 0.1)
    assert len(after) == 105
    assert {sha256: after[sha256] for sha256 in before} == before
    # Nor does their order.
    assert assign_splits(more[::-1], 0.1, 0.1) == after


def test_splits_have_about_the_configured_sizes():
    counts = Counter(assign_splits(listed(1000), 0.2, 0.3).values())
    # Four standard deviations of a binomial distribution.
    assert abs(counts["validation"] - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8)
    assert abs(counts["test"] - 300) < 4 * np.sqrt(1000 * 0.3 * 0.7)


@pytest.mark.parametrize("count", [10, 11, 13, 20])
def test_a_class_of_ten_has_a_photo_in_every_split(count):
    for seed in range(50):
        splits = assign_splits(listed(count, seed=seed), 0.1, 0.1)
        assert set(splits.values()) == set(SPLITS)
        assert Counter(splits.values())["train"] >= count / 3


def test_a_smaller_class_keeps_what_falls_to_it():
    found = [set(assign_splits(listed(9, seed=seed), 0.1, 0.1).values()) for seed in range(50)]
    assert any("test" not in splits for splits in found)


def test_a_split_that_is_switched_off_stays_empty():
    splits = assign_splits(listed(30), validation=0.0, test=0.2)
    assert set(splits.values()) == {"train", "test"}


def test_copies_in_two_classes_are_in_one_split():
    """The splits are by identity, so a photo's copies cannot be on two sides."""
    same = identities(12)
    splits = assign_splits([(s, c) for s in same for c in ("a", "b")], 0.1, 0.1)
    assert splits.keys() == set(same)


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.0, 0.1), (0.05, 0.3), (0.1, 0.0)])
def test_a_class_of_ten_or_more_has_a_photo_in_every_split_asked_for(validation, test):
    photos = [
        (hashlib.sha256(f"{label}/{i}".encode()).hexdigest(), f"class{label:02}")
        for label in range(200)
        for i in range(10 + label % 15)
    ]
    splits = assign_splits(photos, validation, test)
    counts = Counter((label, splits[sha256]) for sha256, label in photos)
    shares = {"train": 1, "validation": validation, "test": test}
    asked = {split for split, share in shares.items() if share}
    for label in {label for _, label in photos}:
        assert {split for name, split in counts if name == label} == asked


def at(*fractions: float) -> list[str]:
    """Identities that lie at these fractions of their range."""
    return [f"{int(fraction * 2**64):016x}{'0' * 48}" for fraction in fractions]


def test_a_split_that_has_none_gets_the_nearest_photo():
    """By hand, for a tenth of testing and a tenth of validation."""
    trained = at(0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    found = assign_splits([(sha256, "a") for sha256 in trained], 0.1, 0.1)
    assert [found[sha256] for sha256 in trained] == ["test", "validation", *["train"] * 8]
    # Validation lies between the others, so it is not taken from testing.
    tested = at(0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.3, 0.4)
    found = assign_splits([(sha256, "a") for sha256 in tested], 0.1, 0.1)
    assert [found[sha256] for sha256 in tested] == [*["test"] * 8, "validation", "train"]
    # For training the highest, of validation first.
    low = at(0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.12, 0.15, 0.18)
    found = assign_splits([(sha256, "a") for sha256 in low], 0.1, 0.1)
    assert [found[sha256] for sha256 in low] == [*["test"] * 7, *["validation"] * 2, "train"]


def test_a_copy_that_was_moved_for_one_class_counts_in_the_next():
    shared, *others = at(0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.15)
    classes = [(sha256, "a") for sha256 in (shared, *others)]
    # Of b alone, this one would be nearer to testing.
    (nearer,) = at(0.22)
    classes += [(sha256, "b") for sha256 in (nearer, shared, *others)]
    found = assign_splits(classes, 0.1, 0.1)
    assert [s for s in found if found[s] == "test"] == [shared]
    assert found[nearer] == "train"
    # Copies in a class do not make ten photos of nine.
    nine = [(sha256, "a") for sha256 in [shared, *others][:9] * 2]
    assert set(assign_splits(nine, 0.1, 0.1).values()) == {"train"}
