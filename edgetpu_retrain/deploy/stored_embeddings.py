"""What a bundle needs to train its model again: embeddings.npz, or the means of the classes."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings, merge
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import l2_normalize
from edgetpu_retrain.index.manifest import SPLITS, Photo
from edgetpu_retrain.index.splits import assign_splits
from edgetpu_retrain.io import files
from edgetpu_retrain.training import recipes
from edgetpu_retrain.training.predictions import OutOfFold

# Correctly classified photos and all photos of each class, in cross-validation.
Results = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Settings:
    """How a head was trained.

    Attributes:
        training: the recipe and its settings, as keyword arguments of `recipes.train`.
        seed: seed of the random numbers.
        validation: the fraction of photos for validation.
        test: the fraction of photos for testing.
        none: whether photos that are like no training photo get the class `none`.
        has_own_splits: whether folders or a table said which split each photo is in. New photos
            are then trained on; otherwise they are divided by their content, as all are.
        pseudo_labels: whether the head has also learned from photos without a label. Their
            embeddings are not stored, so it is trained without them from now on.
    """

    training: Mapping[str, Any]
    seed: int
    validation: float
    test: float
    none: bool = False
    has_own_splits: bool = False
    pseudo_labels: bool = False


@dataclass(frozen=True)
class StoredEmbeddings:
    """The embeddings that a head was trained on, and how.

    Attributes:
        embeddings: of all photos.
        photos: the lines of the manifest, without paths.
        settings: how the head was trained.
        results: of the cross-validation.
        seen: SHA-256 of the photos that the extractor was fine-tuned on, and of near-copies.
    """

    FILE_NAME: ClassVar[str] = "embeddings.npz"

    embeddings: Embeddings
    photos: Sequence[Photo]
    settings: Settings
    results: Results
    seen: Sequence[str] = ()

    @classmethod
    def of_run(
        cls,
        shards: Iterable[str | Path],
        photos: Iterable[Photo],
        settings: Settings,
        out_of_fold: OutOfFold,
        classes: Sequence[str],
    ) -> "StoredEmbeddings":
        """Collects what a run of the workflow has computed.

        Args:
            shards: paths of files written by `Embeddings.save`.
            photos: the lines of the manifest.
            settings: how the head was trained; `has_own_splits` is found out here.
            out_of_fold: predictions from cross-validation.
            classes: names of the classes, in the order of the scores.
        """
        lines = [replace(photo, path="") for photo in photos]
        lines.sort(key=lambda photo: (photo.sha256, photo.label))
        is_listed = {photo.sha256 for photo in lines}
        settings = replace(settings, has_own_splits=divide(lines, settings) != lines)
        predicted = dict(
            zip(out_of_fold.identities, out_of_fold.scores.argmax(axis=1).tolist(), strict=True)
        )
        # Training on the device judges only photos that the extractor has not seen.
        for sha256 in out_of_fold.seen:
            predicted.pop(sha256, None)
        results: Results = {}
        for photo in lines:
            if photo.split != SPLITS[TEST] and photo.sha256 in predicted:
                right, count = results.get(photo.label, (0, 0))
                is_right = classes[predicted[photo.sha256]] == photo.label
                results[photo.label] = (right + is_right, count + 1)
        return cls(
            merge([Embeddings.load(path) for path in shards]).select(is_listed),
            lines,
            settings,
            results,
            out_of_fold.seen,
        )

    def save(self, path: str | Path) -> None:
        """Writes an .npz file without pickles; equal embeddings give equal files."""
        classes = sorted({photo.label for photo in self.photos})
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                **self.embeddings.arrays(),
                lines=np.array([photo.sha256 for photo in self.photos], "S64"),
                labels=np.array([classes.index(photo.label) for photo in self.photos], np.int32),
                splits=np.array([SPLITS.index(photo.split) for photo in self.photos], np.int8),
                classes=np.array(classes, np.str_),
                settings=np.array(json.dumps(vars(self.settings), sort_keys=True)),
                results=np.array(json.dumps(self.results, sort_keys=True)),
                seen=np.array(self.seen, "S64"),
            )

    @classmethod
    def load(cls, path: str | Path) -> "StoredEmbeddings":
        """Reads a file written by `save`.

        Raises:
            UserError: the file is damaged.
        """
        with _arrays(path) as arrays:
            classes = arrays["classes"].tolist()
            lines = (arrays[name].tolist() for name in ("lines", "labels", "splits"))
            results = json.loads(str(arrays["results"]))
            return cls(
                Embeddings.of_arrays(arrays),
                [
                    Photo("", classes[label], SPLITS[split], sha256.decode())
                    for sha256, label, split in zip(*lines, strict=True)
                ],
                Settings(**json.loads(str(arrays["settings"]))),
                {name: (correct, count) for name, (correct, count) in results.items()},
                [sha256.decode() for sha256 in arrays["seen"].tolist()],
            )

    def train(self, num_threads: int) -> recipes.TrainingResult:
        """Trains a head, as the workflow does with the same photos: the result is the same."""
        labelled = LabelledEmbeddings.join([self.embeddings], self.photos)
        settings = self.settings
        return recipes.train(
            labelled,
            **settings.training,
            seed=settings.seed,
            num_threads=num_threads,
            seen=self.seen,
            none=settings.none,
        )


@contextlib.contextmanager
def _arrays(path: str | Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an .npz file, and reports it as damaged if the block cannot use it."""
    try:
        with files.reading(path), np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except UserError as error:
        raise UserError(
            f"{path} is damaged. If there is a {Path(path).name}.previous, go back to all files of "
            "that kind, otherwise copy the bundle again."
        ) from error


def divide(photos: Sequence[Photo], settings: Settings) -> list[Photo]:
    """Returns the photos in the splits in which the index of the workflow would put them."""
    if settings.has_own_splits:
        return list(photos)
    classes = sorted({photo.label for photo in photos})
    numbers = assign_splits(
        np.array([int(photo.sha256[:16], 16) for photo in photos], np.uint64),
        np.array([classes.index(photo.label) for photo in photos], np.int32),
        settings.validation,
        settings.test,
    )
    pairs = zip(photos, numbers.tolist(), strict=True)
    return [replace(photo, split=SPLITS[number]) for photo, number in pairs]


@dataclass(frozen=True)
class ClassMeans:
    """The mean of each class's embeddings: enough to add a class, but to train none again.

    Attributes:
        classes: names of the C classes, in the order of the model's scores.
        means: [C, D] float32, means of the dequantized embeddings, which are L2-normalized first
            if the head does that.
        preprocessing: version of the preprocessing (`preprocessing.version`).
    """

    FILE_NAME: ClassVar[str] = "class_means.npz"

    classes: tuple[str, ...]
    means: np.ndarray
    preprocessing: str

    @classmethod
    def of(cls, stored: StoredEmbeddings, classes: Sequence[str], normalized: bool) -> "ClassMeans":
        """Computes the means of photos that are not held out for testing.

        Args:
            stored: embeddings of photos.
            classes: names of the classes, in the order of the model's scores.
            normalized: whether the head takes L2-normalized embeddings.
        """
        labelled = LabelledEmbeddings.join([stored.embeddings], stored.photos)
        means = []
        for name in classes:
            is_of = labelled.labels == labelled.classes.index(name)
            values = labelled[is_of & (labelled.splits != TEST)]
            means.append((l2_normalize(values) if normalized else values).mean(axis=0))
        return cls(tuple(classes), np.array(means, np.float32), labelled.preprocessing)

    def save(self, path: str | Path) -> None:
        """Writes an .npz file without pickles."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                classes=np.array(self.classes, np.str_),
                means=self.means,
                preprocessing=np.array(self.preprocessing),
            )

    @classmethod
    def load(cls, path: str | Path) -> "ClassMeans":
        """Reads a file written by `save`.

        Raises:
            UserError: the file is damaged.
        """
        with _arrays(path) as arrays:
            return cls(
                tuple(arrays["classes"].tolist()), arrays["means"], str(arrays["preprocessing"])
            )
