"""The recipe `coral`: softmax regression with stochastic gradient descent, as in Coral's guide."""

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.labelled_embeddings import TRAIN, VALIDATION, LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.training import cross_validation
from edgetpu_retrain.training.softmax_regression import SoftmaxRegression

# Photos per block of dequantized embeddings.
_BLOCK = 1_024


def train(
    labelled: LabelledEmbeddings,
    fold_numbers: np.ndarray,
    seed: int,
    num_threads: int,
    num_iter: int = 500,
    batch_size: int = 100,
    learning_rate: float = 0.01,
    weight_scale: float = 0.05,
    reg: float = 0.0,
) -> tuple[Head, np.ndarray]:
    """Trains a head on the training split, and judges every photo out of fold.

    Args:
        labelled: photos of the training and validation splits.
        fold_numbers: [N] int, folds.
        seed: seed of initialization and batches.
        num_threads: not used, because steps this small are not faster with several threads.
        num_iter: number of batches.
        batch_size: number of embeddings per batch.
        learning_rate: learning rate.
        weight_scale: standard deviation of the initial weights.
        reg: factor of the L2 penalty.
    """
    labels = labelled.labels

    def fit(trained: np.ndarray, validated: np.ndarray) -> SoftmaxRegression:
        data = {
            "data_train": labelled.select(trained),
            "labels_train": labels[trained],
            "data_val": labelled.select(validated),
            "labels_val": labels[validated],
        }
        width = labelled.vectors.shape[1]
        model = SoftmaxRegression(width, len(labelled.classes), weight_scale, reg, seed=seed)
        model.train_with_sgd(data, num_iter, learning_rate, batch_size)
        if not (np.isfinite(model.weights).all() and np.isfinite(model.logit_range or ()).all()):
            raise UserError(
                f"Training diverged: lower training.learning_rate ({learning_rate}) or "
                f"training.reg ({reg}) in the config."
            )
        return model

    trained = labelled.splits == TRAIN
    logits = np.zeros((len(labels), len(labelled.classes)), np.float32)
    # BLAS adds in a different order for each number of threads, which changes the last bits.
    with threads(1):
        model = fit(trained, labelled.splits == VALIDATION)
        for fold in range(cross_validation.FOLDS):
            out = fold_numbers == fold
            if out.any():
                layer, held_out = fit(~out, out).head, labelled.select(out)
                rows = np.flatnonzero(out)
                for block in blocks(len(held_out), _BLOCK):
                    logits[rows[block]] = layer.logits(held_out[block])
    head = Head(
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
            "photos": int(np.sum(trained)),
        },
    )
    return head, logits
