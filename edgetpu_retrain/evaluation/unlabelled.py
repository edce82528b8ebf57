"""What a model says of the photos without a label, and which of them are worth one."""

from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings import look_alikes
from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.head import Head

MOST_TEACHING = 50
_SUREST = 5
# Photos that a choice of look-alikes is made from, as a multiple of the choice.
_POOL = 8
_MOST_GROUPS, _FEWEST_OF_GROUP = 8, 3
# Photos like none of the classes that groups are made of: the least like them.
_MOST_UNLIKE = 10_000
# Labelled photos that the others are compared with.
_MOST_COMPARED = 2_048
_BLOCK = 2_048


@dataclass(frozen=True)
class Unlabelled:
    """What a model says of N photos without a label.

    Attributes:
        paths: [N] object (str).
        identities: [N] object (str), SHA-256 in hexadecimal.
        classes: names of the C classes.
        predicted: [N] int, the class with the highest score.
        second: [N] int, the class with the second highest score.
        scores: [N] float32, the highest score.
        threshold: the score from which 95 % of predictions are right; None if there is none.
        teaching: [M] int, rows of up to 50 photos whose labels would teach the model the most: a
            small difference between the two highest scores, and unlike each other.
        surest: for every class, rows of photos with the highest scores, unlike each other.
        num_unlike: how many photos are less like any labelled one than those are like another.
        unlike: rows of such photos in groups of look-alikes, large and tight groups first.
    """

    paths: np.ndarray
    identities: np.ndarray
    classes: tuple[str, ...]
    predicted: np.ndarray
    second: np.ndarray
    scores: np.ndarray
    threshold: float | None
    teaching: np.ndarray
    surest: list[np.ndarray]
    num_unlike: int
    unlike: list[np.ndarray]


def describe(
    photos: LabelledEmbeddings,
    labelled: np.ndarray,
    groups: np.ndarray,
    head: Head,
    threshold: float | None,
) -> Unlabelled:
    """Classifies photos without a label, and chooses those that a person should see.

    For every photo, a few numbers and 128 principal components are in memory at once.

    Args:
        photos: N photos; their classes are not looked at.
        labelled: [M, D] uint8 or int8, quantized embeddings of the labelled photos.
        groups: [M] int; labelled photos that are near-copies share a number.
        head: trained on the labelled photos.
        threshold: the score from which 95 % of predictions are right; None if there is none.
    """
    vectors = photos.vectors[photos.rows]
    places = look_alikes.directions(np.concatenate([labelled, vectors]))
    known, places = places[: len(labelled)], places[len(labelled) :]
    predicted, second = np.empty((2, len(vectors)), int)
    highest, margins = np.empty((2, len(vectors)), np.float32)
    for block in blocks(len(vectors), _BLOCK):
        scores = head.scores(photos.quantization.dequantize(vectors[block]))
        rows = np.arange(len(scores))
        second[block], predicted[block] = np.argsort(scores, axis=1)[:, -2:].T
        highest[block] = scores[rows, predicted[block]]
        margins[block] = highest[block] - scores[rows, second[block]]
    near = look_alikes.likeness(places, look_alikes.sample(known, _MOST_COMPARED))
    least = look_alikes.least_likeness(
        *(look_alikes.sample(rows, _MOST_COMPARED) for rows in (known, groups))
    )
    unlike = np.argsort(near, kind="stable")[: int(np.sum(near < least))]
    return Unlabelled(
        photos.paths,
        np.array(photos.identities, object)[photos.rows],
        head.classes,
        predicted,
        second,
        highest,
        threshold,
        _first(np.argsort(margins, kind="stable"), places, MOST_TEACHING),
        [
            _first(_highest(np.flatnonzero(predicted == label), highest), places, _SUREST)
            for label in range(len(head.classes))
        ],
        len(unlike),
        _groups(unlike[:_MOST_UNLIKE], places),
    )


def _highest(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.asarray(rows[np.argsort(-scores[rows], kind="stable")])


def _first(rows: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Returns the first of the rows, but not several that look alike."""
    pool = rows[: _POOL * count]
    return np.asarray(pool[look_alikes.spread(places[pool], count)])


def _groups(rows: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    found = [
        (tightness * len(group) ** 0.5, rows[group])
        for tightness, group in look_alikes.clusters(
            places[rows], max(round((len(rows) / 2) ** 0.5), 1)
        )
        if len(group) >= _FEWEST_OF_GROUP
    ]
    return [group for _, group in sorted(found, key=lambda one: -one[0])][:_MOST_GROUPS]
