"""The plan of a run, made once at its start: dataset, backbones, recipes, device, fingerprints."""

import contextlib
import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetpu_retrain.backbone import compiler, known_classes
from edgetpu_retrain.backbone.kinds import Backbone
from edgetpu_retrain.backbone.sources import Source
from edgetpu_retrain.config.datasets import (
    Dataset,
    check_unlabelled,
    find_corrections,
    find_dataset,
    find_test_folder,
    find_unlabelled,
    name_unlabelled,
)
from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.io import files
from edgetpu_retrain.runtime import devices
from edgetpu_retrain.workflow.fingerprints import Fingerprints, digest_of_download
from edgetpu_retrain.workflow.photo_digests import PhotoDigests
from edgetpu_retrain.workflow.selection import ComparedModel, Selection, read_catalogue

log = logging.getLogger(__name__)

# Folders in results/ that do not belong to a dataset.
_RESERVED = {"backbones"}
# The file that the labelling page writes if `corrections` is not set.
_LABELS = "corrections.tsv"


@dataclass(frozen=True)
class Folders:
    """The folders that a plan depends on.

    Attributes:
        workflow: the folder of the Snakefile.
        results: the folder results/ of this run.
        compiler: the folder that edgetpu_compiler is downloaded to.
        cache: the folder of the identity caches.
    """

    workflow: Path
    results: Path
    compiler: Path
    cache: Path


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        dataset: the configured dataset.
        backbone: name of the configured backbone.
        recipe: name of the configured recipe.
        backbones: the configured backbone and those to compare, by name.
        backbone_specs: their names or descriptions in the configuration, by name.
        recipes: settings of the configured recipe and those to compare, by name.
        compared: the models to compare, the configured one first.
        unlabelled: folders and archives of unlabelled photos.
        corrections: path of the corrections; None if there are none.
        labels: path of the corrections file that the labelling page writes; it need not exist yet.
        test_dataset: path of the test dataset; None if there is none.
        strangers: path of the folder of photos of other things; None if there is none.
        device: the device for embedding and evaluation.
        compiler: path of edgetpu_compiler; None if there is none for this machine.
        num_shards: number of shards.
        label_lists: paths of the lists of what networks know, by the networks' names; None for
            those that have not been downloaded.
        fingerprints: the expected fingerprints of all outputs.
    """

    dataset: Dataset
    backbone: str
    recipe: str
    backbones: dict[str, Backbone]
    backbone_specs: dict[str, str | dict[str, Any]]
    recipes: dict[str, dict[str, Any]]
    compared: list[ComparedModel]
    unlabelled: tuple[Dataset, ...]
    corrections: str | None
    labels: str
    test_dataset: str | None
    strangers: str | None
    device: str
    compiler: str | None
    num_shards: int
    label_lists: dict[str, str | None]
    fingerprints: Fingerprints

    @property
    def packed(self) -> dict[str, Dataset]:
        """What is in archives, by the names of the folders that these are unpacked to."""
        return {one.name: one for one in (self.dataset, *self.unlabelled) if one.is_packed}

    @property
    def twin(self) -> str:
        """The suffix of file names of models for `device`: "_edgetpu" or ""."""
        return self.fingerprints.twin


def make(settings: Settings, folders: Folders, scan_photos: bool = True) -> Plan:
    """Resolves the configuration and scans the photos.

    Args:
        settings: the validated configuration.
        folders: the folders to use.
        scan_photos: whether to scan the folder of photos. If not, the digests saved by the rule
            index are used, as in jobs that run on other machines.

    Raises:
        UserError: something that the configuration names does not exist, or the configuration
            contradicts itself.
    """
    catalogue = read_catalogue(folders.workflow, "backbones")
    datasets = read_catalogue(folders.workflow, "datasets")
    unlabelled = find_unlabelled(settings.unlabelled)
    if settings.dataset:
        dataset = find_dataset(
            settings.dataset, datasets, settings.dataset_sha256, reserved=_RESERVED
        )
    else:
        dataset = name_unlabelled(unlabelled[0], _RESERVED)
    check_unlabelled(unlabelled, dataset)
    selection = Selection(settings, catalogue)
    backbone = selection.backbones[selection.models[0].backbone]
    labels = settings.corrections or (_LABELS if unlabelled else None)
    corrections = find_corrections(labels, may_be_new=bool(unlabelled))
    test_dataset = find_test_folder("test_dataset", settings.test_dataset)
    strangers = find_test_folder("strangers", settings.strangers)
    compiler_path = compiler.find(settings.compiler, str(folders.compiler))
    device = settings.device
    if device == "auto" and backbone.needs_compiler and not compiler_path:
        device = "cpu"
    device = devices.resolve_device(device)
    cache = IdentityCache(folders.cache / "files.npz", keep=True)
    results = folders.results / dataset.name
    if scan_photos:
        _warn_about_other_photos(dataset, unlabelled, results)
    photos = PhotoDigests(
        settings,
        dataset,
        unlabelled,
        results,
        folders.cache,
        cache,
        corrections,
        test_dataset,
        strangers,
        scan_photos,
    )
    cache.save()

    label_lists = {
        name: str(path) if path.is_file() else None
        for name, entry in catalogue.items()
        if "labels" in entry
        for path in [known_classes.labels_path(folders.workflow, name)]
    }

    @functools.cache
    def identify_and_save(source: Source) -> str:
        # Called only when a fingerprint is needed, so the cache has to be saved again.
        identity = identify(source, cache)
        cache.save()
        return identity

    return Plan(
        dataset,
        backbone.name,
        selection.models[0].recipe,
        selection.backbones,
        selection.specs,
        selection.recipes,
        selection.models,
        unlabelled,
        corrections,
        str(Path(labels or _LABELS).expanduser()),
        test_dataset,
        strangers,
        device,
        compiler_path,
        photos.num_shards,
        label_lists,
        Fingerprints(
            settings,
            dataset.name,
            photos.archives,
            photos.digests,
            photos.test_photos,
            photos.strangers,
            selection.backbones,
            selection.recipes,
            identify_and_save,
            device,
            "" if device == "cpu" else "_edgetpu",
            [(model.backbone, model.recipe) for model in selection.models],
            {name: files.sha256(path) for name, path in label_lists.items() if path},
        ),
    )


def _warn_about_other_photos(
    dataset: Dataset, unlabelled: Sequence[Dataset], results: Path
) -> None:
    """Logs a warning if `results` is of another dataset of the same name, which is still there."""
    unpacked = results.parents[1] / "resources/datasets"
    own = [Path(one.folder or unpacked / one.name) for one in (dataset, *unlabelled)]
    if own[0].is_file():
        # The photos in a table can be anywhere.
        return
    with contextlib.suppress(OSError, UserError):
        first = next(manifest.read(results / "manifest.tsv"), None)
        if first is None or not os.path.exists(first.path):
            return
        above = Path(os.path.abspath(first.path)).parents
        folders = [folder for folder in own if folder.exists()]
        if not any(parent.samefile(folder) for parent in above for folder in folders):
            log.warning(
                "Warning: %s holds the results of another dataset with the name %r, of photos such "
                "as %s. This run replaces them; to keep both, rename one of the folders.",
                results,
                dataset.name,
                first.path,
            )


def identify(source: Source, cache: IdentityCache) -> str:
    """Returns a digest that identifies the content of a backbone's file."""
    if source.path is not None:
        return cache.sha256(source.path)
    return digest_of_download(source.sha256 or source.git_blob or source.urls, source.member)
