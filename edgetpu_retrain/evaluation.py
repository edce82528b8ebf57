"""Measure a classifier file on photos, and draw its confusion matrix."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

from edgetpu_retrain import files, scoring
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import Head
from edgetpu_retrain.manifest import Photo


@dataclass(frozen=True)
class Evaluation:
    """How a classifier file did on N photos.

    Attributes:
        model: path of the file.
        device: what it ran on.
        classes: names of the C classes.
        labels: [N] int, true classes.
        predictions: [N] int, classes of the highest score.
        head_predictions: [N] int, what the float head says of the same photos' embeddings.
        photos_per_second: how many photos the whole file classified, decoding included; None
            without photos.
    """

    model: str
    device: str
    classes: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    head_predictions: np.ndarray
    photos_per_second: float | None

    @property
    def confusion(self) -> np.ndarray:
        """[C, C] int: how many photos of the row's class were taken for the column's."""
        order = range(len(self.classes))
        if not len(self.labels):
            return np.zeros((len(order), len(order)), int)
        return metrics.confusion_matrix(self.labels, self.predictions, labels=order)

    @property
    def accuracy(self) -> float | None:
        """The fraction of photos classified correctly; None without photos."""
        return _mean(self.labels == self.predictions)

    def as_dict(self) -> dict[str, Any]:
        """Returns what evaluation.json holds."""
        confusion = self.confusion
        correct = np.diag(confusion)
        photos_per_class, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        return {
            "model": self.model,
            "device": self.device,
            "photos": len(self.labels),
            "accuracy": self.accuracy,
            "interval": wilson_interval(int(correct.sum()), len(self.labels)),
            "classes": {
                name: {
                    "photos": int(photos_per_class[i]),
                    "correct": int(correct[i]),
                    "predicted": int(predicted[i]),
                }
                for i, name in enumerate(self.classes)
            },
            "confusion_matrix": confusion.tolist(),
            "agreement_with_float_head": _mean(self.predictions == self.head_predictions),
            "photos_per_second": self.photos_per_second and round(self.photos_per_second, 1),
        }


def wilson_interval(correct: int, count: int) -> tuple[float, float] | None:
    """Returns the 95 % interval of a fraction (Wilson 1927); None without photos.

    >>> [round(bound, 3) for bound in wilson_interval(9, 10)]
    [0.596, 0.982]
    """
    if not count:
        return None
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def evaluate(
    model: str | Path,
    head: Head,
    manifest: Sequence[Photo],
    embeddings: Embeddings,
    device: str = "auto",
    resize: str = "bilinear",
) -> Evaluation:
    """Runs a classifier file on the test split: on embeddings, and on a few of the raw photos.

    Args:
        model: path of the .tflite file.
        head: the float head that the file was made with.
        manifest: of all photos.
        embeddings: those of all shards.
        device: as `devices.resolve_device` takes it.
        resize: as `preprocessing.to_pixels` takes it.

    Raises:
        UserError: the file gives other scores for a photo than its last layer for the embedding.
    """
    undecodable = embeddings.why_undecodable()
    # By identity, so that the sample of raw photos is of all classes.
    tested = sorted(
        (p for p in manifest if p.split == "test" and p.sha256 not in undecodable),
        key=lambda photo: photo.sha256,
    )
    vectors = embeddings.embeddings[embeddings.rows(photo.sha256 for photo in tested)]
    scores = scoring.score(model, vectors)
    photos_per_second = scoring.check_on_photos(model, tested, scores, device, resize)
    logits = head.logits(embeddings.quantization.dequantize(vectors))
    return Evaluation(
        model=str(model),
        device=device,
        classes=head.classes,
        labels=np.array([head.classes.index(photo.label) for photo in tested], int),
        predictions=scores.argmax(axis=1),
        head_predictions=logits.argmax(axis=1),
        photos_per_second=photos_per_second,
    )


def save(evaluation: Evaluation, path: str | Path) -> None:
    """Writes evaluation.json."""
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")


def plot_confusion_matrix(evaluation: Evaluation, path: str | Path) -> None:
    """Draws the confusion matrix: numbers of photos, coloured by the share of their class."""
    # Only this function draws; importing the library should not load matplotlib.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    confusion = evaluation.confusion
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    count = len(evaluation.classes)
    side = max(4.8, 0.55 * count + 2)
    figure, axes = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the class")
    # Names are text, not formulas, whatever dollar signs they hold.
    axes.set_xticks(range(count), evaluation.classes, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(count), evaluation.classes, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    for row, column in np.argwhere(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = str(confusion[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour)
    accuracy = evaluation.accuracy
    total = len(evaluation.labels)
    axes.set_title(
        "no photos in the test split"
        if accuracy is None
        else f"{accuracy:.1%} of {total} test photos correct"
    )
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
