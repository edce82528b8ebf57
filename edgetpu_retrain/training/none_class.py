"""Learn to tell photos of no class, without photos of such things: the gate for the class `none`.

Photos of the known classes lie near a subspace of the embeddings, photos of other things farther
away. On 1,000 flower photos with MobileNet v1, a threshold that keeps 99 % of the flowers rejects
95 % of photos of tools and fish, 79 % of buildings and 67 % of animals. The cosine to the nearest
of up to 32 means per class rejects 83, 47 and 56 %, that to the five nearest photos 85, 54 and
58 %.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.labelled_embeddings import MAX_VALUES, LabelledEmbeddings
from edgetpu_retrain.head import NONE, Gate, energies, l2_normalize
from edgetpu_retrain.training.cross_validation import FOLDS

# More axes, or photos to compute them from, tell no more strangers.
_MAX_AXES = 32
_MAX_PHOTOS = 1_000
# With fewer, axes would follow single photos.
_PHOTOS_PER_AXIS = 10
# Share of the known photos that may become `none`, and the same in standard deviations of a normal
# distribution: with few photos, the lowest energies are too rare to see.
_LOST = 0.01
_LOST_DEVIATIONS = 2.33
# Increase of the score's logit per standard deviation of the known photos' energies.
_STEEPNESS = 8.0
# Classes are left out in at most this many groups.
_MAX_GROUPS = 10
_BLOCK = 1_024


@dataclass(frozen=True)
class NoneClass:
    """A gate, and what it does to photos that it was not made from.

    Attributes:
        gate: the gate.
        known: [N] float32, out-of-fold scores of being known; of no use for photos of no fold.
        left_out: by class, the number of its photos and how many of them a gate made without the
            class rejects: photos of new things of the same kind.
    """

    gate: Gate
    known: np.ndarray
    left_out: dict[str, dict[str, int]]


def learn(labelled: LabelledEmbeddings, folds: np.ndarray) -> NoneClass:
    """Makes a gate from all photos but those of a class `none`.

    The threshold is chosen out of fold, so that 1 % of the known photos fall below it.

    Args:
        labelled: N photos that are not held out for testing.
        folds: [N] int, their folds; near-copies share one. Photos whose fold is -1 say nothing
            about others, so they only take part in the subspace.
    """
    is_known = np.array([labelled.classes[label] != NONE for label in labelled.labels.tolist()])
    sample = _sample(labelled, is_known)
    with threads(1):
        vectors = l2_normalize(labelled[sample])
        out_of_fold = np.zeros(len(folds))
        for fold in range(FOLDS):
            axes = _axes(vectors[folds[sample] != fold])
            for rows in _in_blocks(np.flatnonzero(folds == fold)):
                out_of_fold[rows] = energies(labelled[rows], axes)
        known_energies = out_of_fold[is_known & (folds >= 0)]
        deviation = max(float(known_energies.std()), 1e-6)
        threshold = min(
            float(np.quantile(known_energies, _LOST)),
            float(known_energies.mean()) - _LOST_DEVIATIONS * deviation,
        )
        axes = _axes(vectors)
        coordinates = vectors @ axes
        gate = Gate(
            axes,
            threshold,
            _STEEPNESS / deviation,
            (float(coordinates.min()), float(coordinates.max())),
        )
        left_out = _leave_out(labelled, folds, sample, vectors, threshold)
    return NoneClass(gate, gate.scores(out_of_fold), left_out)


def _sample(labelled: LabelledEmbeddings, is_known: np.ndarray) -> np.ndarray:
    """Returns rows of known photos, as many of each class as far as there are."""
    labels = labelled.labels
    most = min(_MAX_PHOTOS, MAX_VALUES // labelled.vectors.shape[1])
    per_class = max(most // len(np.unique(labels[is_known])), 1)
    chosen = [
        np.flatnonzero((labels == label) & is_known)[:per_class] for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def _axes(vectors: np.ndarray) -> np.ndarray:
    """Returns orthonormal axes [D, K] of the subspace that holds most of vectors [n, D]."""
    # Imported here because only the workflow depends on it.
    import scipy.linalg

    count = max(min(_MAX_AXES, len(vectors) // _PHOTOS_PER_AXIS), 1)
    is_wide = len(vectors) < vectors.shape[1]
    products = vectors @ vectors.T if is_wide else vectors.T @ vectors
    last = len(products)
    values, axes = scipy.linalg.eigh(products, subset_by_index=(max(last - count, 0), last - 1))
    if is_wide:
        axes = vectors.T @ (axes / np.sqrt(np.maximum(values, np.finfo(np.float32).tiny)))
    # An axis of a smaller variance is a rounding error.
    return np.ascontiguousarray(axes[:, values > 1e-5 * values[-1]], np.float32)


def _leave_out(
    labelled: LabelledEmbeddings,
    folds: np.ndarray,
    sample: np.ndarray,
    vectors: np.ndarray,
    threshold: float,
) -> dict[str, dict[str, int]]:
    """Returns `NoneClass.left_out`; empty with only one known class."""
    names = [i for i, name in enumerate(labelled.classes) if name != NONE]
    if len(names) < 2:
        return {}
    left_out = {}
    for group in np.array_split(names, min(len(names), _MAX_GROUPS)):
        axes = _axes(vectors[~np.isin(labelled.labels[sample], group)])
        for label in group.tolist():
            rows = np.flatnonzero((labelled.labels == label) & (folds >= 0))
            rejected = sum(
                int(np.sum(energies(labelled[part], axes) < threshold)) for part in _in_blocks(rows)
            )
            left_out[labelled.classes[label]] = {"photos": len(rows), "none": rejected}
    return left_out


def _in_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[block] for block in blocks(len(rows), _BLOCK))
