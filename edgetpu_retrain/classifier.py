"""Train the head on embeddings, and write extractor and head as one file."""

from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from edgetpu_retrain import extractor, files, tflite_model
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
        num_iter: how many batches.
        batch_size: how many embeddings a batch.
        learning_rate: the step along the negative gradient.
        weight_scale: the standard deviation of the initial weights.
        reg: the factor of the L2 penalty.
        seed: of initialization and batches.

    Raises:
        UserError: the weights grew beyond all bounds.
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
    if not (np.isfinite(model.weights).all() and np.isfinite(model.logit_range or ()).all()):
        raise UserError(
            f"Training diverged: lower training.learning_rate ({learning_rate}) or training.reg "
            f"({reg}) in the config."
        )
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


def serialize(
    extractor_path: str | Path, head: Head, output: str | Path, twin: str | Path | None = None
) -> None:
    """Appends a head to an extractor's file.

    Args:
        extractor_path: the extractor.
        head: trained on its embeddings, or on those of its twin.
        output: where the classifier goes.
        twin: for an extractor that is compiled, the one for the CPU that it must agree with.

    Raises:
        UserError: they do not fit; the text names the file.
    """
    content = Path(extractor_path).read_bytes()
    if twin is not None:
        extractor.check_twin(twin, Path(twin).read_bytes(), extractor_path, content)
    try:
        model = tflite_model.append_head(content, head)
    except UserError as error:
        raise UserError(f"{extractor_path} cannot take a classification layer: {error}") from error
    with files.replacing(output) as temporary:
        temporary.write_bytes(model)
