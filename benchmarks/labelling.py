"""How many labels, and how many actions, a model needs: chosen labels against random ones.

    python benchmarks/labelling.py --photos flower_photos --extractor extractor.tflite

Part `choice`: labels are asked for in rounds of 25; accuracy on a third of the photos, which are
never asked for. Part `person`: a scripted person who knows the truth works through the groups of
the labelling page. An action is a key for a group, or a click on a photo. Part `rare`: one class
has only 12 photos; when does the person meet the first of them?
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgetpu_retrain.embeddings import look_alikes
from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.index import scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.labelling import choose, learner
from edgetpu_retrain.training import near_copies

# About as many as the page asks for at a time.
ROUND = 25
SHARES = (0.94, 0.96, 0.98, 0.99)
# Where a group has less of its commonest class, a person picks photos one by one.
MOSTLY = 0.5


@dataclass
class Photos:
    """Embedded photos whose classes are known to the person alone."""

    embedded: LabelledEmbeddings
    truth: np.ndarray
    groups: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, embedded: LabelledEmbeddings) -> "Photos":
        groups = near_copies.groups(embedded.vectors, embedded.hashes)
        places = look_alikes.directions(embedded.vectors[embedded.rows])
        return cls(embedded, embedded.labels, groups[embedded.rows], places)

    def take(self, chosen: np.ndarray) -> "Photos":
        places = self.places[chosen]
        return Photos(self.embedded.select(chosen), self.truth[chosen], self.groups[chosen], places)


def learn(photos: Photos, known: np.ndarray) -> tuple[learner.Learned, np.ndarray, np.ndarray]:
    """Trains on the known labels; returns the layer, the classes there are, and their labels."""
    classes = np.unique(photos.truth[known])
    labels = np.full(len(photos.truth), -1)
    labels[known] = np.searchsorted(classes, photos.truth[known])
    return learner.learn(photos.places, labels, photos.groups, len(classes)), classes, labels


def entropy(scores: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(np.sum(scores * np.log(scores + 1e-9), axis=1))[:count]


def margin(scores: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(choose.margins_of(scores))[:count]


def by_chance(random: np.random.Generator) -> Callable[..., np.ndarray]:
    return lambda scores, places, count: random.permutation(len(scores))[:count]


def rounds(
    photos: Photos, tested: np.ndarray, pick: Callable[..., np.ndarray], first: np.ndarray
) -> Iterator[tuple[int, float]]:
    """Yields the number of labels and the accuracy on the tested photos, round by round."""
    known = np.zeros(len(tested), bool)
    known[first] = True
    pool = ~tested
    while True:
        learned, classes, _ = learn(photos, known)
        right = classes[learned.scores[tested].argmax(axis=1)] == photos.truth[tested]
        yield int(known.sum()), float(right.mean())
        rows = np.flatnonzero(pool & ~known)
        if not len(rows):
            return
        known[rows[pick(learned.scores[rows], photos.places[rows], ROUND)]] = True


def firsts(photos: Photos, tested: np.ndarray, count: int) -> np.ndarray:
    """Returns the photos nearest to the middles of so many groups of look-alikes."""
    rows = np.flatnonzero(~tested)
    numbers = look_alikes.look_alikes(photos.places[rows], count)
    found = []
    for number in np.unique(numbers):
        members = rows[numbers == number]
        centre = photos.places[members].mean(axis=0)
        found.append(members[np.argmax(photos.places[members] @ centre)])
    return np.array(found)


def compare_choices(photos: Photos, repeats: int) -> None:
    curves: dict[str, list[list[float]]] = {}
    for seed in range(repeats):
        random = np.random.default_rng(seed)
        tested = np.zeros(len(photos.truth), bool)
        tested[random.permutation(len(tested))[: len(tested) // 3]] = True
        drawn = random.permutation(np.flatnonzero(~tested))[:ROUND]
        middles = firsts(photos, tested, ROUND)
        for name, pick, first in (
            ("random", by_chance(random), drawn),
            ("entropy", entropy, middles),
            ("smallest margin", margin, middles),
            ("margin, spread", choose.teaching, middles),
        ):
            points = list(rounds(photos, tested, pick, first))
            curves.setdefault(name, []).append([accuracy for _, accuracy in points])
            labels = [number for number, _ in points]
    means = {name: np.mean(runs, axis=0) for name, runs in curves.items()}
    full = float(means["random"][-1])
    shown = [i for i, number in enumerate(labels) if number % 100 == 0][:6]
    print("accuracy with labels".ljust(20), *(f"{labels[i]:>6}" for i in shown), f"{labels[-1]:>6}")
    for name, mean in means.items():
        print(name.ljust(20), *(f"{mean[i]:6.3f}" for i in shown), f"{mean[-1]:6.3f}")
    print("labels to a share of".ljust(20), *(f"{share:>6.0%}" for share in SHARES))
    for name, mean in means.items():
        needed = (labels[int(np.argmax(mean >= share * full))] for share in SHARES)
        print(name.ljust(20), *(f"{number:6}" for number in needed))


def show(photos: Photos, known: np.ndarray) -> list[choose.Group]:
    """Returns what the page would show: groups of rows."""
    rows = np.flatnonzero(~known)
    if len(np.unique(photos.truth[known])) < 2:
        groups = choose.begin(photos.places[rows])
    else:
        learned, classes, labels = learn(photos, known)
        scores = learned.scores[rows]
        reliability = learner.Reliability(learned.held_out, labels[known])
        groups = choose.go_on(
            scores, photos.places[rows], photos.places[known], reliability.threshold(scores)
        )
        groups = [replace(one, label=int(classes[one.label])) for one in groups]
    return [replace(one, cards=rows[one.cards]) for one in groups]


def work(photos: Photos, after_each: int = 8) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields actions, photos clicked one by one, and what is known, whenever groups are new."""
    known = np.zeros(len(photos.truth), bool)
    actions = clicked = 0
    while not known.all():
        yield actions, clicked, known
        for group in show(photos, known)[:after_each]:
            found, counts = np.unique(photos.truth[group.cards], return_counts=True)
            most = counts.argmax()
            if counts[most] == len(group.cards):
                actions += 1
                known[group.cards] = True
            elif counts[most] > MOSTLY * len(group.cards):
                # The others are clicked out of the group, and then they have to be told, too.
                others = group.cards[photos.truth[group.cards] != found[most]]
                actions += 1 + len(others) + len(counts) - 1
                clicked += len(others)
                known[group.cards] = True
            else:
                actions += len(group.cards) + len(counts)
                clicked += len(group.cards)
                known[group.cards] = True
    yield actions, clicked, known


def follow_a_person(photos: Photos, repeats: int) -> None:
    print("to a share of the accuracy with all labels: actions, of these photos clicked one by")
    print("one, photos labelled; and how many of them one by one in random order would do it")
    found: dict[float, list[tuple[int, ...]]] = {0.9: [], 0.97: []}
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(photos.truth))
        # The last fifth is tested on.
        count = len(order) * 4 // 5
        both, heap = photos.take(order), photos.take(order[:count])

        def accuracy(known: np.ndarray, count: int = count, both: Photos = both) -> float:
            padded = np.concatenate([known, np.zeros(len(both.truth) - count, bool)])
            if len(np.unique(both.truth[padded])) < 2:
                return 0.0
            learned, classes, _ = learn(both, padded)
            right = classes[learned.scores.argmax(axis=1)] == both.truth
            return float(right[count:].mean())

        full = accuracy(np.ones(count, bool))
        by_groups = [(a, c, int(known.sum()), accuracy(known)) for a, c, known in work(heap)]
        by_chance = [(n, accuracy(np.arange(count) < n)) for n in range(10, count + 1, 5)]
        for share, runs in found.items():
            *numbers, _ = next(one for one in by_groups if one[3] >= share * full)
            number, _ = next(one for one in by_chance if one[1] >= share * full)
            runs.append((*numbers, number))
    for share, runs in found.items():
        mean = np.mean(runs, axis=0)
        print(f"{share:.0%}", *(f"{number:6.0f}" for number in mean), f"  of {count} photos")


def look_for_the_rare(photos: Photos, photos_of_it: int = 12) -> None:
    for label, name in enumerate(photos.embedded.classes):
        of_it = np.flatnonzero(photos.truth == label)
        kept = np.ones(len(photos.truth), bool)
        kept[of_it[photos_of_it:]] = False
        heap = photos.take(kept)
        rare = heap.truth == label
        actions, _, known = next(one for one in work(heap) if np.any(one[2] & rare))
        print(f"{name}: met after {known.sum()} of {len(heap.truth)} photos and {actions} actions")


def load(folder: Path, extractor: Path, scratch: Path) -> Photos:
    index = scan.scan(folder, IdentityCache(scratch / "identities.npz"), 0.0, 0.0)
    shard = embed(index.shards(1)[0], extractor, device="cpu", num_threads=2)
    shard.save(scratch / "embeddings.npz")
    return Photos.of(LabelledEmbeddings.load([scratch / "embeddings.npz"], index.photos))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="one folder per class")
    parser.add_argument("--extractor", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["choice", "person", "rare"])
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        photos = load(given.photos, given.extractor, Path(scratch))
    if "choice" in given.parts:
        compare_choices(photos, given.repeats)
    if "person" in given.parts:
        follow_a_person(photos, given.repeats)
    if "rare" in given.parts:
        look_for_the_rare(photos)


if __name__ == "__main__":
    main()
