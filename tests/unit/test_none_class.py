"""What photos of other things are told by, learned from digits as if they were embeddings."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD

from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings
from edgetpu_retrain.runtime.interpreter import Quantization
from edgetpu_retrain.training import none_class, recipes

SCALE = 0.1


def labelled(values: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]):
    """Photos with these embeddings, a fifth of them in the test split."""
    count = len(labels)
    random = np.random.default_rng(0)
    splits = np.where(np.arange(count) % 5 == 4, TEST, 0).astype(np.int8)
    return LabelledEmbeddings(
        values.astype(np.uint8), random.integers(0, 256, (count, 32), np.uint8),
        [f"{i:064x}" for i in range(count)], Quantization(SCALE, 0), "e", "p", classes,
        np.arange(count), labels, splits, np.full(count, "x.png", object), np.arange(count),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    """1,797 digits of ten classes."""
    values, labels = load_digits(return_X_y=True)
    return labelled(10 * values, labels, tuple("0123456789"))


@pytest.fixture(scope="module")
def strangers(digits) -> np.ndarray:
    """The digits with their pixels in another order, always the same, dequantized."""
    return SCALE * digits.vectors[:, np.random.default_rng(1).permutation(64)].astype(np.float32)


@pytest.fixture(scope="module")
def trained(digits):
    return recipes.train(digits, "optimum", 0, none=True)


def test_strangers_are_told_from_photos_of_the_classes(digits, strangers, trained):
    head, scores = trained.head, trained.predictions.scores
    assert head.classes == (*"0123456789", "none")
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    lost = np.mean(trained.predictions.predicted == 10)
    assert 0.005 < lost < 0.02
    test = digits.select(digits.splits == TEST)
    found = head.scores(test[:]).argmax(axis=1)
    assert np.mean(found == 10) < 0.02
    assert np.mean(found == test.labels) > 0.93
    assert np.mean(head.scores(strangers).argmax(axis=1) == 10) > 0.9
    # Without the gate, all of them would get the class of a digit.
    assert head.logits(strangers).shape == (len(strangers), 10)


def test_the_axes_are_the_singular_vectors_of_the_photos(digits):
    kept = digits.select(digits.splits != TEST)
    folds = np.arange(len(kept)) % 10
    gate = none_class.learn(kept, folds).gate
    values = kept[np.sort(np.concatenate([
        np.flatnonzero(kept.labels == label)[:100] for label in range(10)
    ]))]  # fmt: skip
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    expected = TruncatedSVD(32, algorithm="arpack").fit(unit).components_
    length = np.square(expected @ unit.T).sum(axis=0)
    np.testing.assert_allclose(np.square(unit @ gate.axes).sum(axis=1), length, atol=1e-4)


def test_the_layer_is_the_one_without_none(digits, trained):
    plain = recipes.train(digits, "optimum", 0)
    assert np.array_equal(plain.head.weights, trained.head.weights)
    assert plain.head.classes == digits.classes
    assert plain.head.gate is None
    assert "left_out" not in plain.head.training


def test_each_class_is_left_out_in_turn(digits, trained):
    left_out = trained.head.training["left_out"]
    kept = digits.labels[digits.splits != TEST]
    assert {name: row["photos"] for name, row in left_out.items()} == {
        str(label): int(np.sum(kept == label)) for label in range(10)
    }
    # Another digit is like the digits, more than a picture of something else.
    assert 0 < sum(row["none"] for row in left_out.values()) / len(kept) < 0.9


def test_a_class_none_with_photos_takes_no_part_in_the_gate(digits, strangers, trained):
    random = np.random.default_rng(2)
    noise = random.integers(0, 160, (200, 64))
    values = np.concatenate([digits.vectors, noise])
    labels = np.concatenate([digits.labels, np.full(200, 10)])
    both = recipes.train(
        labelled(values, labels, (*digits.classes, "none")), "optimum", 0, none=True
    )
    assert both.head.classes == (*"0123456789", "none")
    assert "none" not in both.head.training["left_out"]
    assert both.head.gate.axes.shape == (64, 32)
    noise = SCALE * noise.astype(np.float32)
    for others in (noise, strangers):
        assert np.mean(both.head.scores(others).argmax(axis=1) == 10) > 0.9
    energies = [
        np.square(noise @ axes).sum() for axes in (both.head.gate.axes, trained.head.gate.axes)
    ]
    np.testing.assert_allclose(energies[0], energies[1], rtol=0.02)


def test_photos_without_a_fold_are_not_judged(digits, trained):
    """Here, those that are the least like others: with them, the threshold would be lower."""
    kept = digits.select(digits.splits != TEST)
    folds = np.arange(len(kept)) % 10
    folds[np.argsort(trained.predictions.scores[:, 10])[-len(kept) // 4 :]] = -1
    learned = none_class.learn(kept, folds)
    judged = np.flatnonzero(folds >= 0)
    assert 0.005 < np.mean(learned.known[judged] < 0.5) < 0.015
    counts = np.bincount(kept.labels[judged])
    assert [row["photos"] for row in learned.left_out.values()] == counts.tolist()


def test_few_photos(digits):
    """Of ten photos of two classes, none is lost that is not far from the others."""
    few = np.concatenate([np.flatnonzero(digits.labels == label)[:5] for label in (0, 1)])
    small = labelled(digits.vectors[few], digits.labels[few], ("0", "1"))
    trained = recipes.train(small, "optimum", 0, none=True)
    assert trained.head.gate.axes.shape[1] == 1
    assert np.isfinite(trained.predictions.scores).all()
    assert np.mean(trained.predictions.predicted == 2) <= 0.2


def test_photos_that_are_all_alike(digits):
    same = replace(digits, vectors=np.tile(digits.vectors[:2], (len(digits.vectors) // 2, 1)))
    same = same.select(np.arange(len(same)) < 300)
    learned = none_class.learn(same, np.arange(300) % 10)
    assert np.isfinite(learned.known).all()
    assert learned.gate.axes.shape[1] <= 2
