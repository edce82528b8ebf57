"""Fine-tune an extractor on the user's photos, and judge it on photos that it was not tuned on."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.fine_tuning import fit, views
from edgetpu_retrain.fine_tuning.fit import Epoch
from edgetpu_retrain.fine_tuning.network import Network
from edgetpu_retrain.head import Head
from edgetpu_retrain.io import files, tables
from edgetpu_retrain.tflite.layers import LastLayers, last_layers, num_layers, write_weights
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.training import folds, near_copies, recipes
from edgetpu_retrain.training.intervals import wilson_interval

log = logging.getLogger(__name__)

# Numbers of layers that are tried one after the other, as long as more of them help. On none of
# the sets that were measured, 4 were better than 8.
_AUTO = (8, 12, 20)
# A fifth of the photos is held out, but not many more than it takes to compare networks.
_FOLDS, _ENOUGH = 5, 500
# With fewer photos, too few are held out to tell whether fine-tuning helps.
_MIN_PHOTOS = 50
# Largest step of Adam, in units of the grid of weights, times the root of the number of layers.
# Steps of 0.1 destroy what 12 layers of MobileNet v1 know; those of 0.02 teach less than 0.03.
_STEP = 0.12
# What training foresees differs from the file in how sums are rounded.
_MIN_AGREEMENT = 0.97
_COLUMNS = ("sha256",)


@dataclass(frozen=True)
class _Trial:
    """A network with a number of fine-tuned layers.

    Attributes:
        layers: their number; 0 for the network as it was.
        extractor: path of the extractor.
        loss: mean cross-entropy of the photos that are held out, by cross-validation.
        correct: how many of these are correct.
        judged: their number, without near-copies of others.
        agreement: share of these for which the extractor, run by the interpreter, gives the class
            that training foresaw.
        epochs: the course of the training.
    """

    layers: int
    extractor: str
    loss: float
    correct: int
    judged: int
    agreement: float = 1.0
    epochs: tuple[Epoch, ...] = ()

    def save(self, path: Path) -> None:
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def load(cls, path: Path) -> "_Trial":
        content = json.loads(path.read_text("utf-8"))
        return cls(**content | {"epochs": tuple(Epoch(**one) for one in content["epochs"])})


def fine_tune(
    extractor: str | Path,
    labelled: LabelledEmbeddings,
    output: str | Path,
    report: str | Path,
    tuned_on: str | Path,
    layers: int | Literal["auto", "all"],
    mirror: bool = True,
    seed: int = 0,
    resize: str = "bilinear",
    num_threads: int = 1,
) -> None:
    """Trains the weights of an extractor's last layers; scales and zero points stay.

    A fifth of the photos, at most some 500, is held out: the number of layers is chosen by them,
    and they tell how good the result is. Photos of the test split are not used at all. What has
    been computed is kept in a folder beside `output` until the end, so that an interrupted run
    continues.

    Args:
        extractor: path of the extractor for the CPU.
        labelled: the embeddings that it gives for the photos.
        output: path of the fine-tuned extractor.
        report: path of a .json file with accuracies before and after.
        tuned_on: path of a table of the photos that were trained on.
        layers: number of layers with weights to train, from the last one backwards, or "all";
            "auto" tries 8, 12 and 20 as long as the loss on the photos that are held out
            falls, and may leave the extractor as it is.
        mirror: as for `views.view`.
        seed: seed of the order of the photos.
        resize: as for `preprocessing.to_pixels`.
        num_threads: number of threads that prepare photos; the result does not depend on it.

    Raises:
        UserError: there are too few photos, or a layer cannot be trained.
    """
    model = Model.load(extractor)
    kept = labelled.select(labelled.splits != TEST)
    if len(kept) < _MIN_PHOTOS:
        raise UserError(
            f"Fine-tuning needs at least {_MIN_PHOTOS} photos to train on, and there are "
            f"{len(kept)}. Add photos, or set fine_tune: {{layers: 0}}."
        )
    numbers = _numbers(model, layers)
    held_out = _hold_out(kept, num_threads)
    folder = Path(output).with_name(".fine_tuning")
    key = [files.sha256(extractor), numbers, mirror, seed, resize, photos_key(kept, held_out)]
    begin(folder, json.dumps(key))
    start = recipes.train(kept.select(~held_out), recipes.DEFAULT, seed, num_threads).head
    tuning = _Tuning(kept, held_out, start, mirror, seed, resize, num_threads)
    trials = [tuning.judge(0, extractor, kept)]
    for number in numbers:
        trials.append(tuning.run(model, number, folder))
        if layers == "auto" and trials[-1].loss >= trials[-2].loss:
            break
    best = min(trials, key=lambda trial: trial.loss) if layers == "auto" else trials[-1]
    _save(best, trials, kept, held_out, output, report, tuned_on)
    shutil.rmtree(folder)


def _numbers(model: Model, layers: int | Literal["auto", "all"]) -> tuple[int, ...]:
    """Returns the numbers of layers to try."""
    deepest = num_layers(model)
    if layers == "auto":
        return tuple(sorted({min(number, deepest) for number in _AUTO}))
    return (deepest if layers == "all" else layers,)


def _hold_out(kept: LabelledEmbeddings, num_threads: int) -> np.ndarray:
    """Returns which photos are held out, bool [N]; near-copies are on the same side."""
    groups = near_copies.groups(kept.vectors, kept.hashes, num_threads)[kept.rows]
    count = max(_FOLDS, len(kept) // _ENOUGH)
    return np.asarray(folds.assign_folds(kept.labels, groups, count) == 0)


def _seen(kept: LabelledEmbeddings, held_out: np.ndarray) -> list[str]:
    """Returns the identities of the photos that are trained on, sorted."""
    rows = np.unique(kept.rows[~held_out]).tolist()
    return sorted(kept.identities[row] for row in rows)


def paths_and_identities(kept: LabelledEmbeddings) -> list[tuple[str, str]]:
    """Returns the path and the identity of the photo of each line."""
    return [
        (path, kept.identities[row])
        for path, row in zip(kept.paths.tolist(), kept.rows.tolist(), strict=True)
    ]


def photos_key(kept: LabelledEmbeddings, folds: np.ndarray) -> str:
    """Returns a digest of the identities, classes and folds [N] of photos."""
    identities = [sha256 for _, sha256 in paths_and_identities(kept)]
    names = [kept.classes[label] for label in kept.labels.tolist()]
    lines = list(zip(identities, names, map(int, folds), strict=True))
    return hashlib.sha256(json.dumps(lines).encode("ascii")).hexdigest()


def begin(folder: Path, key: str) -> None:
    """Makes an empty folder, unless it is there with work on the same photos and network."""
    path = folder / "key.json"
    if path.exists() and path.read_text("ascii") == key:
        log.info("Continuing an interrupted run.")
        return
    files.remove(folder)
    folder.mkdir(parents=True)
    with files.replacing(path) as temporary:
        temporary.write_text(key, "ascii")


def network_of(model: Model, trained: LastLayers, head: Head) -> Network:
    """Returns the network to train, which begins as it is in `model`, with `head` behind it."""
    step = _STEP / len(trained.trained) ** 0.5
    return Network(model, trained, head.weights, head.biases, step)


def write_extractor(model: Model, trained: LastLayers, network: Network, path: Path) -> None:
    """Writes an extractor with the weights of a trained network."""
    tuned = model.copy()
    for number, (weights, biases) in network.layers().items():
        write_weights(tuned, trained.layers[number], weights, biases)
    tuned.save(path)


@dataclass(frozen=True)
class _Tuning:
    """What all trials have in common.

    Attributes:
        kept: the photos that are not for testing.
        held_out: [N] bool, those of them that are only judged.
        start: the last layer to start from, trained on the others.
        mirror: as for `views.view`.
        seed: seed of the order of the photos.
        resize: as for `preprocessing.to_pixels`.
        num_threads: number of threads.
    """

    kept: LabelledEmbeddings
    held_out: np.ndarray
    start: Head
    mirror: bool
    seed: int
    resize: str
    num_threads: int

    def run(self, model: Model, layers: int, folder: Path) -> _Trial:
        """Fine-tunes a number of layers; returns the result of an earlier run if there is one."""
        result, path = folder / f"layers-{layers}.json", folder / f"layers-{layers}.tflite"
        if result.exists():
            return _Trial.load(result)
        trained, photos = last_layers(model, layers), paths_and_identities(self.kept)
        own = folder / f"layers-{layers}"
        activations = views.compute(
            model, trained.boundary, photos, own, self.mirror, self.resize, self.num_threads
        )
        network = network_of(model, trained, self.start)
        name = f"Fine-tuning {layers} layers"
        checkpoint = own / "checkpoint.npz"
        epochs = fit.fit(
            network, activations, self.kept.labels, self.held_out, checkpoint, self.seed, name
        )
        foreseen = fit.predict(network, activations, np.flatnonzero(self.held_out))
        write_extractor(model, trained, network, path)
        embedded = self._embed(path)
        values = embedded.select(self.held_out)[:]
        agrees = network.head().logits(values).argmax(axis=1) == foreseen.argmax(axis=1)
        agreement = float(np.mean(agrees))
        if agreement < _MIN_AGREEMENT:
            log.warning(
                "The fine-tuned extractor gives another class than training foresaw for %.0f %% of "
                "the photos that are held out.",
                100 * (1 - agreement),
            )
        trial = replace(
            self.judge(len(trained.trained), path, embedded),
            agreement=agreement,
            epochs=tuple(epochs),
        )
        trial.save(result)
        shutil.rmtree(own)
        return trial

    def judge(self, layers: int, extractor: str | Path, embedded: LabelledEmbeddings) -> _Trial:
        """Judges an extractor as it is used later: with a last layer that is trained on it."""
        seen = _seen(self.kept, self.held_out)
        judged = recipes.train(
            embedded, recipes.DEFAULT, self.seed, self.num_threads, seen
        ).predictions
        scores = judged.scores[np.arange(len(judged)), judged.labels]
        loss = -float(np.log(np.maximum(scores, np.finfo(np.float32).tiny)).mean())
        correct = int(np.sum(judged.predicted == judged.labels))
        return _Trial(layers, str(extractor), loss, correct, len(judged))

    def _embed(self, extractor: Path) -> LabelledEmbeddings:
        """Returns the embeddings by an extractor of the photos, in the order of `kept`."""
        shard = dict(sorted((sha256, path) for path, sha256 in paths_and_identities(self.kept)))
        embedded = embed(shard, extractor, "cpu", self.resize, num_threads=self.num_threads)
        photos = (photo for _, photo in self.kept.in_manifest_order())
        joined = LabelledEmbeddings.join([embedded], photos)
        return replace(joined, classes=self.kept.classes, labels=self.kept.labels)


def _save(
    best: _Trial,
    trials: Sequence[_Trial],
    kept: LabelledEmbeddings,
    held_out: np.ndarray,
    output: str | Path,
    report: str | Path,
    tuned_on: str | Path,
) -> None:
    content: dict[str, Any] = {
        "layers": best.layers,
        "photos": int(np.sum(~held_out)),
        "held_out": best.judged,
        "trials": [
            {
                "layers": trial.layers,
                "accuracy": trial.correct / trial.judged,
                "interval": wilson_interval(trial.correct, trial.judged),
                "loss": trial.loss,
                "agreement": trial.agreement,
                "epochs": [asdict(epoch) for epoch in trial.epochs],
            }
            for trial in trials
        ],
    }
    seen = _seen(kept, held_out) if best.layers else []
    with files.replacing(tuned_on) as temporary:
        temporary.write_bytes(tables.to_tsv(_COLUMNS, ([sha256] for sha256 in seen)))
    with files.replacing(report) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with files.replacing(output) as temporary:
        shutil.copyfile(best.extractor, temporary)
    log.info(
        "Fine-tuned %d layers. Of %d photos that were held out, %d are correct (before: %d).",
        best.layers,
        best.judged,
        best.correct,
        trials[0].correct,
    )


def read_tuned_on(path: str | Path) -> list[str]:
    """Returns the identities of the photos that an extractor was tuned on.

    Raises:
        UserError: the file is damaged.
    """
    return [sha256 for (sha256,) in tables.read(path, _COLUMNS)]
