"""The discriminant against scikit-learn, and what its combination with regression is worth."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss

from edgetpu_retrain.embeddings.blocks import threads
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.training import combination, cross_validation
from edgetpu_retrain.training.combination import combine
from edgetpu_retrain.training.discriminant import Statistics, by_fold, out_of_fold
from edgetpu_retrain.training.optimum import softmax
from edgetpu_retrain.training.recipes import train
from tests.unit.test_optimum import data_of, digits, labelled_of  # noqa: F401


def scikit_learn(values, labels, shrinkage: float, priors=None) -> LinearDiscriminantAnalysis:
    """Its discriminant, given the covariance within classes as this project shrinks it."""
    values = values.astype(np.float64)
    means = np.stack([values[labels == label].mean(axis=0) for label in np.unique(labels)])
    within = values - means[labels]
    covariance = within.T @ within / len(values)
    average = np.trace(covariance) / len(covariance) * np.eye(len(covariance))

    class Shrunk:
        def fit(self, _):
            self.covariance_ = (1 - shrinkage) * covariance + shrinkage * average
            return self

    model = LinearDiscriminantAnalysis(solver="lsqr", priors=priors, covariance_estimator=Shrunk())
    # It sums the estimator's matrices by class, weighted by priors that sum to 1.
    return model.fit(values, labels)


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(("shrinkage", "balanced"), [(0.03, False), (0.5, False), (0.5, True)])
def test_the_discriminant_is_scikit_learn_s(digits, shrinkage: float, balanced: bool):  # noqa: F811
    data = data_of(*digits)
    everything = np.arange(len(data.labels))
    logits = out_of_fold(data, by_fold(data, 10), [shrinkage], balanced)[0]
    for fold in (0, 7):
        held_out = data.folds == fold
        seen = everything[~held_out]
        model = scikit_learn(
            data.embeddings(seen), data.labels[seen], shrinkage,
            priors=np.full(10, 0.1) if balanced else None,
        )  # fmt: skip
        expected = model.decision_function(data.embeddings(everything[held_out]))
        np.testing.assert_allclose(centred(logits[held_out]), centred(expected), atol=0.05)


def test_fewer_photos_than_dimensions(digits):  # noqa: F811
    """Wider embeddings than there are photos are worked on in the directions these span."""
    pictures, labels = (values[:60] for values in digits)
    wide = np.repeat(pictures, 5, axis=1)
    data = data_of(wide, labels)
    assert data.axes.shape[1] < 60
    seen = np.ones(60, bool)
    found = Statistics.of(data, seen).discriminant(data, 0.25, balanced=False)
    embeddings = wide - wide.mean(axis=0)
    embeddings /= np.sqrt(np.mean(np.sum(embeddings**2, axis=1)))
    expected = scikit_learn(embeddings, data.labels, 0.25).decision_function(embeddings)
    logits = found.logits(data.embeddings(np.arange(60)))
    np.testing.assert_allclose(centred(logits), centred(expected), atol=0.05)
    # And over all 320 values.
    logits = embeddings @ data.weights(found.weights) + found.biases
    np.testing.assert_allclose(centred(logits), centred(expected), atol=0.05)


def test_shares_see_a_part(digits):  # noqa: F811
    data = data_of(*digits)
    folds = data.folds // 2
    held_out = np.flatnonzero(folds == 3)
    measured = by_fold(data, 10, share=0.25)
    logits = out_of_fold(data, measured, [0.1], False, held_out=2, photos=held_out)[0]
    seen = np.flatnonzero((folds != 3) & (data.ranks < 0.25))
    model = scikit_learn(data.embeddings(seen), data.labels[seen], 0.1)
    expected = model.decision_function(data.embeddings(held_out))
    np.testing.assert_allclose(centred(logits), centred(expected), atol=0.05)


def test_the_combination_is_better_than_regression(digits):  # noqa: F811
    """On photos that neither has seen, on average over three splits."""
    pictures, labels = digits
    results = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(labels))
        seen, unseen = order[:300], order[300:]
        data = data_of(pictures[seen], labels[seen])
        regression = cross_validation.choose(data)
        found = combine(data, regression)
        assert found.weight > 0
        values = (pictures[unseen].astype(np.float32) - data.mean) / np.float32(data.spread)
        for choice in (regression, found.choice):
            scores = choice.layer.logits(values)[:, 0]
            scores /= cross_validation.fit_temperature(choice.logits, data.labels)
            softmax(scores)
            results.append(log_loss(labels[unseen], scores))
            results.append(np.mean(scores.argmax(axis=1) == labels[unseen]))
    loss, accuracy, combined_loss, combined_accuracy = np.mean(np.reshape(results, (3, 4)), axis=0)
    assert combined_loss < 0.95 * loss
    assert combined_accuracy > accuracy + 0.004


def test_the_learning_curve_is_of_the_combination(digits):  # noqa: F811
    data = data_of(*(values[:600] for values in digits))
    regression = cross_validation.choose(data)
    choice = combine(data, regression).choice
    curve = [point["accuracy"] for point in choice.learning_curve]
    assert curve == sorted(curve) and len(curve) == 3
    assert curve[-1] == np.mean(choice.logits.argmax(axis=1) == data.labels)
    photos = [point["photos"] for point in choice.learning_curve]
    assert photos == [point["photos"] for point in regression.learning_curve]


def test_regression_stays_as_it_is_where_the_discriminant_does_not_help(digits, monkeypatch):  # noqa: F811
    data = data_of(*(values[:300] for values in digits))
    regression = cross_validation.choose(data)
    noise = np.random.default_rng(0).normal(size=(len(combination.SHRINKAGES), 300, 10))
    monkeypatch.setattr(
        combination,
        "out_of_fold",
        lambda data, measured, tried, *_, **__: noise[: len(tried)].astype("f4"),
    )
    found = combine(data, regression)
    assert found.weight == 0
    assert found.choice is regression


def test_few_photos_have_regression_alone(digits):  # noqa: F811
    data = data_of(*(values[:90] for values in digits))
    regression = cross_validation.choose(data)
    assert combine(data, regression).choice is regression


def test_threads_change_no_bit(digits):  # noqa: F811
    data = data_of(*(values[:500] for values in digits))
    found = []
    for count in (1, 3):
        with threads(count) as run:
            measured = by_fold(data, 10, run=run)
            found.append(out_of_fold(data, measured, [0.1, 0.5], False, run=run).tobytes())
    assert found[0] == found[1]
    layers = [combine(data, cross_validation.choose(data), count).choice.layer for count in (1, 3)]
    assert layers[0].weights.tobytes() == layers[1].weights.tobytes()


def test_photos_that_are_all_the_same(digits):  # noqa: F811
    pictures = np.full((120, 64), 9, np.uint8)
    with pytest.raises(UserError, match=r"the same embedding for all 96 photos.* mean and std of"):
        train(labelled_of(pictures, np.arange(120) % 3, "012"), "optimum", seed=0)
