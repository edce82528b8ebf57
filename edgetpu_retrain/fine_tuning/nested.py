"""Judge the photos that a network was fine-tuned on, by networks that were fine-tuned without them.

The photos that the delivered network was not tuned on are judged with it. The others are divided
into folds, and for each of these a further network is tuned without the fold. What is done with one
of these networks is the same as with the delivered one: its embeddings are cross-validated on the
photos that it has not seen (Stone, 1974: Cross-Validatory Choice and Assessment of Statistical
Predictions).
"""

import json
import logging
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import NoPhotosLeftError
from edgetpu_retrain.fine_tuning import fit, views
from edgetpu_retrain.fine_tuning.fine_tune import (
    begin,
    network_of,
    paths_and_identities,
    photos_key,
    write_extractor,
)
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.layers import last_layers
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.training import folds, near_copies, recipes
from edgetpu_retrain.training.cross_validation import FOLDS
from edgetpu_retrain.training.predictions import OutOfFold

log = logging.getLogger(__name__)

# Further networks. With the delivered one, each photo is left out by one of five.
NETWORKS = 4


def fine_tune_folds(
    extractor: str | Path,
    labelled: LabelledEmbeddings,
    output: str | Path,
    layers: int,
    tuned_on: Collection[str],
    mirror: bool = True,
    seed: int = 0,
    resize: str = "bilinear",
    num_threads: int = 1,
) -> None:
    """Fine-tunes an extractor once without each fold of the photos that it was tuned on before.

    Near-copies are in the same fold. Photos of the test split are not used at all. What has been
    computed is kept in a folder beside `output` until the end, so that an interrupted run
    continues.

    Args:
        extractor: path of the extractor for the CPU, before fine-tuning.
        labelled: the embeddings that it gives for the photos.
        output: path of an .npz file of the embeddings by each network, for `read`.
        layers: number of layers with weights to train; with 0, there is nothing to do, and no
            network in `output`.
        tuned_on: identities of the photos that the delivered network was tuned on.
        mirror: as for `views.view`.
        seed: seed of the order of the photos.
        resize: as for `preprocessing.to_pixels`.
        num_threads: number of threads that prepare photos; the result does not depend on it.

    Raises:
        UserError: a photo has changed since it was indexed.
    """
    if not (layers and tuned_on):
        _save([], output)
        return
    model = Model.load(extractor)
    kept = labelled.select(labelled.splits != TEST)
    trained = last_layers(model, layers)
    fold_numbers = _assign_folds(kept, tuned_on, num_threads)
    folder = Path(output).with_name(".fine_tuning_folds")
    photos = photos_key(kept, fold_numbers)
    begin(folder, json.dumps([files.sha256(extractor), layers, mirror, seed, resize, photos]))
    listed = paths_and_identities(kept)
    shard = dict(sorted((sha256, path) for path, sha256 in listed))
    activations = views.compute(
        model, trained.boundary, listed, folder, mirror, resize, num_threads
    )
    networks = []
    for number in np.unique(fold_numbers[fold_numbers > 0]).tolist():
        embedded = folder / f"embeddings-{number}.npz"
        left_out = fold_numbers == number
        if not embedded.exists():
            head = recipes.train(kept.select(~left_out), recipes.DEFAULT, seed, num_threads).head
            network = network_of(model, trained, head)
            checkpoint = folder / f"network-{number}.npz"
            name = f"Fine-tuning network {number} of {NETWORKS}"
            fit.fit(network, activations, kept.labels, left_out, checkpoint, seed, name)
            path = checkpoint.with_suffix(".tflite")
            write_extractor(model, trained, network, path)
            embed(shard, path, "cpu", resize, num_threads=num_threads).save(embedded)
        seen = [sha256 for (_, sha256), out in zip(listed, left_out, strict=True) if not out]
        networks.append((Embeddings.load(embedded), seen))
    _save(networks, output)
    log.info("Fine-tuned %d networks more, each without a part of the photos.", len(networks))
    shutil.rmtree(folder)


def _assign_folds(
    kept: LabelledEmbeddings, tuned_on: Collection[str], num_threads: int
) -> np.ndarray:
    """Returns [N] int16: the network that a photo is left out from, or 0 for the delivered one."""
    groups = near_copies.groups(kept.vectors, kept.hashes, num_threads)[kept.rows]
    was_tuned_on = np.isin(groups, groups[kept.are_of(tuned_on)])
    numbers = np.zeros(len(kept), np.int16)
    assigned = folds.assign_folds(kept.labels[was_tuned_on], groups[was_tuned_on], NETWORKS)
    numbers[was_tuned_on] = 1 + assigned
    return numbers


def _save(networks: Iterable[tuple[Embeddings, Sequence[str]]], path: str | Path) -> None:
    arrays: dict[str, Any] = {}
    for number, (embeddings, seen) in enumerate(networks):
        named = embeddings.arrays() | {"seen": np.unique(np.array(seen, "S64"))}
        arrays |= {f"{number}.{name}": values for name, values in named.items()}
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read(path: str | Path) -> Iterator[tuple[Embeddings, list[str]]]:
    """Yields the embeddings of photos by each network, and the identities that it was tuned on.

    Raises:
        UserError: the file is damaged.
    """
    with files.reading(path), np.load(path, allow_pickle=False) as arrays:
        for number in range(len({name.partition(".")[0] for name in arrays})):
            prefix = f"{number}."
            own = {
                name.removeprefix(prefix): arrays[name]
                for name in arrays
                if name.startswith(prefix)
            }
            yield Embeddings.of_arrays(own), [sha256.decode() for sha256 in own["seen"].tolist()]


def complete(
    judged: OutOfFold,
    classes: Sequence[str],
    path: str | Path,
    photos: Sequence[Photo],
    settings: Mapping[str, Any],
) -> OutOfFold:
    """Adds predictions of photos that the delivered network was tuned on, by other networks.

    Args:
        judged: predictions of the photos that it was not tuned on.
        classes: names of the C classes, in the order of the scores.
        path: a file written by `fine_tune_folds`.
        photos: the lines of the manifest. Photos that were added later take no part.
        settings: keyword arguments of `recipes.train`.

    Returns:
        The predictions of both. The fold of an added one is ten times the number of its network,
        from 1, plus its fold in the cross-validation.

    Raises:
        UserError: the file is damaged, or as `recipes.train`.
    """
    missing = set(judged.seen)
    identities, fold_numbers = list(judged.identities), [judged.folds]
    scores = [judged.scores]
    for number, (embeddings, seen) in enumerate(read(path), start=1):
        known = set(embeddings.photos.astype(str).tolist())
        labelled = LabelledEmbeddings.join([embeddings], (p for p in photos if p.sha256 in known))
        log.info("By network %d, which was fine-tuned without a part of the photos:", number)
        try:
            result = recipes.train(labelled, seen=seen, **settings)
        except NoPhotosLeftError:
            log.info("None of these photos is left.")
            continue
        found = result.out_of_fold()
        rows = [row for row, sha256 in enumerate(found.identities) if sha256 in missing]
        identities += [found.identities[row] for row in rows]
        fold_numbers.append(FOLDS * number + found.folds[rows])
        columns = [classes.index(name) for name in result.head.classes]
        added = np.zeros((len(rows), len(classes)), np.float32)
        added[:, columns] = found.scores[rows]
        scores.append(added)
    return OutOfFold(identities, np.concatenate(fold_numbers), np.concatenate(scores), judged.seen)
