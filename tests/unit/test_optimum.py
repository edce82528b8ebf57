"""Against scikit-learn, on its handwritten digits: 1,797 real pictures of 64 grey values."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from edgetpu_retrain.embeddings import labelled_embeddings
from edgetpu_retrain.embeddings.labelled_embeddings import (
    TEST,
    TRAIN,
    VALIDATION,
    LabelledEmbeddings,
    TrainingData,
)
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.runtime.interpreter import Quantization
from edgetpu_retrain.training import cross_validation, folds
from edgetpu_retrain.training.optimum import Plan, refine_lbfgs, train_sgd
from edgetpu_retrain.training.recipes import check_settings, train


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    pictures, labels = load_digits(return_X_y=True)
    return (pictures * 15).astype(np.uint8), labels


def labelled_of(pictures, labels, names="0123456789") -> LabelledEmbeddings:
    count = len(labels)
    hashes = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    order = np.argsort(list(names))
    splits = np.resize([TRAIN, VALIDATION, TEST, TRAIN, TRAIN], count)
    return LabelledEmbeddings(
        pictures, hashes, [f"{i:064x}" for i in range(count)], Quantization(0.1, 7), "x", "y",
        tuple(names[i] for i in order), np.arange(count), np.argsort(order)[labels], splits,
        np.full(count, "x.jpg", object), np.arange(count),
    )  # fmt: skip


def data_of(pictures: np.ndarray, labels: np.ndarray) -> TrainingData:
    divided = folds.assign_folds(labels, np.arange(len(labels)), cross_validation.FOLDS)
    return TrainingData.of(labelled_of(pictures, labels), divided)


def scikit_learn(
    data: TrainingData, seen: np.ndarray, strength: float, **options
) -> LogisticRegression:
    """Its minimum of the same loss: C is 1 / (N strength)."""
    values = data.embeddings(seen).astype(np.float64)
    options = {"C": 1 / (len(values) * strength), "tol": 1e-6, "max_iter": 5000} | options
    return LogisticRegression(**options).fit(values, data.labels[seen])


@pytest.mark.parametrize("balanced", [False, True])
def test_the_last_layer_is_scikit_learn_s(digits, balanced: bool):
    pictures, labels = digits
    # Of the digit 0 only every sixth.
    kept = (labels > 0) | (np.arange(len(labels)) % 6 == 0)
    data = data_of(pictures[kept], labels[kept])
    plan = Plan.of([((-1, -1), 1.0, 1e-3, balanced)])
    layer = refine_lbfgs(data, plan, train_sgd(data, plan))
    everything = np.arange(len(data.labels))
    expected = scikit_learn(data, everything, 1e-3, class_weight="balanced" if balanced else None)
    np.testing.assert_allclose(layer.weights[:, 0], expected.coef_.T, atol=0.02)
    logits = layer.logits(data.embeddings(everything))[:, 0]
    assert np.array_equal(logits.argmax(axis=1), expected.predict(data.embeddings(everything)))


def test_layers_without_a_fold_or_on_a_part_see_only_the_rest(digits):
    data = data_of(*digits)
    layers = train_sgd(data, Plan.of([((2, 3), 1.0, 1e-3, False), ((2, 3), 0.25, 1e-3, False)]))
    held_out = np.flatnonzero(data.folds == 2)
    found = layers.logits(data.embeddings(held_out)).argmax(axis=2)
    for i, share in enumerate((1.0, 0.25)):
        seen = np.flatnonzero((data.folds != 2) & (data.ranks < share))
        assert abs(len(seen) - 0.9 * share * len(data.labels)) < 10
        expected = scikit_learn(data, seen, 1e-3).predict(data.embeddings(held_out))
        assert np.mean(found[:, i] == expected) > 0.99


def test_the_strength_is_as_good_as_that_of_scikit_learn_s_lowest_loss(digits):
    data = data_of(*(values[:500] for values in digits))
    choice = cross_validation.choose(data)
    losses = []
    for strength in cross_validation.STRENGTHS:
        logs = np.empty(len(data.labels))
        # Two folds of the ten at a time.
        for fold in range(5):
            out = data.folds // 2 == fold
            model = scikit_learn(data, np.flatnonzero(~out), strength)
            found = model.predict_log_proba(data.embeddings(out))
            logs[out] = found[np.arange(out.sum()), data.labels[out]]
        losses.append(-logs.mean())
    # Where the curve is flat, its neighbours are as good.
    assert losses[cross_validation.STRENGTHS.index(choice.strength)] < 1.06 * min(losses)
    strongest = [one["loss"] for one in choice.strengths][:4]
    np.testing.assert_allclose(strongest, losses[:4], rtol=0.01)
    # More photos, fewer mistakes; the last point is the cross-validation itself.
    curve = [point["accuracy"] for point in choice.learning_curve]
    assert curve == sorted(curve) and len(curve) == 3
    assert curve[-1] == np.mean(choice.logits.argmax(axis=1) == data.labels)


def test_photos_in_many_parts_give_the_same_layers_as_in_one(digits, monkeypatch):
    data = data_of(*digits)
    layers = [((fold, fold + 1), 1.0, 1e-3, False) for fold in range(3)]
    last = Plan.of([((-1, -1), 1.0, 1e-3, False)])
    found, finished = [], []
    for length in (10_000, 300):
        monkeypatch.setattr(labelled_embeddings, "_BLOCK", length)
        found.append(train_sgd(data, Plan.of(layers)))
        finished.append(refine_lbfgs(data, last, train_sgd(data, last)).weights)
    everything = data.embeddings(np.arange(len(data.labels)))
    predicted = [layers.logits(everything).argmax(axis=2) for layers in found]
    assert np.mean(predicted[0] == predicted[1]) > 0.995
    np.testing.assert_allclose(*finished, atol=0.02)


def test_fewer_photos_than_directions_lose_nothing(digits):
    """Wider embeddings than there are photos are trained in the directions that these span."""
    pictures, labels = (values[:60] for values in digits)
    wide = np.repeat(pictures, 5, axis=1)
    data = data_of(wide, labels)
    assert data.axes.shape[1] < 60
    plan = Plan.of([((-1, -1), 1.0, 1e-3, False)])
    layer = refine_lbfgs(data, plan, train_sgd(data, plan))
    everything = np.arange(60)
    expected = scikit_learn(data, everything, 1e-3)
    np.testing.assert_allclose(layer.weights[:, 0], expected.coef_.T, atol=0.02)


def test_the_number_of_threads_changes_no_bit():
    random = np.random.default_rng(0)
    labels = np.arange(600) % 5
    # Large enough that linear algebra would use all threads it has.
    vectors = 128 + random.normal(0, 20, (5, 1024))[labels] + random.normal(0, 30, (600, 1024))
    found = []
    for count in (1, 2):
        with threadpool_limits(count):
            data = data_of(vectors.clip(0, 255).astype(np.uint8), labels)
            found.append(cross_validation.choose(data, num_threads=count))
    assert np.array_equal(found[0].layer.weights, found[1].layer.weights)
    assert np.array_equal(found[0].logits, found[1].logits)


def test_the_strength_can_be_chosen_on_a_part(digits, monkeypatch):
    data = data_of(*digits)
    whole = cross_validation.choose(data)
    monkeypatch.setattr(cross_validation, "_MAX_TO_CHOOSE", 900)
    part = cross_validation.choose(data)
    assert part.logits.shape == whole.logits.shape
    predicted = [choice.logits.argmax(axis=1) for choice in (part, whole)]
    assert np.mean(predicted[0] == predicted[1]) > 0.97
    curve = [point["photos"] for point in part.learning_curve]
    assert curve == [point["photos"] for point in whole.learning_curve]
    assert part.learning_curve[-1]["accuracy"] == np.mean(predicted[0] == data.labels)


def test_a_temperature_makes_scores_probabilities():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (5000, 4))
    powers = np.exp(logits)
    chances = np.cumsum(powers / powers.sum(axis=1, keepdims=True), axis=1)
    labels = (random.random((5000, 1)) > chances).sum(axis=1)
    # Logits three times too large.
    assert cross_validation.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.06)
    assert cross_validation.fit_temperature(3 * logits[:90], labels[:90]) == 1


@pytest.fixture(scope="module")
def some_digits(digits) -> tuple[np.ndarray, np.ndarray]:
    pictures, labels = digits
    return pictures[:500], labels[:500]


def test_seed_and_threads_change_no_bit_and_names_no_prediction(some_digits):
    first = train(labelled_of(*some_digits), "optimum", seed=0, num_threads=1)
    second = train(labelled_of(*some_digits), "optimum", seed=1, num_threads=3)
    assert np.array_equal(first.head.weights, second.head.weights)
    assert first.head.training == second.head.training
    assert np.array_equal(first.predictions.scores, second.predictions.scores)
    renamed = train(labelled_of(*some_digits, names="5038217649"), "optimum", seed=0)
    names = np.array(first.head.classes)[first.predictions.predicted]
    others = np.array(renamed.head.classes)[renamed.predictions.predicted]
    new_names = {str(i): name for i, name in enumerate("5038217649")}
    assert [new_names[name] for name in names] == others.tolist()


@pytest.mark.parametrize(
    ("recipe", "worse"), [("optimum", 0.03), ("coral", 0.03), ("imprinting", 0.12)]
)
def test_a_head_takes_embeddings_as_they_come(some_digits, recipe: str, worse: float):
    labelled = labelled_of(*some_digits)
    trained = train(labelled, recipe, seed=0)
    assert set(labelled.splits[trained.labelled.lines]) == {TRAIN, VALIDATION}
    tested = labelled.select(labelled.splits == TEST)
    logits = trained.head.logits(tested[:])
    accuracy = np.mean(logits.argmax(axis=1) == tested.labels)
    values = trained.labelled[:]
    expected = LogisticRegression(max_iter=5000).fit(values, trained.labelled.labels)
    assert accuracy >= expected.score(tested[:], tested.labels) - worse
    low, high = trained.head.logit_range
    logits = trained.head.logits(values)
    if recipe == "optimum":
        assert (low, high) == pytest.approx((logits.min(), logits.max()), rel=1e-4)
    out_of_fold = np.mean(trained.predictions.predicted == trained.predictions.labels)
    assert abs(out_of_fold - accuracy) < 0.07


def test_imprinting_says_what_softmax_regression_reaches(some_digits):
    trained = [
        train(labelled_of(*some_digits), recipe, seed=0) for recipe in ("imprinting", "optimum")
    ]
    predictions = trained[1].predictions
    assert trained[0].head.training["softmax_regression"]["accuracy"] == np.mean(
        predictions.predicted == predictions.labels
    )


def test_a_setting_of_another_recipe_is_an_error():
    check_settings("coral", ["num_iter", "reg"])
    with pytest.raises(UserError, match=r"training.num_iter is a setting of the recipe coral"):
        check_settings("optimum", ["num_iter"])


def test_embeddings_of_a_flattened_network_train_as_narrow_ones(digits):
    """Each value 320 times changes nothing but the scale, and nothing is 20,480 values square."""
    pictures, labels = (values[:300] for values in digits)
    wide = np.repeat(pictures, 320, axis=1)
    narrow, trained = (
        train(labelled_of(values, labels), "optimum", seed=0) for values in (pictures, wide)
    )
    assert trained.head.weights.shape == (20_480, 10)
    assert trained.head.training["strength"] == narrow.head.training["strength"]
    chosen = np.arange(0, 300, 7)
    found = trained.head.logits(labelled_of(wide, labels)[chosen])
    expected = narrow.head.logits(labelled_of(pictures, labels)[chosen])
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) > 0.97
