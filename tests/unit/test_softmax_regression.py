import numpy as np
import pytest
from scipy import optimize, special
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from edgetpu_retrain import SoftmaxRegression


def dataset(seed: int = 0, deviation: float = 1.0) -> dict[str, np.ndarray]:
    x, y = make_blobs(600, 6, centers=4, cluster_std=deviation, random_state=seed)
    return {
        "data_train": x[:500],
        "labels_train": y[:500],
        "data_val": x[500:],
        "labels_val": y[500:],
    }


def test_pycoral_s_call_learns_separable_classes():
    data = dataset()
    model = SoftmaxRegression(6, 4, weight_scale=5e-2, reg=0.0)
    model.train_with_sgd(data, 200, 1e-2, batch_size=100, print_every=50)
    assert model.get_accuracy(data["data_val"], data["labels_val"]) > 0.98


def test_gradients_are_those_of_the_loss():
    data = dataset(deviation=4.0)
    x, y = data["data_train"][:40] / 10, data["labels_train"][:40]
    model = SoftmaxRegression(6, 4, weight_scale=0.5, reg=0.3, seed=0)

    def loss(parameters: np.ndarray) -> float:
        weights, biases = parameters[:24].reshape(6, 4), parameters[24:]
        probabilities = special.softmax(x @ weights + biases, axis=1)
        return log_loss(y, probabilities, labels=range(4)) + 0.15 * np.sum(weights**2)

    start = np.concatenate([model.weights.ravel(), model.biases]).astype(np.float64)
    expected = optimize.approx_fprime(start, loss, 1e-6)
    found, *gradients = model._loss(np.asarray(x, np.float32), y)
    assert found == pytest.approx(loss(start), rel=1e-5)
    assert np.allclose(np.concatenate([g.ravel() for g in gradients]), expected, atol=1e-5)


def test_long_training_reaches_scikit_learn_s_optimum():
    data = dataset(deviation=5.0)
    data |= {key: data[key] / 10 for key in ("data_train", "data_val")}
    model = SoftmaxRegression(6, 4, reg=0.01, seed=1)
    model.train_with_sgd(data, 5000, 0.1, batch_size=500)
    # scikit-learn minimizes C * sum of losses + |w|² / 2.
    reference = LogisticRegression(C=1 / (500 * 0.01), max_iter=5000)
    reference.fit(data["data_train"], data["labels_train"])
    found = special.softmax(data["data_val"] @ model.weights + model.biases, axis=1)
    assert np.abs(found - reference.predict_proba(data["data_val"])).max() < 0.03


def test_the_seed_decides():
    def trained(seed: int | None) -> np.ndarray:
        model = SoftmaxRegression(6, 4, seed=seed)
        model.train_with_sgd(dataset(), 5, 0.01)
        return model.weights

    assert np.array_equal(trained(3), trained(3))
    assert not np.array_equal(trained(3), trained(4))
    assert not np.array_equal(trained(None), trained(None))


def test_the_logit_range_is_that_of_the_final_weights():
    data = dataset()
    model = SoftmaxRegression(6, 4, seed=0)
    model.train_with_sgd(data, 50, 0.01)
    logits = data["data_train"].astype(np.float32) @ model.weights + model.biases
    assert model.logit_range == pytest.approx((logits.min(), logits.max()))


def test_validation_data_may_be_left_out():
    data = dataset()
    model = SoftmaxRegression(6, 4, seed=0)
    model.train_with_sgd({k: data[k] for k in ("data_train", "labels_train")}, 5, 0.01)
