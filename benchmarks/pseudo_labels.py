"""What learning from photos without a label is worth, on photos that no training has seen.

    python -m benchmarks.pseudo_labels --photos flower_photos --extractor extractor.tflite

In every draw, a part of the photos is for testing, a few per class are labelled, and the labels of
the others are hidden. Near-copies of others are not tested on.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.labelling import Photos, load
from edgetpu_retrain.embeddings.labelled_embeddings import TRAIN, LabelledEmbeddings
from edgetpu_retrain.training.cross_validation import losses
from edgetpu_retrain.training.recipes import TrainingResult, train

TESTED = 0.3


@dataclass
class Draw:
    """A draw of labelled, unlabelled and tested photos."""

    labelled: LabelledEmbeddings
    unlabelled: LabelledEmbeddings
    tested: LabelledEmbeddings


def draw(photos: Photos, per_class: int, seed: int, may_copy: bool = False) -> Draw:
    """Draws photos; tested ones may be near-copies of others only if `may_copy`."""
    order = np.random.default_rng(seed).permutation(len(photos.truth))
    tested, others = np.split(order, [round(TESTED * len(order))])
    ranks = [np.flatnonzero(photos.truth[others] == label) for label in np.unique(photos.truth)]
    labelled = others[np.concatenate([rows[:per_class] for rows in ranks])]
    if not may_copy:
        tested = tested[~np.isin(photos.groups[tested], photos.groups[others])]
    unlabelled = np.setdiff1d(others, labelled)
    return Draw(*(part(photos.embedded, rows) for rows in (labelled, unlabelled, tested)))


def part(embedded: LabelledEmbeddings, chosen: np.ndarray) -> LabelledEmbeddings:
    """Returns the chosen lines and only their embeddings, all in the training split."""
    chosen = np.sort(chosen)
    rows, inverse = np.unique(embedded.rows[chosen], return_inverse=True)
    return replace(
        embedded.select(chosen),
        vectors=embedded.vectors[rows],
        hashes=embedded.hashes[rows],
        identities=[embedded.identities[row] for row in rows],
        rows=inverse,
        splits=np.full(len(chosen), TRAIN, np.int8),
    )


def results(trained: TrainingResult, tested: LabelledEmbeddings) -> list[float]:
    """Returns accuracy and loss on the tested photos, and in cross-validation."""
    logits = trained.head.logits(tested[slice(None)])
    predictions = trained.predictions
    given = predictions.scores[np.arange(len(predictions.labels)), predictions.labels]
    return [
        float(np.mean(logits.argmax(axis=1) == tested.labels)),
        float(losses(logits.astype(np.float64), tested.labels).mean()),
        float(np.mean(predictions.predicted == predictions.labels)),
        float(-np.log(np.maximum(given, 1e-30)).mean()),
    ]


def compare(photos: Photos, per_class: int, draws: int, may_copy: bool) -> Iterator[str]:
    without, tried, chosen = [], [], 0
    for seed in range(draws):
        drawn = draw(photos, per_class, seed, may_copy)
        for pseudo_labels, found in ((False, without), (True, tried)):
            trained = train(
                drawn.labelled, "optimum", 0, 2,
                unlabelled=drawn.unlabelled, pseudo_labels=pseudo_labels,
            )  # fmt: skip
            found.append(results(trained, drawn.tested))
        record = trained.head.training["pseudo_labels"]
        chosen += record["helps"]
        yield f"  {seed}: {without[-1]} {tried[-1]} {record}"
    gain = np.subtract(tried, without)[:, 0]
    error = gain.std(ddof=1) / len(gain) ** 0.5
    for name, found in (("without", without), ("with", tried)):
        accuracy, loss, validated, validated_loss = np.mean(found, axis=0)
        yield (
            f"{per_class} per class, {name}: {accuracy:.1%}, loss {loss:.3f}; in cross-validation "
            f"{validated:.1%}, loss {validated_loss:.3f}"
        )
    yield f"gain {100 * gain.mean():.2f} points ± {100 * error:.2f}; chosen in {chosen} of {draws}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="one folder per class")
    parser.add_argument("--extractor", type=Path, required=True)
    parser.add_argument("--labelled", type=int, nargs="+", default=[20, 60], help="per class")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--may-copy", action="store_true", help="test on near-copies, too")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        photos = load(given.photos, given.extractor, Path(scratch))
    for per_class in given.labelled:
        for line in compare(photos, per_class, given.draws, given.may_copy):
            print(line, flush=True)


if __name__ == "__main__":
    main()
