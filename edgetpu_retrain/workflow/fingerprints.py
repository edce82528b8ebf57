"""Fingerprints: digests of everything that the outputs of each rule depend on."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgetpu_retrain.backbone.fine_tuned import FineTuned, is_nested
from edgetpu_retrain.backbone.kinds import Backbone
from edgetpu_retrain.backbone.sources import Source
from edgetpu_retrain.config.settings import Settings, Split
from edgetpu_retrain.index.index import Digests
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.training import recipes

# Increased when the same inputs give different results than in an earlier version.
_VERSION = 3
# What is downloaded does not depend on the version of this project.
_VERSION_OF_DOWNLOADS = 2


def digest(*parts: Any) -> str:
    """Returns 32 hexadecimal digits that identify JSON-serializable values.

    >>> digest("train", {"seed": 0}) == digest("train", {"seed": 0.0})
    False
    """
    return _digest([_VERSION, *parts])


def digest_of_download(*parts: Any) -> str:
    """Returns a digest as `digest` does, but the same one in every version of this project."""
    return _digest([_VERSION_OF_DOWNLOADS, *parts])


def _digest(parts: list[Any]) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


def archive_digests(archive: str, split: Split, corrections: str, shards: int) -> Digests:
    """Returns the digests of photos of which some are in archives, which may not be unpacked yet.

    Args:
        archive: a digest that identifies the archives and the photos in folders.
        split: the config key `split`.
        corrections: a digest that identifies the corrections, or that there are none.
        shards: number of shards.
    """
    labels = digest("labels", archive, split.model_dump(), corrections)
    parts = (digest("shard", archive, i, shards) for i in range(shards))
    return Digests(labels, labels, tuple(parts))


@dataclass(frozen=True)
class Fingerprints:
    """The expected fingerprints of a run's outputs, with one method per rule, named after it.

    A fingerprint covers everything that a rule's outputs depend on: settings, the content of photos
    and networks, and the fingerprints of the rule's inputs. An output with any other fingerprint is
    out of date, regardless of its timestamp.

    Attributes:
        settings: the validated configuration.
        dataset: name of the dataset.
        archives: digests that identify the archives of photos, by the names of their folders.
        photos: digests of the photos.
        test_photos: a digest of the photos in the test dataset; "" if there is none.
        strangers: a digest of the photos of other things; "" if there are none.
        backbones: backbones by name.
        recipes: training settings by recipe name.
        identify: function that returns a digest of the content of a backbone's file.
        device: the device for embedding and evaluation.
        twin: "_edgetpu" if that device is an Edge TPU, else "".
        compared: names of the backbones and recipes to compare.
        label_lists: SHA-256 of the lists of what networks know, by the networks' names.
    """

    settings: Settings
    dataset: str
    archives: Mapping[str, str]
    photos: Digests
    test_photos: str
    strangers: str
    backbones: Mapping[str, Backbone]
    recipes: Mapping[str, Mapping[str, Any]]
    identify: Callable[[Source], str]
    device: str
    twin: str
    compared: list[tuple[str, str]]
    label_lists: Mapping[str, str]

    def fetch_dataset(self) -> str:  # noqa: D102
        return digest_of_download("fetch_dataset", self.archives.get(self.dataset, ""))

    def extract_dataset(self, packed: str) -> str:  # noqa: D102
        # The user's checksum is verified when the archive is unpacked.
        sha256 = self.settings.dataset_sha256 if packed == self.dataset else None
        return digest("extract_dataset", self.archives.get(packed, ""), sha256)

    def index(self) -> str:  # noqa: D102
        photos = self.photos
        # The digests are an output, too; without unlabelled photos, theirs is empty.
        waiting = [photos.unlabelled] if photos.unlabelled else []
        return digest(
            "index", photos.everything, photos.shards, self.settings.max_skipped, *waiting
        )

    def fetch_backbone(self, backbone: str, part: str) -> str:  # noqa: D102
        chosen = self.backbones[backbone]
        source = chosen.source if part == chosen.FILE_NAME else chosen.compiled
        return digest_of_download("fetch_backbone", source and self.identify(source))

    def make_extractor(self, backbone: str) -> str:  # noqa: D102
        chosen = self.backbones[backbone]
        source = self.identify(chosen.source)
        return digest("make_extractor", chosen.KIND, source, chosen.settings())

    make_float_extractor = make_extractor

    def choose_calibration_photos(self, backbone: str) -> str:  # noqa: D102
        calibration = self.settings.calibration
        photos = self._photos(calibration.refresh)
        return digest("choose_calibration_photos", calibration.photos, photos)

    def _photos(self, refresh: bool) -> str:
        """Returns what an extractor that was made with photos depends on of them."""
        return self.photos.labels if refresh else self.settings.dataset or self.dataset

    def quantize(self, backbone: str) -> str:  # noqa: D102
        chosen = self.backbones[backbone]
        inputs = self.make_float_extractor(backbone), self.choose_calibration_photos(backbone)
        version = preprocessing.version(self.settings.resize)
        settings = chosen.mean, chosen.std, version, self._allow_cpu_operators
        return digest("quantize", inputs, settings)

    def fine_tune(self, backbone: str) -> str:  # noqa: D102
        chosen = self._fine_tuned(backbone)
        photos = self._photos(self.settings.fine_tune.refresh)
        settings = (
            chosen.layers,
            chosen.mirror,
            self.settings.seed,
            preprocessing.version(self.settings.resize),
        )
        return digest("fine_tune", self._extractor(chosen.base.name, ""), photos, settings)

    def fine_tune_folds(self, backbone: str) -> str:  # noqa: D102
        return digest("fine_tune_folds", self.fine_tune(backbone))

    def rewrite(self, backbone: str) -> str:  # noqa: D102
        base = self._fine_tuned(backbone).base
        return digest("rewrite", self.fine_tune(backbone), self.take_compiled(base.name))

    def _fine_tuned(self, backbone: str) -> FineTuned:
        chosen = self.backbones[backbone]
        assert isinstance(chosen, FineTuned)
        return chosen

    @property
    def _allow_cpu_operators(self) -> bool:
        return self.settings.compiler.allow_cpu_operators

    def take_compiled(self, backbone: str) -> str:  # noqa: D102
        chosen = self.backbones[backbone]
        compiled = chosen.compiled and self.identify(chosen.compiled)
        extractor = self._extractor(backbone, "")
        return digest("take_compiled", extractor, compiled, self._allow_cpu_operators)

    def compile(self, backbone: str) -> str:  # noqa: D102
        runtime_version = self.settings.compiler.min_runtime_version
        extractor = self._extractor(backbone, "")
        return digest("compile", extractor, runtime_version, self._allow_cpu_operators)

    def _extractor(self, backbone: str, twin: str) -> str:
        chosen = self.backbones[backbone]
        if twin and chosen.needs_compiler:
            return self.compile(backbone)
        if chosen.FINE_TUNED:
            return self.rewrite(backbone) if twin else self.fine_tune(backbone)
        if twin:
            return self.take_compiled(backbone)
        return self.quantize(backbone) if chosen.CALIBRATED else self.make_extractor(backbone)

    def _embedding(self, backbone: str) -> str:
        """Returns a digest of everything that an embedding depends on besides the photo."""
        version = preprocessing.version(self.settings.resize)
        return digest(self._extractor(backbone, self.twin), version)

    def embed(self, backbone: str, shard: str) -> str:  # noqa: D102
        photos = self.photos.shards[int(shard.partition("-")[0])]
        return digest("embed", photos, self._embedding(backbone))

    def collect_skipped(self, backbone: str) -> str:  # noqa: D102
        shards = len(self.photos.shards)
        return digest("skipped", self.photos.everything, shards, self._embedding(backbone))

    def seed(self, recipe: str) -> int:
        """Returns the random seed for a recipe; 0 if it uses none."""
        return self.settings.seed if self.recipes[recipe]["recipe"] in recipes.RANDOM else 0

    def train(self, backbone: str, recipe: str) -> str:  # noqa: D102
        none = ["none"] if self.settings.none else []
        settings = self.recipes[recipe], self.seed(recipe), self.settings.max_skipped, *none
        waiting = [self.photos.unlabelled] if self.recipes[recipe].get("pseudo_labels") else []
        photos = [self.photos.labels, *waiting]
        chosen = self.backbones[backbone]
        nested = [self.fine_tune_folds(backbone)] if is_nested(chosen) else []
        return digest("train", *photos, settings, self._embedding(backbone), *nested)

    def serialize(self, backbone: str, recipe: str, twin: str) -> str:  # noqa: D102
        parts = self.train(backbone, recipe), self._extractor(backbone, twin), self.settings.resize
        return digest("serialize", parts)

    def evaluate(self, backbone: str, recipe: str) -> str:  # noqa: D102
        model = self.serialize(backbone, recipe, self.twin)
        strangers = [self.settings.strangers, self.strangers] if self.settings.strangers else []
        photos = self.photos.everything, self.settings.test_dataset, self.test_photos, *strangers
        return digest("evaluate", model, photos, self.device)

    def plot_confusion_matrix(self, backbone: str, recipe: str) -> str:  # noqa: D102
        return digest("plot", self.evaluate(backbone, recipe))

    def report(self, backbone: str, recipe: str) -> str:  # noqa: D102
        models = [self.serialize(backbone, recipe, twin) for twin in {"", self.twin}]
        settings = self.settings.model_dump(
            include={"dataset", "unlabelled", "corrections", "split"}
        )
        # Reports made without lists of labels stay current.
        lists = [self.label_lists] if self.label_lists else []
        return digest("report", self.evaluate(backbone, recipe), sorted(models), settings, *lists)

    def export(self) -> str:  # noqa: D102
        return digest("export", self.photos.everything)

    def label(self, backbone: str, recipe: str, labels: str) -> str:  # noqa: D102
        photos = self.dataset, self.photos.shards
        is_trained_on = bool(self.settings.unlabelled or self.settings.corrections)
        # The output contains paths with the name of the backbone.
        settings = backbone, labels, is_trained_on
        return digest("label", photos, settings, self._embedding(backbone))

    def compare(self) -> str:  # noqa: D102
        return digest("compare", [self.evaluate(*names) for names in self.compared])

    def model(self, backbone: str, recipe: str) -> str:
        """Returns the digest of a run's model, the same for the CPU and the Edge TPU version.

        All results at the top level of the working directory must be of the same model.
        """
        model = self.serialize(backbone, recipe, "")
        return digest("model", self.dataset, backbone, recipe, model)

    def deliver(self, backbone: str, recipe: str) -> str:  # noqa: D102
        return digest("deliver", self.model(backbone, recipe), self.report(backbone, recipe))

    def deliver_edgetpu(self, backbone: str, recipe: str) -> str:  # noqa: D102
        model = self.serialize(backbone, recipe, "_edgetpu")
        return digest("deliver_edgetpu", self.model(backbone, recipe), model)

    def bundle(self, backbone: str, recipe: str, twins: list[str]) -> str:  # noqa: D102
        models = [self.serialize(backbone, recipe, twin) for twin in twins]
        fractions = self.settings.split.model_dump(include={"validation", "test"})
        settings = self.settings.bundle.model_dump(), fractions
        photos = self.photos.everything
        return digest("bundle", self.model(backbone, recipe), models, photos, settings)

    def frigate(self, backbone: str, recipe: str, name: str) -> str:  # noqa: D102
        return digest("frigate", self.model(backbone, recipe), name)
