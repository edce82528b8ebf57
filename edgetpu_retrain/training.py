"""Join embeddings with the manifest's classes and splits, and train the head on them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.manifest import Photo
from edgetpu_retrain.softmax_regression import SoftmaxRegression


@dataclass(frozen=True)
class LabelledEmbeddings:
    """The embeddings of N listed photos, sorted by identity and class.

    Attributes:
        embeddings: vectors by identity.
        rows: [N] int, which vector is the photo's.
        classes: names of the C classes, sorted.
        labels: [N] int, positions among the classes.
        splits: [N] str, each train, validation or test.
    """

    embeddings: Embeddings
    rows: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray

    @classmethod
    def join(cls, embeddings: Embeddings, manifest: Iterable[Photo]) -> "LabelledEmbeddings":
        """Looks up the listed photos that could be decoded; copies are listed more than once.

        Raises:
            UserError: a photo is not embedded.
        """
        undecodable = set(embeddings.undecodable.astype(str).tolist())
        photos = sorted(
            (photo.sha256, photo.label, photo.split)
            for photo in manifest
            if photo.sha256 not in undecodable
        )
        classes = tuple(sorted({label for _, label, _ in photos}))
        ids = {name: i for i, name in enumerate(classes)}
        return cls(
            embeddings,
            embeddings.rows(sha256 for sha256, _, _ in photos),
            classes,
            np.array([ids[label] for _, label, _ in photos], int),
            np.array([split for _, _, split in photos], np.str_),
        )

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings of a split as float32 [M, D], and their labels [M] int."""
        chosen = self.splits == name
        vectors = self.embeddings.embeddings[self.rows[chosen]]
        return self.embeddings.quantization.dequantize(vectors), self.labels[chosen]


def train(
    labelled: LabelledEmbeddings,
    num_iter: int,
    batch_size: int,
    learning_rate: float,
    weight_scale: float,
    reg: float,
    seed: int,
) -> Head:
    """Trains softmax regression by SGD on the training split, as Coral's guide does.

    Equal embeddings and arguments give equal bits, whatever the number of cores.

    Args:
        labelled: of all splits.
        num_iter: how many batches.
        batch_size: how many embeddings per batch.
        learning_rate: the step along the negative gradient.
        weight_scale: the standard deviation of the initial weights.
        reg: the factor of the L2 penalty.
        seed: of initialization and batches.

    Raises:
        UserError: the weights grew beyond all bounds.
    """
    # Importing the library should not need what only the workflow does.
    from threadpoolctl import threadpool_limits

    data = {}
    for name, key in (("train", "train"), ("validation", "val")):
        data[f"data_{key}"], data[f"labels_{key}"] = labelled.split(name)
    width = labelled.embeddings.embeddings.shape[1]
    model = SoftmaxRegression(width, len(labelled.classes), weight_scale, reg, seed=seed)
    # The order of a sum, and so its last bits, depends on the number of threads.
    with threadpool_limits(1):
        model.train_with_sgd(data, num_iter, learning_rate, batch_size)
    if not (np.isfinite(model.weights).all() and np.isfinite(model.logit_range or ()).all()):
        raise UserError(
            f"Training diverged: lower training.learning_rate ({learning_rate}) or training.reg "
            f"({reg}) in the config."
        )
    return Head(
        model.weights,
        model.biases,
        model.logit_range,
        labelled.classes,
        training={
            "num_iter": num_iter,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_scale": weight_scale,
            "reg": reg,
            "seed": seed,
            "photos": len(data["labels_train"]),
            "extractor": labelled.embeddings.extractor,
            "preprocessing": labelled.embeddings.preprocessing,
        },
    )
