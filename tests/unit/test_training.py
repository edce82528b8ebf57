"""The published recipe on labelled embeddings."""

from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain import SoftmaxRegression
from edgetpu_retrain.embeddings.labelled_embeddings import TRAIN, LabelledEmbeddings
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.training import recipes
from tests.shards import save_shards

RECIPE = {
    "recipe": "coral",
    "num_iter": 300, "batch_size": 20, "learning_rate": 0.1, "weight_scale": 0.05, "reg": 0.0,
    "seed": 0,
}  # fmt: skip


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Thirty photos of three kinds, which are far apart."""
    random = np.random.default_rng(0)
    vectors = random.integers(0, 50, (30, 4), np.uint8)
    vectors[:, :3] += 150 * np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    shard = Embeddings(
        vectors, 0.02, 3, np.array([f"{i:064x}" for i in range(30)], "S64"),
        random.integers(0, 256, (30, 32), np.uint8), "e" * 64, "bilinear 1",
        np.array([], "S64"), np.array([], np.str_),
    )  # fmt: skip
    return save_shards(tmp_path, shard)


@pytest.fixture
def manifest() -> list[Photo]:
    """All of them, in another order, as three classes."""
    splits = ("train", "train", "validation", "test")
    return [
        Photo(f"{i}.jpg", "cab"[i % 3], splits[i % 4], f"{i:064x}") for i in reversed(range(30))
    ]


def test_it_is_the_recipe_on_the_training_split(shards, manifest):
    labelled = LabelledEmbeddings.load(shards, manifest)
    head = recipes.train(labelled, **RECIPE).head
    trained = labelled.select(labelled.splits == TRAIN)
    x, y = trained[:], trained.labels
    model = SoftmaxRegression(4, 3, 0.05, seed=0)
    model.train_with_sgd({"data_train": x, "labels_train": y}, 300, 0.1, batch_size=20)
    assert np.array_equal(head.weights, model.weights)
    assert np.array_equal(head.biases, model.biases)
    assert head.logit_range == model.logit_range
    assert head.classes == ("a", "b", "c")
    assert np.mean(head.logits(x).argmax(axis=1) == y) > 0.9
    assert head.training == RECIPE | {
        "photos": len(y), "extractor": "e" * 64, "preprocessing": "bilinear 1",
    }  # fmt: skip


def test_the_order_of_the_manifest_makes_no_difference(shards, manifest):
    heads = [
        recipes.train(LabelledEmbeddings.load(shards, photos), **RECIPE).head
        for photos in (manifest, manifest[::-1])
    ]
    assert np.array_equal(heads[0].weights, heads[1].weights)


def test_training_that_diverges_is_explained(shards, manifest):
    labelled = LabelledEmbeddings.load(shards, manifest)
    with np.errstate(all="ignore"), pytest.raises(UserError, match=r"diverged: .*learning_rate"):
        recipes.train(labelled, **RECIPE | {"learning_rate": 1e38})
