"""Train the head on labelled embeddings with one of the recipes, and cross-validate it."""

import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.blocks import blocks
from edgetpu_retrain.embeddings.labelled_embeddings import (
    TEST,
    LabelledEmbeddings,
    TrainingData,
)
from edgetpu_retrain.errors import NoPhotosLeftError, UserError
from edgetpu_retrain.head import NONE, Head, l2_normalize, with_none
from edgetpu_retrain.runtime.interpreter import Quantization
from edgetpu_retrain.training import (
    combination,
    coral,
    cross_validation,
    folds,
    imprinting,
    near_copies,
    none_class,
)
from edgetpu_retrain.training.optimum import Layers, softmax
from edgetpu_retrain.training.predictions import OutOfFold, Predictions
from edgetpu_retrain.training.pseudo_labels import candidates, teach

log = logging.getLogger(__name__)

# Photos per block of dequantized embeddings.
_BLOCK = 1_024
# Root mean square distance of embeddings from their mean, in steps of their quantization:
# 500 to 1,000 for MobileNets on flower photos.
_MIN_SPREAD = 1.0


@dataclass(frozen=True)
class TrainingResult:
    """A trained head, and out-of-fold predictions for its photos.

    Attributes:
        head: the trained head.
        labelled: the photos that are not held out for testing and were not seen before.
        predictions: out-of-fold predictions of these photos.
        groups: [M] int, group of near-copies of each embedded photo (`near_copies.groups`).
        seen: identities of the photos that the extractor was fine-tuned on, and of their
            near-copies. They are trained on, but not cross-validated.
    """

    head: Head
    labelled: LabelledEmbeddings
    predictions: Predictions
    groups: np.ndarray
    seen: Sequence[str] = ()

    def out_of_fold(self) -> OutOfFold:
        """Returns the predictions by identity; lines of the same photo have equal predictions."""
        rows, lines = np.unique(self.labelled.rows, return_index=True)
        identities = [self.labelled.identities[row] for row in rows.tolist()]
        folds, scores = self.predictions.folds[lines], self.predictions.scores[lines]
        return OutOfFold(identities, folds, scores, self.seen)


def train(
    labelled: LabelledEmbeddings,
    recipe: str,
    seed: int,
    num_threads: int = 1,
    seen: Collection[str] = (),
    none: bool = False,
    unlabelled: LabelledEmbeddings | None = None,
    **settings: Any,
) -> TrainingResult:
    """Trains a head with one of the recipes, and cross-validates it.

    Near-copies are in the same fold. Training is deterministic and does not depend on the number of
    threads.

    Args:
        labelled: photos of all splits.
        recipe: name of the recipe, a key of `RECIPES`.
        seed: seed of the random numbers; only the recipes in `RANDOM` use it.
        num_threads: number of threads.
        seen: identities of photos that the extractor was fine-tuned on. Their embeddings say
            nothing about other photos, so accuracy, strengths and temperature come from the others.
        none: whether photos that are like no training photo get the class `none`.
        unlabelled: photos without a label, with any class; only used if the setting `pseudo_labels`
            is true.
        settings: settings of the recipe.

    Raises:
        NoPhotosLeftError: all photos were seen.
        UserError: the recipe has no such setting, or training diverged.
    """
    train_recipe = RECIPES[recipe]
    check_settings(recipe, settings)
    kept = labelled.select(labelled.splits != TEST)
    check_embeddings(kept)
    # Fine-tuning makes the embeddings of all photos of a class alike.
    by_hash = bool(seen)
    vectors = None if by_hash else labelled.vectors
    all_groups = near_copies.groups(vectors, labelled.hashes, num_threads)
    groups = np.unique(all_groups[kept.rows], return_inverse=True)[1]
    num_copies = len(groups) - len(np.unique(groups))
    log.info("Copies or near-copies of other photos: %d of %d", num_copies, len(groups))
    is_seen = np.isin(groups, groups[kept.are_of(seen)])
    if is_seen.all():
        raise NoPhotosLeftError(
            "The network was fine-tuned on all photos, so none are left to cross-validate on. "
            "Fine-tune it again: fine_tune: {refresh: true}."
        )
    fold_numbers = np.full(len(kept), -1, np.int16)
    unseen = ~is_seen
    fold_numbers[unseen] = folds.assign_folds(
        kept.labels[unseen], groups[unseen], cross_validation.FOLDS
    )
    if unlabelled is not None and settings.get("pseudo_labels"):
        settings["unlabelled"] = candidates(labelled, unlabelled, by_hash, num_threads)
    head, logits = train_recipe(kept, fold_numbers, seed, num_threads, **settings)
    judged = kept.select(unseen)
    scores = logits[unseen]
    softmax(scores)
    classes = kept.classes
    if none:
        learned = none_class.learn(kept, fold_numbers)
        scores = with_none(scores, learned.known[unseen], kept.classes)
        classes = kept.classes if NONE in kept.classes else (*kept.classes, NONE)
        training = head.training | {"left_out": learned.left_out}
        head = replace(head, classes=classes, gate=learned.gate, training=training)
    predictions = Predictions(classes, judged.labels, judged.splits, fold_numbers[unseen], scores)
    correct = int(np.sum(predictions.predicted == judged.labels))
    log.info("Trained. Cross-validation: %d of %d photos correct", correct, len(judged))
    training = head.training | {
        "recipe": recipe,
        "extractor": labelled.extractor,
        "preprocessing": labelled.preprocessing,
    }
    seen_photos = [kept.identities[row] for row in np.unique(kept.rows[is_seen]).tolist()]
    return TrainingResult(
        replace(head, training=training), judged, predictions, all_groups, seen_photos
    )


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
    """Raises a UserError if one of the settings does not belong to the recipe."""
    for name in settings:
        if name not in inspect.signature(RECIPES[recipe]).parameters:
            owners = [r for r in RECIPES if name in inspect.signature(RECIPES[r]).parameters]
            raise UserError(
                f"config: training.{name} is a setting of the recipe {' or '.join(owners)}, but "
                f"training.recipe is {recipe}. Remove it, or change the recipe."
            )


def _train_optimum(
    labelled: LabelledEmbeddings,
    fold_numbers: np.ndarray,
    seed: int,
    num_threads: int,
    class_weights: str = "auto",
    pseudo_labels: bool = False,
    unlabelled: np.ndarray | None = None,
) -> tuple[Head, np.ndarray]:
    """Trains softmax regression combined with a linear discriminant; deterministic.

    Args:
        labelled: photos that are not held out for testing.
        fold_numbers: [N] int, folds.
        seed: not used.
        num_threads: number of threads.
        class_weights: as for `cross_validation.choose`.
        pseudo_labels: whether photos without a label are learned from, if this helps.
        unlabelled: [U, D], their quantized embeddings.
    """
    data, classes = TrainingData.of(labelled, fold_numbers), labelled.classes
    regression = cross_validation.choose(data, class_weights, num_threads)
    combined = combination.combine(data, regression, num_threads)
    training: dict[str, Any] = {}
    if pseudo_labels:
        data, combined, record = teach(data, combined, unlabelled, num_threads)
        training["pseudo_labels"] = record
    choice = combined.choice
    temperature = cross_validation.fit_temperature(
        choice.logits[data.scored], labelled.labels[data.scored]
    )
    weights, biases = _denormalize(choice.layer, data, labelled.quantization, temperature)
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
            **training,
        },
    )
    choice.logits[:] /= np.float32(temperature)
    return head, choice.logits


def _denormalize(
    layers: Layers, data: TrainingData, quantization: Quantization, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Converts a layer for centred and scaled embeddings into one for dequantized embeddings.

    Logits are divided by the temperature.
    """
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


def _train_imprinting(
    labelled: LabelledEmbeddings, fold_numbers: np.ndarray, seed: int, num_threads: int
) -> tuple[Head, np.ndarray]:
    """Uses the mean direction of each class's embeddings as its weights.

    Softmax regression is cross-validated too, for comparison.
    """
    num_classes, width = len(labelled.classes), labelled.vectors.shape[1]
    # Sums by fold: the layer without a fold is made from the sums of the other folds.
    # The last sums are of photos that are never held out, whose fold is -1.
    sums = np.zeros((cross_validation.FOLDS + 1, num_classes, width))
    for block in blocks(len(labelled), _BLOCK):
        np.add.at(
            sums, (fold_numbers[block], labelled.labels[block]), l2_normalize(labelled[block])
        )
    total = sums.sum(axis=0)
    layers = [imprinting.directions(total - fold_sums) for fold_sums in sums[:-1]]
    logits = np.zeros((len(labelled.labels), num_classes), np.float32)
    cosines = []
    for block in blocks(len(labelled), _BLOCK):
        values = l2_normalize(labelled[block])
        for fold, layer in enumerate(layers):
            out = fold_numbers[block] == fold
            logits[block][out] = imprinting.SCALE * (values[out] @ layer)
        block_cosines = values @ imprinting.directions(total)
        cosines.append((block_cosines.min(), block_cosines.max(), block_cosines.mean()))
    scored = fold_numbers >= 0
    temperature = cross_validation.fit_temperature(logits[scored], labelled.labels[scored])
    scale = imprinting.SCALE / temperature
    # Softmax ignores a common offset; subtracting the mean cosine makes the logits' range smaller.
    low, high, middle = (
        float(np.min([part[0] for part in cosines])),
        float(np.max([part[1] for part in cosines])),
        float(np.mean([part[2] for part in cosines])),
    )
    data = TrainingData.of(labelled, fold_numbers)
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
    """Returns the recipe and those of its settings that differ from the defaults.

    Args:
        wanted: the key `training` of the configuration, with `recipe` and its settings.

    Raises:
        UserError: a setting does not belong to the recipe.

    >>> non_default_settings({"recipe": "coral", "reg": 0.1, "num_iter": 500})
    {'recipe': 'coral', 'reg': 0.1}
    """
    recipe = wanted.get("recipe", DEFAULT)
    given = {key: wanted[key] for key in sorted(wanted) if key != "recipe"}
    check_settings(recipe, given)
    parameters = inspect.signature(RECIPES[recipe]).parameters
    changed = {key: value for key, value in given.items() if value != parameters[key].default}
    return {"recipe": recipe, **changed}


def folder_name(settings: Mapping[str, Any]) -> str:
    """Returns the name of the folder for a recipe and its settings.

    Args:
        settings: result of `non_default_settings`.

    >>> folder_name({"recipe": "coral", "reg": 0.1})
    'coral-reg=0.1'
    """
    given = {key: value for key, value in settings.items() if key != "recipe"}
    # As in the configuration, where it is not True.
    parts = [f"{key}={'true' if value is True else value}" for key, value in given.items()]
    return "-".join([settings["recipe"], *parts])


_Recipe = Callable[..., tuple[Head, np.ndarray]]
# Arguments: photos that are not held out for testing, their folds, a seed, a number of threads, and
# settings as keywords. Result: a head, and out-of-fold logits [N, C].
DEFAULT = "optimum"
RECIPES: dict[str, _Recipe] = {
    "optimum": _train_optimum,
    "coral": coral.train,
    "imprinting": _train_imprinting,
}
# Those whose result depends on the seed.
RANDOM = {"coral"}
