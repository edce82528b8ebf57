"""Nested fine-tuning: each photo is judged by a network that has seen neither it nor a copy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation.evaluate import without_unjudged
from edgetpu_retrain.fine_tuning import fit, nested
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.training import recipes
from edgetpu_retrain.training.predictions import OutOfFold
from tests.shards import save_shards

CLASSES = ("daisy", "rose", "tulip")
SETTINGS: dict[str, Any] = {"recipe": "optimum", "seed": 0, "num_threads": 2}


def listed(path: Path, label: str) -> Photo:
    return Photo(str(path), label, "train", files.sha256(path))


def load(photos: Sequence[Photo], extractor: Path, folder: Path) -> LabelledEmbeddings:
    shard = dict(sorted((photo.sha256, photo.path) for photo in photos))
    return LabelledEmbeddings.load(save_shards(folder, embed(shard, extractor, "cpu")), photos)


@dataclass
class Run:
    """Photos, those that a network was tuned on, and what tuning it without folds was given.

    `given` is, by network, the identities that it was trained on; `copies` the original of each
    copy.
    """

    photos: list[Photo]
    tuned_on: list[str]
    labelled: LabelledEmbeddings
    copies: dict[str, str]
    path: Path
    given: dict[int, set[str]]
    epochs: int

    def judge(self, photos: Sequence[Photo], **settings: Any) -> OutOfFold:
        """Completes the cross-validation of the network as it was, which stands for a tuned one."""
        labelled = self.labelled
        result = recipes.train(labelled, seen=self.tuned_on, **SETTINGS | settings)
        judged = result.out_of_fold()
        classes = result.head.classes
        return nested.complete(judged, classes, self.path, photos, SETTINGS | settings)


@pytest.fixture(scope="module")
def run(sample_photos: Path, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("nested")
    photos = [
        listed(path, label)
        for label in CLASSES
        for path in sorted((sample_photos / label).iterdir())[:25]
    ]
    copies = {}
    for i, photo in enumerate(photos[::5]):
        path = folder / f"copy-{i}.jpg"
        with Image.open(photo.path) as picture:
            picture.convert("RGB").save(path, quality=60)
        copies[files.sha256(path)] = photo.sha256
        photos.append(listed(path, photo.label))
    labelled = load(photos, made / "extractor.tflite", folder)
    originals = sorted({photo.sha256 for photo in photos} - copies.keys())
    # None of the copies: those of the others have to be found by what they look like.
    tuned_on = originals[len(originals) // 5 :]
    given: dict[int, set[str]] = {}
    train = fit.fit
    epochs = []

    def record(network, activations, labels, held_out, *arguments):
        rows = labelled.rows[~held_out].tolist()
        given[len(given) + 1] = {labelled.identities[row] for row in rows}
        epochs.append(train(network, activations, labels, held_out, *arguments))
        return epochs[-1]

    path = folder / "nested.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "fit", record)
        patch.setattr(fit, "_MAX_EPOCHS", 4)
        nested.fine_tune_folds(
            made / "extractor.tflite", labelled, path, 3, tuned_on, num_threads=2
        )
    return Run(photos, tuned_on, labelled, copies, path, given, sum(map(len, epochs)))


def test_no_photo_is_judged_by_a_network_that_has_seen_it_or_a_copy(run: Run):
    judged = run.judge(run.photos)
    assert sorted(judged.identities) == sorted(photo.sha256 for photo in run.photos)
    assert not judged.unjudged
    assert set(run.given) == set(range(1, 1 + nested.NETWORKS))
    original = {photo.sha256: photo.sha256 for photo in run.photos} | run.copies
    seen = run.given | {0: set(run.tuned_on)}
    shown = {number: {original[sha256] for sha256 in given} for number, given in seen.items()}
    numbers = (judged.folds // 10).tolist()
    for sha256, number in zip(judged.identities, numbers, strict=True):
        assert original[sha256] not in shown[number]
    # As many by each, about.
    assert min(map(numbers.count, range(5))) > 10
    np.testing.assert_allclose(judged.scores.sum(axis=1), 1, atol=1e-5)


def test_random_labels_are_judged_at_chance(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The networks learn them by heart, which must not show in what is said of other photos."""
    originals = [photo for photo in run.photos if photo.sha256 not in run.copies]
    labels = np.random.default_rng(1).permutation([photo.label for photo in originals])
    photos = [replace(one, label=str(label)) for one, label in zip(originals, labels, strict=True)]
    labelled = load(photos, made / "extractor.tflite", tmp_path)
    tuned_on = sorted(photo.sha256 for photo in photos)[15:]
    monkeypatch.setattr(nested, "NETWORKS", 2)
    monkeypatch.setattr(fit, "_MAX_EPOCHS", 100)
    monkeypatch.setattr(fit, "_keep", lambda *arguments: None)
    path = tmp_path / "nested.npz"
    nested.fine_tune_folds(made / "extractor.tflite", labelled, path, 12, tuned_on, num_threads=2)
    label_of = {photo.sha256: photo.label for photo in photos}

    def are_correct(found: OutOfFold) -> dict[str, bool]:
        pairs = zip(found.identities, found.scores.argmax(axis=1).tolist(), strict=True)
        return {sha256: CLASSES[label] == label_of[sha256] for sha256, label in pairs}

    own = recipes.train(labelled, seen=tuned_on, **SETTINGS).out_of_fold()
    honest = are_correct(nested.complete(own, CLASSES, path, photos, SETTINGS))
    assert len(honest) == len(photos)
    for embeddings, seen in nested.read(path):
        # By layers that have not seen a photo either, but with a network that has.
        known = LabelledEmbeddings.join([embeddings], photos)
        dishonest = are_correct(recipes.train(known, **SETTINGS).out_of_fold())
        assert np.mean([dishonest[sha256] for sha256 in seen]) > 0.6
    # A third, and 2.4 standard deviations.
    assert np.mean(list(honest.values())) < 0.46


def test_an_interrupted_run_gives_the_same(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    keep, epochs = fit._keep, []

    def interrupt(*arguments):
        keep(*arguments)
        epochs.append(arguments)
        if len(epochs) in (2, 9):
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_MAX_EPOCHS", 4)
    monkeypatch.setattr(fit, "_keep", interrupt)
    path = tmp_path / "nested.npz"

    def tune(mirror: bool = True) -> None:
        nested.fine_tune_folds(
            made / "extractor.tflite", run.labelled, path, 3, run.tuned_on, mirror, num_threads=2
        )

    def stop(*arguments):
        raise KeyboardInterrupt

    # What was computed with another setting is not taken.
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "fit", stop)
        tune(mirror=False)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune()
        assert not path.exists()
    tune()
    assert path.read_bytes() == run.path.read_bytes()
    # No epoch was trained twice, and nothing is left over.
    assert len(epochs) == run.epochs
    assert sorted(file.name for file in tmp_path.iterdir()) == ["nested.npz"]


def test_photos_come_and_go(run: Run):
    before = run.judge(run.photos)
    judged_by = dict(zip(before.identities, (before.folds // 10).tolist(), strict=True))
    first = {sha256 for sha256, number in judged_by.items() if number == 1}
    # Those of one fold are gone.
    fewer = run.judge([photo for photo in run.photos if photo.sha256 not in first])
    assert set(fewer.identities) == set(before.identities) - first
    assert fewer.unjudged == first
    # So they are not evaluated, if they are back.
    left = without_unjudged(fewer, run.labelled)
    assert {run.labelled.identities[row] for row in left.rows.tolist()} == set(fewer.identities)
    # A new one takes no part, and one of another class now is judged by the same network.
    changed = next(i for i, photo in enumerate(run.photos) if judged_by[photo.sha256] == 2)
    photos = [*run.photos, Photo("new.jpg", "rose", "train", "f" * 64)]
    photos[changed] = replace(photos[changed], label="tulip")
    after = run.judge(photos)
    assert sorted(after.identities) == sorted(before.identities)
    assert dict(zip(after.identities, (after.folds // 10).tolist(), strict=True)) == judged_by


def test_a_class_that_the_networks_do_not_know_gets_no_score(run: Run):
    own = recipes.train(run.labelled, seen=run.tuned_on, **SETTINGS).out_of_fold()
    wider = replace(own, scores=np.insert(own.scores, 1, 0, axis=1))
    classes = ("daisy", "iris", "rose", "tulip")
    found = nested.complete(wider, classes, run.path, run.photos, SETTINGS)
    expected = run.judge(run.photos)
    assert found.identities == expected.identities
    np.testing.assert_array_equal(found.scores[:, [0, 2, 3]], expected.scores)
    assert not found.scores[:, 1].any()


def test_the_class_none_has_a_score_of_each_network(run: Run):
    judged = run.judge(run.photos, none=True)
    assert judged.scores.shape == (len(run.photos), 4)
    np.testing.assert_allclose(judged.scores.sum(axis=1), 1, atol=1e-5)
    by_others = judged.scores[judged.folds >= 10, 3]
    assert by_others.max() > 0
    assert np.median(by_others) < 0.1


def test_a_network_left_as_it_is_needs_no_others(run: Run, made: Path, tmp_path: Path):
    path = tmp_path / "nested.npz"
    nested.fine_tune_folds(made / "extractor.tflite", run.labelled, path, 0, [])
    own = recipes.train(run.labelled, **SETTINGS).out_of_fold()
    found = nested.complete(own, CLASSES, path, run.photos, SETTINGS)
    assert found.identities == own.identities
    np.testing.assert_array_equal(found.scores, own.scores)


def test_a_damaged_file_is_reported(run: Run, tmp_path: Path):
    path = tmp_path / "nested.npz"
    path.write_bytes(run.path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"nested\.npz"):
        list(nested.read(path))
