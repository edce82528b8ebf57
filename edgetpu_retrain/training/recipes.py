"""Train the head on embeddings with classes and splits, and cross-validate it."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks, threads
from edgetpu_retrain.embeddings.labelled_embeddings import (
    TEST,
    TRAIN,
    VALIDATION,
    LabelledEmbeddings,
    TrainingData,
)
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head, l2_normalize
from edgetpu_retrain.runtime.interpreter import Quantization
from edgetpu_retrain.training import combination, cross_validation, folds, imprinting, near_copies
from edgetpu_retrain.training.optimum import Layers, softmax
from edgetpu_retrain.training.predictions import OutOfFold, Predictions
from edgetpu_retrain.training.softmax_regression import SoftmaxRegression

log = logging.getLogger(__name__)

# Photos whose embeddings are float32 at once.
_BLOCK = 1_024
# Root mean square distance of embeddings from their mean, in steps of their quantization:
# 500 to 1,000 for MobileNets on flower photos.
_MIN_SPREAD = 1.0


@dataclass(frozen=True)
class TrainingResult:
    """A head, and scores for the photos it may have been trained on, from layers that were not.

    Attributes:
        head: to be written into a file.
        labelled: the photos that are not held out for testing.
        predictions: of these, out of fold.
        groups: [M] int, of every embedded photo; near-copies share one (`near_copies.groups`).
    """

    head: Head
    labelled: LabelledEmbeddings
    predictions: Predictions
    groups: np.ndarray

    def out_of_fold(self) -> OutOfFold:
        """Returns the predictions by identity: those of the same photo in two classes are equal."""
        rows, lines = np.unique(self.labelled.rows, return_index=True)
        identities = [self.labelled.identities[row] for row in rows.tolist()]
        return OutOfFold(identities, self.predictions.folds[lines], self.predictions.scores[lines])


def train(
    labelled: LabelledEmbeddings, recipe: str, seed: int, num_threads: int = 1, **settings: Any
) -> TrainingResult:
    """Trains a head by one of the recipes, and cross-validates it.

    Near-copies of a photo share its fold. Equal embeddings and arguments give equal bits,
    whatever the number of threads.

    Args:
        labelled: of all splits.
        recipe: a name in `RECIPES`.
        seed: of what is left to chance.
        num_threads: how many run at once.
        settings: of the recipe.

    Raises:
        UserError: the recipe has no such setting, or the weights grew beyond all bounds.
    """
    learn = RECIPES[recipe]
    check_settings(recipe, settings)
    kept = labelled.select(labelled.splits != TEST)
    check_embeddings(kept)
    of_all = near_copies.groups(labelled.vectors, labelled.hashes, num_threads)
    groups = np.unique(of_all[kept.rows], return_inverse=True)[1]
    copied = len(groups) - len(np.unique(groups))
    log.info("%d of %d photos are copies or near-copies of another", copied, len(groups))
    divided = folds.assign_folds(kept.labels, groups, cross_validation.FOLDS)
    head, scores = learn(kept, divided, seed, num_threads, **settings)
    softmax(scores)
    predictions = Predictions(kept.classes, kept.labels, kept.splits, divided, scores)
    correct = int(np.sum(predictions.predicted == kept.labels))
    log.info("Trained: %d of %d photos correct, cross-validated", correct, len(kept.labels))
    training = head.training | {
        "recipe": recipe,
        "extractor": labelled.extractor,
        "preprocessing": labelled.preprocessing,
    }
    return TrainingResult(replace(head, training=training), kept, predictions, of_all)


def check_embeddings(labelled: LabelledEmbeddings) -> None:
    """Raises a UserError if the extractor gives the same embedding for every photo, or nearly."""
    vectors = labelled.vectors[np.unique(labelled.rows)]
    sums, squares = np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for block in blocks(len(vectors), _BLOCK):
        # Differences to one photo, so that a constant embedding has no rounding errors.
        differences = vectors[block].astype(np.float32) - vectors[0]
        sums += differences.sum(axis=0)
        squares += np.square(differences).sum(axis=0)
    spread = np.sqrt(np.sum(squares - sums**2 / len(vectors)) / len(vectors))
    if len(vectors) > 1 and spread < _MIN_SPREAD:
        raise UserError(
            f"The extractor gives the same embedding for all {len(vectors)} photos, or nearly, so "
            "nothing can be learned from it. The likely causes: mean and std of the backbone are "
            "not those it was trained with, its weights are damaged, or it was quantized with "
            "photos of another kind."
        )


def check_settings(recipe: str, settings: Iterable[str]) -> None:
    """Raises a UserError where settings of the configuration are another recipe's."""
    for name in settings:
        if name not in inspect.signature(RECIPES[recipe]).parameters:
            owners = [r for r in RECIPES if name in inspect.signature(RECIPES[r]).parameters]
            raise UserError(
                f"config: training.{name} is a setting of the recipe {' or '.join(owners)}, and "
                f"training.recipe is {recipe}. Leave it out, or change the recipe."
            )


def _train_optimum(
    labelled: LabelledEmbeddings,
    divided: np.ndarray,
    seed: int,
    num_threads: int,
    class_weights: str = "auto",
) -> tuple[Head, np.ndarray]:
    """Trains softmax regression to its optimum; chance has no part in it."""
    data, classes = TrainingData.of(labelled, divided), labelled.classes
    regression = cross_validation.choose(data, class_weights, num_threads)
    combined = combination.combine(data, regression, num_threads)
    choice = combined.choice
    temperature = cross_validation.fit_temperature(choice.logits, labelled.labels)
    weights, biases = _fold_back(choice.layer, data, labelled.quantization, temperature)
    head = Head(
        weights,
        biases,
        _logit_range(labelled, weights, biases),
        classes,
        training={
            "photos": len(labelled.labels),
            "strength": choice.strength,
            "strengths": choice.strengths,
            "class_weights": choice.class_weights,
            "discriminant": {"weight": combined.weight, "shrinkage": combined.shrinkage},
            "temperature": temperature,
            "learning_curve": choice.learning_curve,
        },
    )
    choice.logits[:] /= np.float32(temperature)
    return head, choice.logits


def _fold_back(
    layers: Layers, data: TrainingData, quantization: Quantization, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Makes a layer over centred and scaled embeddings one over those that the extractor gives."""
    weights = data.weights(layers.weights[:, 0]).astype(np.float64) / (data.spread * temperature)
    offset = data.mean.astype(np.float64) - quantization.zero_point
    biases = layers.biases[0] / temperature - offset @ weights
    return (weights / quantization.scale).astype(np.float32), biases.astype(np.float32)


def _logit_range(
    labelled: LabelledEmbeddings, weights: np.ndarray, biases: np.ndarray
) -> tuple[float, float]:
    ends = []
    for block in blocks(len(labelled), _BLOCK):
        logits = labelled[block] @ weights + biases
        ends.append((float(logits.min()), float(logits.max())))
    return min(low for low, _ in ends), max(high for _, high in ends)


def _train_coral(
    labelled: LabelledEmbeddings,
    divided: np.ndarray,
    seed: int,
    num_threads: int,
    num_iter: int = 500,
    batch_size: int = 100,
    learning_rate: float = 0.01,
    weight_scale: float = 0.05,
    reg: float = 0.0,
) -> tuple[Head, np.ndarray]:
    """Trains softmax regression by SGD on the training split, as Coral's guide does.

    Args:
        labelled: of the splits train and validation.
        divided: [N] int, folds.
        seed: of initialization and batches.
        num_threads: how many layers are trained at once.
        num_iter: how many batches.
        batch_size: how many embeddings per batch.
        learning_rate: the step along the negative gradient.
        weight_scale: the standard deviation of the initial weights.
        reg: the factor of the L2 penalty.
    """
    labels = labelled.labels

    def fit(trained: np.ndarray, watched: np.ndarray) -> SoftmaxRegression:
        data = {
            "data_train": labelled.select(trained),
            "labels_train": labels[trained],
            "data_val": labelled.select(watched),
            "labels_val": labels[watched],
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
    logits = np.empty((len(labels), len(labelled.classes)), np.float32)
    # The order of a sum, and so its last bits, depends on the number of threads.
    with threads(1):
        model = fit(trained, labelled.splits == VALIDATION)
        for fold in range(cross_validation.FOLDS):
            out = divided == fold
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


def _train_imprinting(
    labelled: LabelledEmbeddings, divided: np.ndarray, seed: int, num_threads: int
) -> tuple[Head, np.ndarray]:
    """Takes the mean direction of each class's embeddings for its weights.

    Softmax regression is cross-validated too, to say what it would have reached.
    """
    num_classes, width = len(labelled.classes), labelled.vectors.shape[1]
    # By fold: a layer without a fold is that of the other sums.
    sums = np.zeros((cross_validation.FOLDS, num_classes, width))
    for block in blocks(len(labelled), _BLOCK):
        np.add.at(sums, (divided[block], labelled.labels[block]), l2_normalize(labelled[block]))
    total = sums.sum(axis=0)
    layers = [imprinting.directions(total - part) for part in sums]
    logits = np.empty((len(labelled.labels), num_classes), np.float32)
    cosines = []
    for block in blocks(len(labelled), _BLOCK):
        values = l2_normalize(labelled[block])
        for fold, layer in enumerate(layers):
            out = divided[block] == fold
            logits[block][out] = imprinting.SCALE * (values[out] @ layer)
        found = values @ imprinting.directions(total)
        cosines.append((found.min(), found.max(), found.mean()))
    temperature = cross_validation.fit_temperature(logits, labelled.labels)
    scale = imprinting.SCALE / temperature
    # Softmax is blind to what all logits have in common; without it they need a smaller range.
    low, high, middle = (
        float(np.min([part[0] for part in cosines])),
        float(np.max([part[1] for part in cosines])),
        float(np.mean([part[2] for part in cosines])),
    )
    data = TrainingData.of(labelled, divided)
    regression = cross_validation.choose(data, num_threads=num_threads)
    choice = combination.combine(data, regression, num_threads).choice
    head = Head(
        (scale * imprinting.directions(total)).astype(np.float32),
        np.full(num_classes, -scale * middle, np.float32),
        (scale * (low - middle), scale * (high - middle)),
        labelled.classes,
        training={
            "photos": len(labelled.labels),
            "temperature": temperature,
            "softmax_regression": choice.learning_curve[-1],
        },
        normalized=True,
    )
    logits /= np.float32(temperature)
    return head, logits


def non_default_settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recipe and those of its settings that are not the defaults.

    Args:
        wanted: the key `training` of the configuration: `recipe`, and settings of it.

    Raises:
        UserError: a setting is another recipe's.

    >>> non_default_settings({"recipe": "coral", "reg": 0.1, "num_iter": 500})
    {'recipe': 'coral', 'reg': 0.1}
    """
    recipe = wanted.get("recipe", DEFAULT)
    given = {key: wanted[key] for key in sorted(wanted) if key != "recipe"}
    check_settings(recipe, given)
    parameters = inspect.signature(RECIPES[recipe]).parameters
    others = {key: value for key, value in given.items() if value != parameters[key].default}
    return {"recipe": recipe, **others}


def folder_name(settings: Mapping[str, Any]) -> str:
    """Returns the name of a recipe with its settings, as of a folder.

    Args:
        settings: as `non_default_settings` gives them.

    >>> folder_name({"recipe": "coral", "reg": 0.1})
    'coral-reg=0.1'
    """
    named = [f"{key}={value}" for key, value in settings.items() if key != "recipe"]
    return "-".join([settings["recipe"], *named])


_Recipe = Callable[..., tuple[Head, np.ndarray]]
# Each takes photos that are not held out for testing, their folds, a seed, a number of threads and
# settings, and returns a head and logits out of fold.
DEFAULT = "optimum"
RECIPES: dict[str, _Recipe] = {
    "optimum": _train_optimum,
    "coral": _train_coral,
    "imprinting": _train_imprinting,
}
