"""Add classes to a trained head from the means of their embeddings; the others stay as they are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgetpu_retrain.head import Head, l2_normalize


def add_classes(
    head: Head, means: np.ndarray, embeddings: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> tuple[Head, np.ndarray]:
    """Adds classes to a head.

    The weights of a class are its mean direction, as in weight imprinting (`training.imprinting`),
    with the median norm of the other classes' weights. If the head does not normalize embeddings,
    directions count from the mean of the other classes, because all embeddings have a large part in
    common; and the bias makes the class win at its own mean by as much as it loses at the mean of
    the class that is most like it.

    Args:
        head: the head, as `last_layer.read_head` returns it.
        means: [C, D] float32, the mean of each of its classes (`ClassMeans`).
        embeddings: [N, D] float32, dequantized embeddings of the new classes.
        labels: [N] int, their classes, indices in `names`.
        names: names of the new classes.

    Returns:
        The head, and the means of all its classes. Quantized as before, the weights of the other
        classes are the same.
    """
    values = l2_normalize(embeddings) if head.normalized else embeddings
    # A wider range would change how the other classes' weights are quantized.
    low, high = float(head.weights.min()), float(head.weights.max())
    for i, name in enumerate(names):
        mean = values[labels == i].mean(axis=0)
        if head.normalized:
            norm = np.median(np.linalg.norm(head.weights, axis=0))
            weights = (norm * l2_normalize(mean[np.newaxis])[0]).clip(low, high)
            bias = float(np.median(head.biases))
        else:
            weights = _direction(head, means, mean).clip(low, high)
            bias = _bias(head, means, mean, weights)
        head = replace(
            head,
            weights=np.column_stack([head.weights, weights]).astype(np.float32),
            biases=np.append(head.biases, bias).astype(np.float32),
            classes=(*head.classes, name),
        )
        means = np.append(means, mean[np.newaxis], axis=0).astype(np.float32)
    return head, means


def _direction(head: Head, means: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns the weights [D] of a class with the mean embedding `mean`, [D]."""
    common = head.weights.mean(axis=1)
    norm = np.median(np.linalg.norm(head.weights - common[:, np.newaxis], axis=0))
    return np.asarray(common + norm * l2_normalize((mean - means.mean(axis=0))[np.newaxis])[0])


def _bias(head: Head, means: np.ndarray, mean: np.ndarray, weights: np.ndarray) -> float:
    """Returns the bias of a class, halfway between its own mean and the mean most like it."""
    loses_by = head.logits(mean).max() - mean @ weights
    wins_by = (means @ weights - np.diag(head.logits(means))).max()
    return float((loses_by - wins_by) / 2)
