"""Train the model of a bundle again, with new photos, on the device."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from edgetpu_retrain.deploy import imprint
from edgetpu_retrain.deploy.bundle import make
from edgetpu_retrain.deploy.bundle.complete import FOLDER, complete
from edgetpu_retrain.deploy.stored_embeddings import (
    ClassMeans,
    Results,
    StoredEmbeddings,
    divide,
)
from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import merge
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation.scoring import score
from edgetpu_retrain.head import Head, read_label_map, read_resize, write_label_map
from edgetpu_retrain.index import checks, layout
from edgetpu_retrain.index.manifest import SPLITS, Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import decode, preprocessing, walk
from edgetpu_retrain.runtime import devices
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite import metadata
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.last_layer import read_head, without_head
from edgetpu_retrain.tflite.model import Model

log = logging.getLogger(__name__)

CPU_MODEL, EDGETPU_MODEL = "model.tflite", "model_edgetpu.tflite"
LABELS, CHECK_PICTURE, CHECK = "labels.txt", "check.png", "check.json"
LEARNED = "learned"
PREVIOUS = ".previous"
# Digits of a photo's identity in the name of its copy.
_NAME_DIGITS = 16


@dataclass(frozen=True)
class Lesson:
    """What a model has learned.

    Attributes:
        photos: number of new photos.
        trained_on: number of those that are not held out for testing.
        new_classes: names of the classes that the model did not have before.
        right_before: how many of the photos trained on the model classified correctly before.
        right_after: how many of them it classifies correctly now: in cross-validation, if there
            was one.
        before: results of the cross-validation before; empty if there was none.
        after: its results now, of the photos that the model knew before and of new classes.
    """

    photos: int
    trained_on: int
    new_classes: tuple[str, ...]
    right_after: int
    right_before: int = 0
    before: Results = field(default_factory=dict)
    after: Results = field(default_factory=dict)


def learn(bundle: Path, photos: Path, device: str = "auto", num_threads: int = 1) -> Lesson | None:
    """Trains the model of a bundle on its stored embeddings and new photos, and replaces it.

    The new files replace the old ones as a whole; those are kept with the suffix ``.previous``.
    The photos are copied to the folder ``learned`` of the bundle, in one folder per class.

    Args:
        bundle: the folder of the bundle.
        photos: a folder with one folder per class, of new classes or of those that the model has.
            A photo that the model was trained on as another class is moved to the new one.
        device: what embeds the photos, as in `devices.resolve_device`.
        num_threads: number of threads; the result does not depend on it.

    Returns:
        What was learned; None if the model was trained on all of the photos before.

    Raises:
        UserError: the bundle is not complete, there are no photos, or a class has too few.
    """
    complete(bundle)
    for name in (CPU_MODEL, LABELS, CHECK_PICTURE, CHECK):
        if not (bundle / name).is_file():
            raise UserError(f"{bundle} is not a whole bundle: {name} is missing.")
    given = find_photos(photos)
    names = read_label_map(bundle / LABELS)
    classes = tuple(names[i] for i in range(len(names)))
    _check_names(classes, given, photos)
    if (bundle / StoredEmbeddings.FILE_NAME).is_file():
        return _train(bundle, given, classes, device, num_threads)
    if (bundle / ClassMeans.FILE_NAME).is_file():
        return _imprint(bundle, given, classes, device, num_threads)
    raise UserError(
        f"{bundle} has no {StoredEmbeddings.FILE_NAME}, without which its model cannot be trained. "
        "Make the bundle again with this version of edgetpu-retrain."
    )


def find_photos(folder: Path) -> list[Photo]:
    """Returns the photos in the class folders of a folder, in the split "train".

    Raises:
        UserError: the folder has no class folders, or there are no photos in them.
    """
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist.")
    found: dict[str, Photo] = {}
    for class_folder in walk.visible_folders(folder):
        label = layout.class_name(class_folder.name)
        for path, status in walk.find_photos(class_folder):
            if reason := decode.rejection_reason(path, status):
                log.warning("Skipped %s: %s", path, decode.with_advice(path, reason))
                continue
            photo = Photo(path, label, SPLITS[0], files.sha256(path))
            other = found.setdefault(photo.sha256, photo)
            if other.label != label:
                raise UserError(f"{other.path} and {path} are the same photo in two classes.")
    if not found:
        raise UserError(
            f"{folder} contains no photos in class folders. Put the photos of each class into a "
            f"folder of its name, as in {folder / 'robin' / 'photo.jpg'}."
        )
    return list(found.values())


def _check_names(classes: Sequence[str], given: Sequence[Photo], folder: Path) -> None:
    places = [(name, f"{LABELS}/{name}") for name in classes]
    places += [(name, str(folder / name)) for name in {photo.label for photo in given}]
    layout.check_names(places)


def _train(
    bundle: Path, given: Sequence[Photo], classes: Sequence[str], device: str, num_threads: int
) -> Lesson | None:
    """Trains a head on the stored embeddings and the given photos."""
    stored = StoredEmbeddings.load(bundle / StoredEmbeddings.FILE_NAME)
    known = {(photo.sha256, photo.label) for photo in stored.photos}
    new = [photo for photo in given if (photo.sha256, photo.label) not in known]
    if not new:
        return None
    is_embedded = set(stored.embeddings.photos.astype(str).tolist())
    added = _embed(
        bundle,
        [photo for photo in new if photo.sha256 not in is_embedded],
        stored.embeddings.preprocessing,
        device,
        num_threads,
    )
    new = _readable(new, added)
    is_new = {photo.sha256 for photo in new}
    lines = [photo for photo in stored.photos if photo.sha256 not in is_new]
    lines += [replace(photo, path="") for photo in new]
    lines.sort(key=lambda photo: (photo.sha256, photo.label))
    lines = divide(lines, stored.settings)
    checks.check_classes(sorted({photo.label for photo in lines}), lines, 0)
    # An Edge TPU gives the CPU's embeddings, but for rounding.
    added = replace(added, extractor=stored.embeddings.extractor)
    updated = replace(stored, embeddings=merge([stored.embeddings, added]), photos=lines)
    if stored.settings.pseudo_labels:
        log.info(
            "The model had also learned from photos without a label (pseudo_labels). These are not "
            "in the bundle, so it is trained without them now. To keep what they teach, add the "
            "new photos to the dataset and train on the PC."
        )
        updated = replace(updated, settings=replace(stored.settings, pseudo_labels=False))
    trained = updated.train(num_threads)
    labelled, labels = trained.labelled, trained.predictions.labels
    is_right = trained.predictions.predicted == labels
    taught = np.array([labelled.identities[row] in is_new for row in labelled.rows], bool)
    results, after = {}, {}
    for i, name in enumerate(labelled.classes):
        results[name] = _count(is_right, labels == i)
        after[name] = _count(is_right, (labels == i) & ~taught if name in classes else labels == i)
    scores = score(bundle / CPU_MODEL, labelled.vectors[labelled.rows[taught]])
    names = np.array(labelled.classes)[labels[taught]]
    lesson = Lesson(
        photos=len(new),
        trained_on=int(taught.sum()),
        new_classes=tuple(name for name in labelled.classes if name not in classes),
        before=stored.results,
        after=after,
        right_before=int(np.sum(np.array(classes)[scores.argmax(axis=1)] == names)),
        right_after=int(np.sum(is_right[taught])),
    )
    _replace(bundle, new, trained.head, replace(updated, results=results))
    return lesson


def _count(is_right: np.ndarray, chosen: np.ndarray) -> tuple[int, int]:
    """Returns how many of the chosen photos, [N] bool, are right, and how many they are."""
    return int(np.sum(is_right & chosen)), int(np.sum(chosen))


def _imprint(
    bundle: Path, given: Sequence[Photo], classes: Sequence[str], device: str, num_threads: int
) -> Lesson:
    """Adds classes to a head whose embeddings are not stored; the others keep their weights."""
    known = ClassMeans.load(bundle / ClassMeans.FILE_NAME)
    if taken := sorted({photo.label for photo in given} & set(classes)):
        raise UserError(
            f"{bundle} has no {StoredEmbeddings.FILE_NAME}, so only new classes can be added to "
            f"its model, but it has {', '.join(taken)} already. Leave these out, or make a bundle "
            "with embeddings: set bundle: {embeddings: true} in config.yaml."
        )
    embeddings = _embed(bundle, given, known.preprocessing, device, num_threads)
    new = _readable(given, embeddings)
    added = sorted({photo.label for photo in new})
    labels = {photo.sha256: added.index(photo.label) for photo in new}
    order = np.array([labels[name] for name in embeddings.photos.astype(str).tolist()])
    values = embeddings.quantization.dequantize(embeddings.embeddings)
    head = read_head(Model.load(bundle / CPU_MODEL), tuple(classes))
    head, means = imprint.add_classes(head, known.means, values, order, added)
    predicted = head.logits(values).argmax(axis=1)
    lesson = Lesson(
        photos=len(new),
        trained_on=len(new),
        new_classes=tuple(added),
        right_after=int(np.sum(predicted == order + len(classes))),
    )
    _replace(bundle, new, head, replace(known, classes=head.classes, means=means))
    return lesson


def _embed(
    bundle: Path, photos: Sequence[Photo], version: str, device: str, num_threads: int
) -> Embeddings:
    """Embeds photos with the model's own extractor, on an Edge TPU if there is one."""
    resize = version.partition(" ")[0]
    if version != preprocessing.version(resize):
        raise UserError(
            f"{bundle} was made by another version of edgetpu-retrain, which prepares photos in "
            "another way. Use the learn.py that is in it."
        )
    is_compiled = (bundle / EDGETPU_MODEL).is_file()
    device = devices.resolve_device(device) if is_compiled or device != "auto" else "cpu"
    model = Model.load(bundle / (CPU_MODEL if device == "cpu" else EDGETPU_MODEL))
    on = "the CPU" if device == "cpu" else f"the Edge TPU {device}"
    log.info("Embedding %d photos on %s ...", len(photos), on)
    with tempfile.TemporaryDirectory() as folder:
        extractor = Path(folder, "extractor.tflite")
        without_head(model).save(extractor)
        paths = {photo.sha256: photo.path for photo in sorted(photos, key=lambda one: one.sha256)}
        return embed(paths, extractor, device, resize, num_threads=num_threads)


def _readable(photos: Sequence[Photo], embeddings: Embeddings) -> list[Photo]:
    """Returns the photos that could be decoded, and logs a warning about the others."""
    reasons = embeddings.undecodable_reasons()
    for photo in photos:
        if reason := reasons.get(photo.sha256):
            log.warning("Skipped %s: %s", photo.path, reason)
    readable = [photo for photo in photos if photo.sha256 not in reasons]
    if not readable:
        raise UserError("None of the photos can be read.")
    return readable


def _replace(
    bundle: Path, new: Sequence[Photo], head: Head, memory: StoredEmbeddings | ClassMeans
) -> None:
    """Writes the model anew, as a whole or not at all, and keeps the photos it was taught."""
    copies = _copy(new, bundle / LEARNED)
    with files.replacing(bundle / FOLDER) as staged:
        staged.mkdir()
        for name in (CPU_MODEL, EDGETPU_MODEL):
            if (bundle / name).is_file():
                extractor = without_head(Model.load(bundle / name))
                classifier = append_head(extractor, head)
                resize = read_resize(bundle / name)
                metadata.save_with_class_names(classifier, head.classes, staged / name, resize)
        write_label_map(head.classes, staged / LABELS)
        memory.save(staged / memory.FILE_NAME)
        with Image.open(bundle / CHECK_PICTURE) as picture:
            scores = Interpreter(staged / CPU_MODEL, "cpu").scores(np.asarray(picture))
        expected = json.loads((bundle / CHECK).read_text("utf-8"))
        make.write_answer(expected | make.answer(head.classes, scores), staged / CHECK)
        for path in list(staged.iterdir()):
            _keep(bundle / path.name, staged / f"{path.name}{PREVIOUS}")
    complete(bundle)
    for copy in copies:
        for other in bundle.glob(f"{LEARNED}/*/{copy.name}"):
            if other != copy:
                other.unlink()


def _keep(path: Path, previous: Path) -> None:
    try:
        os.link(path, previous)
    except OSError:
        # A memory card with FAT has no links.
        shutil.copyfile(path, previous)


def _copy(photos: Sequence[Photo], folder: Path) -> list[Path]:
    """Copies photos into one folder per class; returns the paths of all copies."""
    copies = []
    for photo in photos:
        suffix = Path(photo.path).suffix.lower()
        copy = folder / photo.label / f"{photo.sha256[:_NAME_DIGITS]}{suffix}"
        if not Path(photo.path).resolve().is_relative_to(folder.resolve()):
            with files.replacing(copy) as temporary:
                shutil.copyfile(photo.path, temporary)
        copies.append(copy)
    return copies
