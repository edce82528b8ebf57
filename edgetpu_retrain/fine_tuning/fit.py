"""Train the last layers of a network, and continue where an interrupted training stopped."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.fine_tuning.network import Network
from edgetpu_retrain.fine_tuning.views import VIEWS, Activations
from edgetpu_retrain.io import files
from edgetpu_retrain.training.cross_validation import losses

log = logging.getLogger(__name__)

_BATCH = 32
# Views that a training sees: 12 epochs of 1,000 photos. More photos need fewer epochs, and fewer
# photos gain nothing from more.
_VIEWS_SEEN = 12_000
_MIN_EPOCHS, _MAX_EPOCHS = 4, 16


@dataclass(frozen=True)
class Epoch:
    """How a network stood after an epoch.

    Attributes:
        training_loss: mean cross-entropy of the views that were trained on.
        loss: mean cross-entropy of the photos that are held out.
        accuracy: share of these photos that are correct.
    """

    training_loss: float
    loss: float
    accuracy: float


def num_epochs(photos: int) -> int:
    """Returns how often each photo is trained on.

    >>> num_epochs(1000), num_epochs(100_000)
    (12, 4)
    """
    return min(max(round(_VIEWS_SEEN / photos), _MIN_EPOCHS), _MAX_EPOCHS)


def fit(
    network: Network,
    activations: Activations,
    labels: np.ndarray,
    held_out: np.ndarray,
    checkpoint: Path,
    seed: int,
    name: str,
) -> list[Epoch]:
    """Trains a network. Training is deterministic, also if it is interrupted and continued.

    Args:
        network: the network; it is trained in place.
        activations: of N photos.
        labels: [N] int, their classes.
        held_out: [N] bool, photos that are only judged.
        checkpoint: path of a file in which the state is kept after each epoch.
        seed: seed of the order of photos and views.
        name: what the progress bar calls the training.
    """
    # Imported here because only the workflow depends on it.
    from tqdm import tqdm

    trained, judged = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    epochs, batch = num_epochs(len(trained)), min(_BATCH, len(trained))
    steps = len(trained) // batch
    history = _restore(network, checkpoint)
    with tqdm(
        total=epochs * steps, initial=len(history) * steps, desc=name, unit="step", disable=None
    ) as bar:
        for epoch in range(len(history), epochs):
            random = np.random.default_rng([seed, epoch])
            order = random.permutation(trained)
            views = random.integers(0, VIEWS, len(order))
            total = 0.0
            for step in range(steps):
                drawn = slice(step * batch, (step + 1) * batch)
                values = activations[order[drawn], views[drawn]]
                progress = (epoch + step / steps) / epochs
                total += network.train(values, labels[order[drawn]], progress)
                bar.update()
            logits = predict(network, activations, judged)
            history.append(
                Epoch(
                    total / steps,
                    float(losses(logits, labels[judged]).mean()),
                    float(np.mean(logits.argmax(axis=1) == labels[judged])),
                )
            )
            log.debug("%s, epoch %d of %d: %s", name, epoch + 1, epochs, _described(history[-1]))
            _keep(network, history, checkpoint)
    return history


def predict(network: Network, activations: Activations, photos: np.ndarray) -> np.ndarray:
    """Returns the logits [n, C] of photos, given by their indices [n], as they are."""
    parts = [photos[start : start + _BATCH] for start in range(0, len(photos), _BATCH)]
    # Filled up, since TensorFlow compiles the network anew for each number of photos.
    filled = [np.resize(part, _BATCH) for part in parts]
    logits = [network.logits(activations[part, np.zeros(_BATCH, int)]) for part in filled]
    return np.concatenate(logits)[: len(photos)]


def _described(epoch: Epoch) -> str:
    return (
        f"training loss {epoch.training_loss:.4f}; held out: loss {epoch.loss:.4f}, "
        f"{epoch.accuracy:.1%} correct"
    )


def _keep(network: Network, history: list[Epoch], checkpoint: Path) -> None:
    arrays: dict[str, Any] = dict(network.save())
    for field in asdict(history[0]):
        arrays[f"history.{field}"] = np.array([asdict(epoch)[field] for epoch in history])
    with files.replacing(checkpoint) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _restore(network: Network, checkpoint: Path) -> list[Epoch]:
    """Returns the history of an interrupted training, and takes over its state, if there is one."""
    if not checkpoint.exists():
        return []
    with files.reading(checkpoint), np.load(checkpoint, allow_pickle=False) as arrays:
        state: Mapping[str, np.ndarray] = dict(arrays)
        network.restore(state)
        columns = [state[f"history.{field}"].tolist() for field in Epoch.__dataclass_fields__]
        return [Epoch(*values) for values in zip(*columns, strict=True)]
