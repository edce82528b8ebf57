"""What is asked for next, and what is said of the accuracy, on the real flower photos."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from benchmarks import labelling as benchmark
from edgetpu_retrain.labelling import choose, learner, progress
from edgetpu_retrain.training.discriminant import SHRINKAGES

EXTRACTOR = "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"


@pytest.fixture(scope="module")
def flowers(photos: Path, models: Path, tmp_path_factory) -> benchmark.Photos:
    return benchmark.load(photos, models / EXTRACTOR, tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="module")
def third(flowers: benchmark.Photos) -> np.ndarray:
    return np.random.default_rng(1).permutation(len(flowers.truth)) < len(flowers.truth) // 3


def test_the_layer_is_as_good_as_another_program_makes_it(flowers, third):
    learned, classes, _ = benchmark.learn(flowers, third)
    right = classes[learned.scores[~third].argmax(axis=1)] == flowers.truth[~third]
    vectors = flowers.embedded[slice(None)]
    vectors = vectors - vectors[third].mean(axis=0)
    vectors /= np.sqrt(np.mean(np.sum(vectors[third] ** 2, axis=1)))
    other = LogisticRegression(C=1 / (1e-3 * third.sum()), max_iter=2_000)
    other.fit(vectors[third], flowers.truth[third])
    assert abs(right.mean() - other.score(vectors[~third], flowers.truth[~third])) < 0.015
    assert np.allclose(learned.scores.sum(axis=1), 1, atol=1e-5)


def test_a_discriminant_of_another_program_says_the_same(flowers, third):
    learned, classes, _ = benchmark.learn(flowers, third)
    answers = classes[learned.scores[~third].argmax(axis=1)]
    agreed = []
    for shrinkage in SHRINKAGES:
        other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        other.fit(flowers.places[third], flowers.truth[third])
        agreed.append(np.mean(other.predict(flowers.places[~third]) == answers))
    # With the shrinkage that was chosen, whichever it is.
    assert max(agreed) >= 0.999


@pytest.mark.parametrize(
    ("counts", "is_told"), [((1, 1), False), ((3, 1), False), ((2, 2), True), ((2, 2, 1), True)]
)
def test_few_labels_are_learned_from_and_cross_validated_early(flowers, counts, is_told):
    chosen = [np.flatnonzero(flowers.truth == i)[:count] for i, count in enumerate(counts)]
    known = np.isin(np.arange(len(flowers.truth)), np.concatenate(chosen))
    learned, _, labels = benchmark.learn(flowers, known)
    assert np.isfinite(learned.scores).all()
    assert (learned.scores[known].argmax(axis=1) == labels[known]).all()
    reliability = learner.Reliability(learned.held_out, labels[known])
    found = progress.measure(learned, reliability, None, labels, ~known, 0.0)
    assert found.accuracy is None
    assert (found.correct is not None) == (found.interval is not None) == is_told
    if is_told:
        assert 0 <= found.interval[0] <= found.correct / sum(counts) <= found.interval[1] <= 1


def test_what_is_said_of_all_photos_is_near_the_truth_although_the_labelled_are_the_easy(
    flowers, third
):
    learned, _, labels = benchmark.learn(flowers, third)
    # As if a person had confirmed what a model was sure of, and hardly anything else.
    easy = np.flatnonzero(third)[learned.held_out.max(axis=1) > 0.8]
    hard = np.setdiff1d(np.flatnonzero(third), easy)[::3]
    known = np.isin(np.arange(len(third)), np.concatenate([easy, hard]))
    learned, classes, labels = benchmark.learn(flowers, known)
    right = classes[learned.scores[~known].argmax(axis=1)] == flowers.truth[~known]
    naive = np.mean(learned.held_out.argmax(axis=1) == labels[known])
    reliability = learner.Reliability(learned.held_out, labels[known])
    scores = learned.scores[~known]
    said, low, high = reliability.accuracy(scores)
    assert naive > right.mean() + 0.05
    assert abs(said - right.mean()) < 0.05
    assert low < right.mean() < high
    # Nor are as many certain as of the labelled ones.
    sure = scores.max(axis=1) >= reliability.threshold(scores)
    assert 0.1 < sure.mean() < 0.9
    assert right[sure].mean() > 0.92


def test_a_gain_is_that_of_photos_like_those_without_a_label():
    # Half of the labelled photos are easy, and half of the hard ones are right, at last.
    highest = np.repeat([0.95, 0.6], 20)
    labels = np.zeros(40, int)
    is_right = np.arange(40) < 30
    held_out = np.where(is_right, [highest, 1 - highest], [1 - highest, highest]).T
    reliability = learner.Reliability(held_out, labels)
    hard, easy = np.array([[0.6, 0.4]]), np.array([[0.95, 0.05]])
    assert reliability.gain(np.arange(40) < 20, hard) == pytest.approx(10 / 21, abs=0.03)
    assert reliability.gain(np.arange(40) < 20, easy) == 0
    assert reliability.gain(is_right, hard) == 0


def test_chosen_labels_do_what_more_random_ones_do(flowers, third):
    def curve(pick, first) -> dict[int, float]:
        found = {}
        for number, accuracy in benchmark.rounds(flowers, third, pick, first):
            found[number] = accuracy
            if number >= 300:
                break
        return found

    random = np.random.default_rng(0)
    drawn = random.permutation(np.flatnonzero(~third))[:50]
    chosen = curve(choose.teaching, benchmark.firsts(flowers, third, 50))
    by_chance = curve(benchmark.by_chance(random), drawn)
    assert chosen[200] >= by_chance[250]


def test_a_person_clicks_few_photos_one_by_one(flowers, third):
    """Until 90 % of the accuracy of all labels, at most a fifth of the photos."""
    tested = third
    heap = flowers.take(~tested)
    order = np.concatenate([np.flatnonzero(~tested), np.flatnonzero(tested)])
    both = flowers.take(order)

    def accuracy(known: np.ndarray) -> float:
        learned, classes, _ = benchmark.learn(
            both, np.concatenate([known, np.zeros(tested.sum(), bool)])
        )
        right = classes[learned.scores[len(known) :].argmax(axis=1)] == both.truth[len(known) :]
        return float(right.mean())

    full = accuracy(np.ones(len(heap.truth), bool))

    def is_enough(known: np.ndarray) -> bool:
        return len(np.unique(heap.truth[known])) == 5 and accuracy(known) >= 0.9 * full

    actions, clicked, _ = next(one for one in benchmark.work(heap) if is_enough(one[2]))
    assert clicked <= len(heap.truth) / 5
    assert actions <= len(heap.truth) / 3


def test_a_class_of_twelve_photos_is_met_early(flowers):
    for label in range(5):
        of_it = np.flatnonzero(flowers.truth == label)
        kept = np.ones(len(flowers.truth), bool)
        kept[of_it[12:]] = False
        heap = flowers.take(kept)
        rare = heap.truth == label
        known = next(known for _, _, known in benchmark.work(heap) if np.any(known & rare))
        assert known.sum() <= len(heap.truth) / 2


def test_every_photo_without_a_label_is_in_one_group(flowers, third):
    rows = np.flatnonzero(~third)
    learned, _, labels = benchmark.learn(flowers, third)
    places, scores = flowers.places, learned.scores[rows]
    threshold = learner.Reliability(learned.held_out, labels[third]).threshold(scores)
    for groups in (
        choose.begin(places[rows]),
        choose.go_on(scores, places[rows], places[third], threshold),
    ):
        shown = np.concatenate([group.cards for group in groups])
        assert sorted(shown.tolist()) == list(range(len(rows)))
        assert max(len(group.cards) for group in groups) <= choose.MOST_CARDS
    kinds = [group.kind for group in groups]
    assert kinds == sorted(kinds, key=["sure", "unsure", "unlike", "alike"].index)
    sure = [group for group in groups if group.kind == "sure"]
    assert sure
    for group in sure:
        assert scores[group.cards, group.label].min() >= threshold


def test_a_class_that_has_no_label_is_seen_as_missing(flowers, third):
    places, groups = flowers.places, flowers.groups
    daisy = flowers.truth == 0
    shares = [
        choose.share_unlike(places[rest], places[known], groups[known])
        for known, rest in ((third, ~third & ~daisy), (third & ~daisy, ~third & daisy))
    ]
    assert shares[0] < 0.2
    assert shares[1] > 2 * shares[0]
