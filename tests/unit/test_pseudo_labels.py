"""What photos without a label teach: real flowers, of which few are labelled."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pseudo_labels as benchmark
from benchmarks.labelling import Photos, load
from edgetpu_retrain.embeddings.labelled_embeddings import TrainingData
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.training import cross_validation, folds, pseudo_labels
from edgetpu_retrain.training.combination import combine
from edgetpu_retrain.training.pseudo_labels import candidates, learn
from edgetpu_retrain.training.recipes import TrainingResult, train
from tests.unit.test_choosing import EXTRACTOR

DRAWS = range(3)


@pytest.fixture(scope="module")
def flowers(photos: Path, models: Path, tmp_path_factory) -> Photos:
    return load(photos, models / EXTRACTOR, tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="module")
def drawn(flowers: Photos) -> list[benchmark.Draw]:
    return [benchmark.draw(flowers, 20, seed) for seed in DRAWS]


def trained(draw: benchmark.Draw, pseudo_labels: bool = True, **options) -> TrainingResult:
    options = {"seed": 0, "num_threads": 2, "unlabelled": draw.unlabelled} | options
    return train(draw.labelled, "optimum", pseudo_labels=pseudo_labels, **options)


@pytest.fixture(scope="module")
def both(drawn: list[benchmark.Draw]) -> list[tuple[TrainingResult, TrainingResult]]:
    """For each draw, trained without and with photos that have no label."""
    return [(trained(draw, pseudo_labels=False), trained(draw)) for draw in drawn]


def arrays(head: Head, path: Path) -> dict[str, bytes]:
    """The layer in a file of the head, and not how it was trained."""
    head.save(path)
    with np.load(path) as content:
        return {name: content[name].tobytes() for name in content if name != "training"}


def test_other_photos_are_recognized_better(drawn, both):
    results = [
        [benchmark.results(one, draw.tested)[:2] for one in pair]
        for draw, pair in zip(drawn, both, strict=True)
    ]
    before, after = np.mean(results, axis=0)
    assert after[0] > before[0] + 0.005
    assert after[1] < before[1] - 0.01


def test_cross_validation_is_no_better_than_other_photos(drawn, both):
    """It would be 7 points better if the first head had seen the photos that are judged."""
    excess = [
        np.mean(one.predictions.predicted == one.predictions.labels)
        - benchmark.results(one, draw.tested)[0]
        for draw, (_, one) in zip(drawn, both, strict=True)
    ]
    assert np.mean(excess) < 0.03


def test_only_photos_with_a_label_are_counted(drawn, both):
    for draw, (_, one) in zip(drawn, both, strict=True):
        record = one.head.training["pseudo_labels"]
        assert record["photos"] > 500 and record["sure"] > 300
        assert one.head.training["photos"] == len(one.predictions.labels) == 100
        assert one.labelled.identities == draw.labelled.identities
        assert len(one.groups) == 100
        curve = one.head.training["learning_curve"]
        assert curve[-1]["photos"] == 90


def test_a_label_has_no_part_in_how_its_photo_is_judged(flowers: Photos):
    # Fewer than 100 photos calibrate nothing.
    draw = benchmark.draw(flowers, 16, 0)
    labels = draw.labelled.labels
    divided = folds.assign_folds(labels, np.arange(len(labels)), cross_validation.FOLDS)
    data = TrainingData.of(draw.labelled, divided)
    combined = combine(data, cross_validation.choose(data))
    vectors = draw.unlabelled.vectors
    before = learn(data, combined, vectors, num_threads=2).combined.choice
    changed = labels.copy()
    changed[5] = (changed[5] + 1) % 5
    after = learn(replace(data, labels=changed), combined, vectors, num_threads=2).combined.choice
    assert after.strength == before.strength
    same = np.all(after.logits == before.logits, axis=1)
    assert same.tolist() == (divided == divided[5]).tolist()


def test_photos_that_do_not_help_are_not_used(drawn, both, tmp_path: Path):
    """Embeddings mirrored at their mean: wherever a class is, others are now."""
    draw, plain = drawn[0], both[0][0]
    vectors = draw.unlabelled.vectors.astype(int)
    mirrored = np.clip(2 * np.rint(vectors.mean(axis=0)) - vectors, 0, 255).astype(np.uint8)
    one = trained(draw, unlabelled=replace(draw.unlabelled, vectors=mirrored))
    record = one.head.training["pseudo_labels"]
    assert record["sure"] > 100
    assert record["loss"] > record["loss_without"] and not record["helps"]
    assert arrays(one.head, tmp_path / "a.npz") == arrays(plain.head, tmp_path / "b.npz")
    assert np.array_equal(one.predictions.scores, plain.predictions.scores)


def test_the_number_of_threads_changes_nothing(drawn, both, tmp_path: Path):
    again = trained(drawn[1], num_threads=1)
    again.head.save(tmp_path / "again")
    both[1][1].head.save(tmp_path / "first")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "first").read_bytes()
    assert np.array_equal(again.predictions.scores, both[1][1].predictions.scores)


def test_near_copies_of_labelled_photos_are_not_learned_from(drawn):
    draw = drawn[0]
    copies, others = draw.labelled, draw.unlabelled
    joined = replace(
        others,
        vectors=np.concatenate([others.vectors, copies.vectors]),
        hashes=np.concatenate([others.hashes, copies.hashes]),
    )
    assert np.array_equal(candidates(draw.labelled, joined), candidates(draw.labelled, others))
    one = trained(draw, unlabelled=copies)
    assert one.head.training["pseudo_labels"] == {"photos": 0, "sure": 0, "helps": False}


def test_a_model_that_is_sure_of_none_of_them_says_so(drawn, monkeypatch):
    monkeypatch.setattr(pseudo_labels, "_MIN_SCORE", 1.1)
    record = trained(drawn[0]).head.training["pseudo_labels"]
    assert record["photos"] > 500 and not record["sure"] and not record["helps"]
    assert "sure of none of the" in pseudo_labels.describe(record)


def test_without_such_photos_nothing_changes(drawn, both, tmp_path: Path, caplog):
    caplog.set_level("INFO")
    one = trained(drawn[0], unlabelled=None)
    assert arrays(one.head, tmp_path / "a.npz") == arrays(both[0][0].head, tmp_path / "b.npz")
    assert "there is no photo without a label" in caplog.text


def test_the_gate_for_none_knows_labelled_photos_only(drawn):
    gates = [trained(drawn[1], on, none=True).head.gate for on in (False, True)]
    assert np.array_equal(gates[0].axes, gates[1].axes)
    assert gates[0].threshold == gates[1].threshold


def test_it_is_a_setting_of_one_recipe(drawn):
    with pytest.raises(UserError, match=r"training\.pseudo_labels is a setting of .* optimum"):
        train(drawn[0].labelled, "coral", 0, pseudo_labels=True)
