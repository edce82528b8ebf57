"""Train the head on embeddings, and write extractor and head as one file."""

from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from edgetpu_retrain import files, tflite_model
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.softmax_regression import SoftmaxRegression


def train(
    embeddings: Embeddings,
    num_iter: int,
    batch_size: int,
    learning_rate: float,
    weight_scale: float,
    reg: float,
    seed: int,
) -> Head:
    """Trains softmax regression by SGD on the training split.

    Equal embeddings and arguments give equal bits, whatever the number of cores.

    Args:
        embeddings: of all splits.
        num_iter: as `SoftmaxRegression.train_with_sgd` takes it.
        batch_size: likewise.
        learning_rate: likewise.
        weight_scale: as `SoftmaxRegression` takes it.
        reg: likewise.
        seed: likewise.
    """
    classes = tuple(sorted(set(embeddings.labels.tolist())))
    data = {}
    for name, key in (("train", "train"), ("validation", "val")):
        data[f"data_{key}"], labels = embeddings.split(name)
        data[f"labels_{key}"] = class_ids(labels, classes)
    model = SoftmaxRegression(
        embeddings.embeddings.shape[1], len(classes), weight_scale, reg, seed=seed
    )
    # The order of a sum, and so its last bits, depends on the number of threads.
    with threadpool_limits(1):
        model.train_with_sgd(data, num_iter, learning_rate, batch_size)
    return Head(
        model.weights,
        model.biases,
        model.logit_range,
        classes,
        training={
            "num_iter": num_iter,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_scale": weight_scale,
            "reg": reg,
            "seed": seed,
            "photos": len(data["labels_train"]),
            "extractor": embeddings.extractor,
        },
    )


def class_ids(labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Returns the position of each label [N] str among the classes, as int [N]."""
    ids = {name: i for i, name in enumerate(classes)}
    return np.array([ids[label] for label in labels.tolist()], int)


def serialize(extractor: str | Path, head: Head, output: str | Path) -> None:
    """Appends a head to an extractor's file.

    Raises:
        UserError: they do not fit; the text names the file.
    """
    try:
        model = tflite_model.append_head(Path(extractor).read_bytes(), head)
    except UserError as error:
        raise UserError(f"{extractor} cannot take a classification layer: {error}") from error
    with files.replacing(output) as temporary:
        temporary.write_bytes(model)
