"""What a run works on, decided once: data set, networks, recipes, device and fingerprints."""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgetpu_retrain.backbone import compiler, kinds
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
from edgetpu_retrain.photos import walk
from edgetpu_retrain.runtime import devices
from edgetpu_retrain.training import recipes
from edgetpu_retrain.workflow import fingerprints
from edgetpu_retrain.workflow.fingerprints import Fingerprints, digest

# Folders below results/ that are not of a data set.
_RESERVED = {"backbones"}
# Where labels go if the configuration names no file of corrections.
_LABELS = "corrections.tsv"


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        workflow: the folder of the Snakefile.
        results: the folder results/ of this run.
        compiler: where edgetpu_compiler is downloaded to.
        cache: what is known of the user's files.
    """

    workflow: Path
    results: Path
    compiler: Path
    cache: Path


@dataclass(frozen=True)
class Compared:
    """A backbone and recipe to compare, and what is published of the former on an Edge TPU."""

    backbone: str
    recipe: str
    edgetpu_ms: float | None


@dataclass(frozen=True)
class Plan:
    """What a run works on.

    Attributes:
        dataset: where the photos come from.
        backbone: the name of the configured backbone.
        recipe: the name of the configured recipe.
        backbones: those that are configured or compared, by name.
        specified: how the configuration names these backbones, by name.
        recipes: the settings of those that are configured or compared, by name.
        compared: what is compared, the configured backbone and recipe first.
        unlabelled: folders of unlabelled photos.
        corrections: the path of the corrections; None without.
        labels: the path of the file that the labelling page writes: the corrections, there or not.
        test_dataset: the path of the test dataset; None without.
        device: what embeds and evaluates.
        compiler: the path of edgetpu_compiler; None where there is none for this machine.
        num_shards: into how many shards the photos are divided.
        fingerprints: of the results.
    """

    dataset: Dataset
    backbone: str
    recipe: str
    backbones: dict[str, Backbone]
    specified: dict[str, str | dict[str, Any]]
    recipes: dict[str, dict[str, Any]]
    compared: list[Compared]
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
        """What the names of files for the device end in: "_edgetpu" or nothing."""
        return self.fingerprints.twin


def make(settings: Settings, places: Places, looks_at_photos: bool = True) -> Plan:
    """Looks up what the configuration names, and lists the photos.

    Args:
        settings: the checked configuration.
        places: where things are.
        looks_at_photos: list the folder of photos. Without, the digests that the index left
            are taken: so do the jobs of a run that are started on other machines.

    Raises:
        UserError: the configuration names what is not there, or contradicts itself.
    """
    catalogue = read_catalogue(places.workflow, "backbones")
    datasets = read_catalogue(places.workflow, "datasets")
    unlabelled = find_unlabelled(settings.unlabelled)
    if settings.dataset:
        dataset = find_dataset(
            settings.dataset, datasets, settings.dataset_sha256, reserved=_RESERVED
        )
        find_unlabelled(unlabelled, dataset.folder)
    else:
        dataset = name_unlabelled(unlabelled[0], _RESERVED)
    wanted = settings.corrections or (_LABELS if unlabelled else None)
    compared = _Entries(settings, catalogue)
    backbone = compared.backbones[compared.entries[0].backbone]
    corrections = find_corrections(wanted, may_be_new=bool(unlabelled))
    test_dataset = find_test_dataset(settings.test_dataset) if settings.test_dataset else None
    program = compiler.find(settings.compiler, str(places.compiler))
    device = settings.device
    if device == "auto" and not (backbone.compiled or program):
        device = "cpu"
    device = devices.resolve_device(device)
    cache = IdentityCache(places.cache / "files.npz", keep=True)
    results = places.results / dataset.name
    found = _Photos(
        settings,
        dataset,
        unlabelled,
        results,
        places.cache,
        cache,
        corrections,
        test_dataset,
        looks_at_photos,
    )
    cache.save()

    @functools.cache
    def identified(source: Source) -> str:
        # Files of networks are looked at when a fingerprint is asked for, which is later.
        identity = identify(source, cache)
        cache.save()
        return identity

    return Plan(
        dataset,
        backbone.name,
        compared.entries[0].recipe,
        compared.backbones,
        compared.specified,
        compared.recipes,
        compared.entries,
        unlabelled,
        corrections,
        str(Path(wanted or _LABELS).expanduser()),
        test_dataset,
        device,
        program,
        found.num_shards,
        Fingerprints(
            settings,
            dataset.name,
            found.archive,
            found.digests,
            found.test_photos,
            compared.backbones,
            compared.recipes,
            identified,
            device,
            "" if device == "cpu" else "_edgetpu",
            [(entry.backbone, entry.recipe) for entry in compared.entries],
        ),
    )


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file of the workflow's own."""
    text = Path(path).read_text("utf-8")
    found: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def read_catalogue(workflow: Path, name: str) -> dict[str, dict[str, Any]]:
    """Reads workflow/NAME.yaml; paths in it are taken from the folder of the Snakefile."""
    entries = read_yaml(workflow / "workflow" / f"{name}.yaml")
    if workflow.resolve() != Path.cwd():
        for entry in entries.values():
            for key in {"archive", "compiled", *kinds.KINDS} & entry.keys():
                if isinstance(entry[key], str):
                    entry[key] = os.path.join(workflow, entry[key])
    return entries


class _Entries:
    """The backbones and recipes that are configured and compared."""

    def __init__(self, settings: Settings, catalogue: Mapping[str, Any]) -> None:
        self.backbones: dict[str, Backbone] = {}
        self.specified: dict[str, str | dict[str, Any]] = {}
        self.recipes: dict[str, dict[str, Any]] = {}
        self.entries: list[Compared] = []
        for wanted in [None, *settings.compare]:
            specified, trained_by = settings.backbone, settings.training
            if isinstance(wanted, str):
                specified = wanted
            elif wanted is not None:
                specified = wanted.model_extra or wanted.backbone or specified
                trained_by = wanted.training or trained_by
            if isinstance(specified, str):
                # The configured one, where it is described under a name of the catalogue.
                specified = self.specified.get(specified, specified)
            backbone = kinds.parse(kinds.find(specified, catalogue))
            if self.backbones.setdefault(backbone.name, backbone) != backbone:
                raise UserError(
                    f"config: compare: two different backbones are named {backbone.name!r}. Give "
                    "one of them another name."
                )
            self.specified.setdefault(backbone.name, specified)
            recipe = recipes.settings_of(trained_by.model_dump(exclude_none=True))
            name = recipes.name_of(recipe)
            self.recipes[name] = recipe
            published = catalogue.get(backbone.name, {}).get("edgetpu_ms")
            one = Compared(backbone.name, name, published)
            if one not in self.entries:
                self.entries.append(one)


class _Photos:
    """What is known of the photos before the run: how many there are, and what identifies them."""

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
        looks: bool,
    ) -> None:
        self.archive = self.test_photos = ""
        if test_dataset and looks:
            self.test_photos = _identify_folder(test_dataset, caches)
        current = manifest.count_shards((results / "shards").glob("*-of-*.tsv"))
        if dataset.is_packed:
            self.archive = (
                cache.sha256(dataset.archive)
                if dataset.archive
                else digest(dataset.sha256 or dataset.urls)
            )
            wanted = digest("corrections", cache.sha256(corrections) if corrections else None)
            self.num_shards = _choose_shards(settings, dataset, current)
        if dataset.is_packed and not unlabelled:
            self.digests = fingerprints.of_archive(
                self.archive, settings.split, wanted, self.num_shards
            )
        elif dataset.is_packed and looks:
            beside = [_identify_folder(folder, caches) for folder in unlabelled]
            self.digests = fingerprints.of_archive(
                digest(self.archive, beside), settings.split, wanted, self.num_shards
            )
        elif looks:
            found = scan.scan(
                dataset.folder,
                IdentityCache(cache_of(dataset.folder or unlabelled[0], caches)),
                **settings.split.model_dump(),
                corrected_by=corrections,
                unlabelled=unlabelled,
            )
            if settings.shards == "auto":
                count = len(found.photos) + len(found.unlabelled)
                self.num_shards = manifest.choose_shards(count, current)
            else:
                self.num_shards = settings.shards
            self.digests = found.digests(self.num_shards)
        else:
            self.digests = Digests.load(results / "digests.json")
            self.num_shards = len(self.digests.shards)


def _choose_shards(settings: Settings, dataset: Dataset, current: int | None) -> int:
    """Chooses the number of shards of photos in an archive, which are not counted yet."""
    if settings.shards != "auto":
        return settings.shards
    count = dataset.photos
    if count is None and current is None and dataset.archive:
        count = archive.count_files(dataset.archive)
    if count is None:
        return current or 1
    return manifest.choose_shards(count, current)


def cache_of(folder: str, caches: Path) -> Path:
    """Returns the path of the cache of a folder of photos."""
    name = re.sub(r"[^\w.-]+", "_", Path(folder).name)
    return caches / f"{name}-{digest(os.path.abspath(folder))[:16]}.npz"


def _identify_folder(folder: str, caches: Path) -> str:
    # Of files that are no photos, an index remembers something else.
    cache = IdentityCache(cache_of(folder, caches / "whole_folders"))
    listed = [path for path, _ in walk.files_below(folder)]
    found = digest([(path, cache.sha256(path)) for path in listed if os.access(path, os.R_OK)])
    cache.save()
    return found


def identify(source: Source, cache: IdentityCache) -> str:
    """Returns what identifies the content of a file of a backbone."""
    if source.path is not None:
        return cache.sha256(source.path)
    return digest(source.sha256 or source.git_blob or source.urls, source.member)
