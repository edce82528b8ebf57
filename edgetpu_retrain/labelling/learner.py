"""Train the layer again and again while labels come in, and say how good it is by now."""

from dataclasses import dataclass, replace

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings, TrainingData
from edgetpu_retrain.evaluation import figures
from edgetpu_retrain.training import folds
from edgetpu_retrain.training.cross_validation import fit_temperature
from edgetpu_retrain.training.optimum import Plan, descend, softmax

# One strength of regularization, as there is no time to try several at every click. Training
# afterwards chooses its own. Compared in `benchmarks/labelling.py`.
_STRENGTH = 1e-3
_FOLDS = 5
_NONE = (-1, -1)
_HALF = 0.5
_PRECISION = 0.95
_BLOCK = 2_048
# Bins of the highest score, with as many labelled photos in each.
_BINS = 10
_MIN_PER_BIN = 10
_MIN_FOR_FIGURES = 20


@dataclass(frozen=True)
class Learned:
    """A layer that knows all labels there are.

    Attributes:
        scores: [N, C] float32, calibrated, of every photo.
        held_out: [M, C] float32, of the labelled photos, from layers that had not seen them.
        threshold: the score from which 95 % of the photos are right; None if there is none, or
            too few photos to say.
        half: how many of the labelled photos were right for layers trained on half as many; None
            where a class has too few photos for that.
    """

    scores: np.ndarray
    held_out: np.ndarray
    threshold: float | None
    half: int | None


def learn(
    photos: LabelledEmbeddings, labels: np.ndarray, groups: np.ndarray, num_classes: int
) -> Learned:
    """Trains a layer on the photos that have a label, and layers without a fifth of them each.

    Args:
        photos: N of them, a line each; their classes are not looked at.
        labels: [N] int, the class of every photo; -1 without one. Every class has a photo.
        groups: [N] int; near-copies share a number.
        num_classes: C, at least two.
    """
    chosen = labels >= 0
    names = tuple(map(str, range(num_classes)))
    labelled = replace(photos.take(chosen), labels=labels[chosen], classes=names)
    of_labelled = np.unique(groups[chosen], return_inverse=True)[1]
    divided = folds.assign_folds(labelled.labels, of_labelled, _FOLDS)
    data = TrainingData.of(labelled, divided)
    held_out = [(fold, fold + 1) for fold in range(_FOLDS)]
    layers = [(fold, 1.0, _STRENGTH, False) for fold in (_NONE, *held_out)]
    layers += [(fold, _HALF, _STRENGTH, False) for fold in held_out]
    with threads(1) as run:
        found = descend(data, Plan.of(layers), run)
    scores = np.empty((len(photos), num_classes), np.float32)
    everything = replace(data, rows=photos.rows, labels=labels)
    out_of_fold = np.empty((len(divided), num_classes), np.float32)
    right = np.empty(len(divided), bool)
    for block in blocks(len(photos), _BLOCK):
        values = everything.embeddings(block)
        scores[block] = values @ found.weights[:, 0] + found.biases[0]
    for block in data.blocks():
        logits = found.logits(data.embeddings(block))
        rows = np.arange(len(logits))
        out_of_fold[block] = logits[rows, 1 + divided[block]]
        by_half = logits[rows, 1 + _FOLDS + divided[block]].argmax(axis=1)
        right[block] = by_half == data.labels[block]
    temperature = np.float32(fit_temperature(out_of_fold, data.labels))
    for logits in (scores, out_of_fold):
        logits /= temperature
        softmax(logits)
    threshold = None
    if len(divided) >= _MIN_FOR_FIGURES:
        (entry,) = (
            one
            for one in figures.thresholds(data.labels, out_of_fold)
            if one["precision"] == _PRECISION
        )
        threshold = entry["score"]
    smallest = np.bincount(data.labels, minlength=num_classes).min()
    return Learned(scores, out_of_fold, threshold, int(right.sum()) if smallest >= _FOLDS else None)


def accuracy_of_all(
    held_out: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[float, float, float] | None:
    """Estimates the accuracy on all photos from that on the labelled ones.

    The labelled photos are not a random sample: those that a model was sure of were confirmed in
    bulk, and the hardest were asked for. So the share of right answers is taken at each level of
    the highest score, and weighted by how many of all photos have such a score
    (post-stratification; Cochran, Sampling Techniques, section 5A.9).

    Args:
        held_out: [M, C], scores of the labelled photos from layers that had not seen them.
        labels: [M] int, their classes.
        scores: [N, C], scores of all photos.

    Returns:
        The accuracy and the ends of its 95 % interval; None for fewer than 20 labels.
    """
    count = len(labels)
    if count < _MIN_FOR_FIGURES:
        return None
    highest, right = held_out.max(axis=1), held_out.argmax(axis=1) == labels
    bins = max(1, min(_BINS, count // _MIN_PER_BIN))
    edges = np.quantile(highest, np.arange(1, bins) / bins)
    of_labelled = np.searchsorted(edges, highest, side="right")
    of_all = np.searchsorted(edges, scores.max(axis=1), side="right")
    photos = np.bincount(of_labelled, minlength=bins)
    weights = np.bincount(of_all, minlength=bins) / len(scores)
    # Half a right and half a wrong answer more (Jeffreys) keep small bins from being certain.
    share = (np.bincount(of_labelled, right, minlength=bins) + 0.5) / (photos + 1)
    accuracy = float(weights @ share)
    error = 1.96 * float(np.sum(weights**2 * share * (1 - share) / (photos + 1))) ** 0.5
    return accuracy, max(accuracy - error, 0.0), min(accuracy + error, 1.0)
