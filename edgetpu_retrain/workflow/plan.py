"""The plan of a run, made once at its start: dataset, backbones, recipes, device, fingerprints."""

import contextlib
import functools
import logging
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetpu_retrain.backbone import compiler
from edgetpu_retrain.backbone.kinds import Backbone
from edgetpu_retrain.backbone.sources import Source
from edgetpu_retrain.config.datasets import (
    Dataset,
    find_corrections,
    find_dataset,
    find_test_dataset,
    find_unlabelled,
    name_unlabelled,
)
from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest, scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Digests
from edgetpu_retrain.io import archive
from edgetpu_retrain.photos import decode, walk
from edgetpu_retrain.runtime import devices
from edgetpu_retrain.workflow import fingerprints
from edgetpu_retrain.workflow.fingerprints import Fingerprints, digest
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
        unlabelled: folders of unlabelled photos.
        corrections: path of the corrections; None if there are none.
        labels: path of the corrections file that the labelling page writes; it need not exist yet.
        test_dataset: path of the test dataset; None if there is none.
        device: the device for embedding and evaluation.
        compiler: path of edgetpu_compiler; None if there is none for this machine.
        num_shards: number of shards.
        fingerprints: the expected fingerprints of all outputs.
    """

    dataset: Dataset
    backbone: str
    recipe: str
    backbones: dict[str, Backbone]
    backbone_specs: dict[str, str | dict[str, Any]]
    recipes: dict[str, dict[str, Any]]
    compared: list[ComparedModel]
    unlabelled: tuple[str, ...]
    corrections: str | None
    labels: str
    test_dataset: str | None
    device: str
    compiler: str | None
    num_shards: int
    fingerprints: Fingerprints

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
        find_unlabelled(unlabelled, dataset.folder)
    else:
        dataset = name_unlabelled(unlabelled[0], _RESERVED)
    selection = Selection(settings, catalogue)
    backbone = selection.backbones[selection.models[0].backbone]
    labels = settings.corrections or (_LABELS if unlabelled else None)
    corrections = find_corrections(labels, may_be_new=bool(unlabelled))
    test_dataset = find_test_dataset(settings.test_dataset) if settings.test_dataset else None
    compiler_path = compiler.find(settings.compiler, str(folders.compiler))
    device = settings.device
    if device == "auto" and backbone.needs_compiler and not compiler_path:
        device = "cpu"
    device = devices.resolve_device(device)
    cache = IdentityCache(folders.cache / "files.npz", keep=True)
    results = folders.results / dataset.name
    if scan_photos:
        _warn_about_other_photos(dataset, unlabelled, results)
    photos = _PhotoDigests(
        settings,
        dataset,
        unlabelled,
        results,
        folders.cache,
        cache,
        corrections,
        test_dataset,
        scan_photos,
    )
    cache.save()

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
        device,
        compiler_path,
        photos.num_shards,
        Fingerprints(
            settings,
            dataset.name,
            photos.archive,
            photos.digests,
            photos.test_photos,
            selection.backbones,
            selection.recipes,
            identify_and_save,
            device,
            "" if device == "cpu" else "_edgetpu",
            [(model.backbone, model.recipe) for model in selection.models],
        ),
    )


def _warn_about_other_photos(dataset: Dataset, unlabelled: Sequence[str], results: Path) -> None:
    """Logs a warning if `results` is of another dataset of the same name, which is still there."""
    own = Path(dataset.folder or results.parents[1] / "resources/datasets" / dataset.name)
    if own.is_file():
        # The photos in a table can be anywhere.
        return
    with contextlib.suppress(OSError, UserError):
        first = next(manifest.read(results / "manifest.tsv"), None)
        if first is None or not os.path.exists(first.path):
            return
        above = Path(os.path.abspath(first.path)).parents
        folders = [folder for folder in (own, *map(Path, unlabelled)) if folder.exists()]
        if not any(parent.samefile(folder) for parent in above for folder in folders):
            log.warning(
                "Warning: %s holds the results of another dataset with the name %r, of photos such "
                "as %s. This run replaces them; to keep both, rename one of the folders.",
                results,
                dataset.name,
                first.path,
            )


class _PhotoDigests:
    """The digests of the photos before the run, and the number of shards.

    Attributes:
        archive: a digest that identifies the archive of photos; "" if they are in a folder.
        test_photos: a digest of the test dataset; "" if there is none.
        digests: digests of the photos.
        num_shards: number of shards.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        unlabelled: Sequence[str],
        results: Path,
        caches: Path,
        cache: IdentityCache,
        corrections: str | None,
        test_dataset: str | None,
        scan_photos: bool,
    ) -> None:
        self.archive = self.test_photos = ""
        if test_dataset and scan_photos:
            self.test_photos = _identify_folder(test_dataset, caches)
        current = manifest.count_shards((results / "shards").glob("*-of-*.tsv"))
        if dataset.is_packed:
            self.archive = (
                cache.sha256(dataset.archive)
                if dataset.archive
                else digest(dataset.sha256 or dataset.urls)
            )
            correction = digest("corrections", cache.sha256(corrections) if corrections else None)
            self.num_shards = _choose_shards(settings, dataset, current)
        if dataset.is_packed and not unlabelled:
            self.digests = fingerprints.archive_digests(
                self.archive, settings.split, correction, self.num_shards
            )
        elif dataset.is_packed and scan_photos:
            beside = [_identify_folder(folder, caches) for folder in unlabelled]
            self.digests = fingerprints.archive_digests(
                digest(self.archive, beside), settings.split, correction, self.num_shards
            )
        elif scan_photos:
            index = scan.scan(
                dataset.folder,
                IdentityCache(identity_cache_path(dataset.folder or unlabelled[0], caches)),
                **settings.split.model_dump(),
                corrections_path=corrections,
                unlabelled=unlabelled,
            )
            if settings.shards == "auto":
                count = len(index.photos) + len(index.unlabelled)
                self.num_shards = manifest.choose_shards(count, current)
            else:
                self.num_shards = settings.shards
            self.digests = index.digests(self.num_shards)
        else:
            self.digests = Digests.load(results / "digests.json")
            self.num_shards = len(self.digests.shards)


def _choose_shards(settings: Settings, dataset: Dataset, current: int | None) -> int:
    """Returns the number of shards for photos in an archive, which may not be unpacked yet."""
    if settings.shards != "auto":
        return settings.shards
    count = dataset.photos
    if count is None and current is None and dataset.archive:
        count = archive.count_files(dataset.archive)
    if count is None:
        return current or 1
    return manifest.choose_shards(count, current)


def identity_cache_path(folder: str, caches: Path) -> Path:
    """Returns the path of the identity cache for a folder of photos, in the folder `caches`."""
    name = re.sub(r"[^\w.-]+", "_", Path(folder).name)[:60]
    # The cache holds why files are no photos, which depends on the formats that are read.
    return caches / f"{name}-{digest(os.path.abspath(folder), decode.FORMATS)[:16]}.npz"


def _identify_folder(folder: str, caches: Path) -> str:
    # A cache of its own: the index stores other verdicts on files that are not photos.
    cache = IdentityCache(identity_cache_path(folder, caches / "whole_folders"))
    paths = [
        path
        for path, status in walk.files_below(folder)
        # Reading a pipe could block forever.
        if stat.S_ISREG(status.st_mode) and status.st_size <= decode.MAX_BYTES
    ]
    result = digest([(path, cache.sha256(path)) for path in paths if os.access(path, os.R_OK)])
    cache.save()
    return result


def identify(source: Source, cache: IdentityCache) -> str:
    """Returns a digest that identifies the content of a backbone's file."""
    if source.path is not None:
        return cache.sha256(source.path)
    return digest(source.sha256 or source.git_blob or source.urls, source.member)
