"""Embeddings and manifest joined, and the published recipe on them."""

from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain import SoftmaxRegression, UserError, training
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.labelled_embeddings import TEST, TRAIN, LabelledEmbeddings
from edgetpu_retrain.manifest import SPLITS, Photo
from edgetpu_retrain.stored_embeddings import StoredEmbeddings
from tests.shards import identities_of, stored

RECIPE = {
    "recipe": "coral",
    "num_iter": 300, "batch_size": 20, "learning_rate": 0.1, "weight_scale": 0.05, "reg": 0.0,
    "seed": 0,
}  # fmt: skip


@pytest.fixture
def shard() -> Embeddings:
    """Thirty photos of three kinds, which are far apart; two more are broken."""
    random = np.random.default_rng(0)
    identities = sorted(random.bytes(32).hex() for _ in range(32))
    vectors = random.integers(0, 50, (30, 4), np.uint8)
    vectors[:, :3] += 150 * np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    return Embeddings(
        vectors, 0.02, 3, np.array(identities[:30], "S64"),
        random.integers(0, 256, (30, 32), np.uint8), "e" * 64, "bilinear 1",
        np.array(identities[30:], "S64"), np.array(["broken", "empty"]),
    )  # fmt: skip


@pytest.fixture
def embeddings(shard: Embeddings, tmp_path: Path) -> StoredEmbeddings:
    return stored(tmp_path, shard)


@pytest.fixture
def manifest(shard: Embeddings) -> list[Photo]:
    """All of them, in another order, as three classes."""
    sha256s = [*shard.photos.astype(str), *shard.undecodable.astype(str)]
    return [
        Photo(f"{i}.jpg", "cab"[i % 3], ("train", "train", "validation", "test")[i % 4], sha256)
        for i, sha256 in reversed(list(enumerate(sha256s)))
    ]


def test_every_photo_gets_its_own_class_and_split(shard, embeddings, manifest):
    labelled = LabelledEmbeddings.join(embeddings, manifest)
    assert labelled.classes == ("a", "b", "c")
    expected = {
        photo.sha256: (photo.label, photo.split)
        for photo in manifest
        if photo.sha256 not in shard.why_undecodable()
    }
    known = identities_of(embeddings)
    found = {
        known[row]: (labelled.classes[label], SPLITS[split])
        for row, label, split in zip(labelled.rows, labelled.labels, labelled.splits, strict=True)
    }
    assert found == expected
    listed = dict(labelled.listed(manifest))
    assert list(listed.values()) == [p for p in manifest if p.sha256 in expected]
    for i, photo in listed.items():
        assert labelled.classes[labelled.labels[i]] == photo.label
        assert manifest[labelled.lines[i]] == photo


def test_a_split_is_dequantized(shard, embeddings, manifest):
    labelled = LabelledEmbeddings.join(embeddings, manifest)
    tested = labelled.take(labelled.splits == TEST)
    known = shard.photos.astype(str).tolist()
    found = np.concatenate([values for _, values in tested.values()])
    assert found.dtype == np.float32
    for i, photo in tested.listed(manifest):
        assert photo.split == "test"
        expected = 0.02 * (shard.embeddings[known.index(photo.sha256)].astype(float) - 3)
        assert np.allclose(found[i], expected)
    assert len(found) == sum(p.split == "test" and p.sha256 in known for p in manifest)


def test_a_photo_that_is_listed_twice_counts_twice(embeddings, manifest):
    copy = identities_of(embeddings)[4]
    labelled = LabelledEmbeddings.join(embeddings, [*manifest, Photo("x", "d", "test", copy)])
    assert len(labelled.rows) == 31
    assert labelled.rows.tolist().count(4) == 2
    assert labelled.classes == ("a", "b", "c", "d")


def test_a_photo_that_is_not_embedded_is_an_error(embeddings, manifest):
    with pytest.raises(UserError, match="1 photos are not embedded"):
        LabelledEmbeddings.join(embeddings, [*manifest, Photo("x", "a", "train", "0" * 64)])


def test_it_is_the_recipe_on_the_training_split(embeddings, manifest):
    labelled = LabelledEmbeddings.join(embeddings, manifest)
    head = training.train(labelled, **RECIPE).head
    trained = labelled.take(labelled.splits == TRAIN)
    x, y = next(trained.values())[1], trained.labels
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


def test_the_order_of_the_manifest_makes_no_difference(embeddings, manifest):
    heads = [
        training.train(LabelledEmbeddings.join(embeddings, photos), **RECIPE).head
        for photos in (manifest, manifest[::-1])
    ]
    assert np.array_equal(heads[0].weights, heads[1].weights)


def test_training_that_diverges_is_explained(embeddings, manifest):
    labelled = LabelledEmbeddings.join(embeddings, manifest)
    with np.errstate(all="ignore"), pytest.raises(UserError, match=r"diverged: .*learning_rate"):
        training.train(labelled, **RECIPE | {"learning_rate": 1e38})
