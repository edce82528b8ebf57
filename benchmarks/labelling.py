"""How many labels, and how many actions, a model needs: chosen labels against random ones.

    python benchmarks/labelling.py --photos flower_photos --extractor extractor.tflite

Part `choice`: labels are asked for in rounds of 50; accuracy on a third of the photos, which are
never asked for. Part `person`: a scripted person who knows the truth works through the groups of
the labelling page, until all photos have a label. An action is a key for a group, or a click on a
photo. Part `rare`: one class has only 12 photos; when does the person meet the first of them?
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

ROUND = 50
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
    shown = [i for i, number in enumerate(labels) if number % 100 < ROUND][:8]
    print("labels".ljust(18), *(f"{labels[i]:>6}" for i in shown), f"{labels[-1]:>6}")
    for name, runs in curves.items():
        mean = np.mean(runs, axis=0)
        print(name.ljust(18), *(f"{mean[i]:6.3f}" for i in shown), f"{mean[-1]:6.3f}")


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


def follow_a_person(photos: Photos) -> None:
    random = np.random.default_rng(0)
    tested = np.zeros(len(photos.truth), bool)
    tested[random.permutation(len(tested))[: len(tested) // 5]] = True
    heap = photos.take(~tested)
    everything = np.concatenate([np.flatnonzero(~tested), np.flatnonzero(tested)])
    both = photos.take(everything)

    def accuracy(known: np.ndarray) -> tuple[float, tuple[float, float, float] | None]:
        all_known = np.concatenate([known, np.zeros(int(tested.sum()), bool)])
        learned, classes, labels = learn(both, all_known)
        right = classes[learned.scores.argmax(axis=1)] == both.truth
        rest = np.concatenate([learned.held_out, learned.scores[~all_known]])
        said = learner.Reliability(learned.held_out, labels[all_known]).accuracy(rest)
        return float(right[len(known) :].mean()), said

    full, _ = accuracy(np.ones(len(heap.truth), bool))
    print(f"{len(heap.truth)} photos; accuracy with all labels {full:.3f}")
    print("actions  one by one  labelled  accuracy  said")
    for actions, clicked, known in work(heap):
        if len(np.unique(heap.truth[known])) < 2:
            continue
        now, said = accuracy(known)
        text = f"{said[0]:.3f} ({said[1]:.3f} to {said[2]:.3f})" if said else ""
        done = "  90 % of that" if now >= 0.9 * full else ""
        print(f"{actions:7} {clicked:11} {known.sum():9} {now:9.3f}  {text}{done}")


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
        follow_a_person(photos)
    if "rare" in given.parts:
        look_for_the_rare(photos)


if __name__ == "__main__":
    main()
