"""Look up what a configuration names, and put its mistakes into words."""

import contextlib
import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema

from edgetpu_retrain.errors import UserError

_MAX_SUGGESTIONS = 3


@dataclass(frozen=True)
class Dataset:
    """Where the photos come from; one of the four sources is set.

    Attributes:
        name: names its folder below results/.
        folder: a folder of photos, used in place.
        archive: an archive on disk.
        urls: addresses of one archive.
        drawn: how the sample is drawn.
        sha256: the archive's checksum, if known.
    """

    name: str
    folder: str | None = None
    archive: str | None = None
    urls: tuple[str, ...] = ()
    drawn: Mapping[str, int] = field(default_factory=dict)
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """A file: at a path, or at addresses with a checksum.

    Attributes:
        path: where it is on disk.
        urls: addresses of it, tried in this order.
        sha256: its checksum.
        git_blob: its git blob id.
        member: its name in the archive that the addresses and checksums are of.
    """

    path: str | None = None
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    git_blob: str | None = None
    member: str | None = None

    @classmethod
    def parse(cls, entry: str | Mapping[str, Any] | None) -> "Source | None":
        """Reads a file's entry in workflow/backbones.yaml."""
        if entry is None:
            return None
        if isinstance(entry, str):
            return cls(path=os.path.expanduser(entry))
        urls = entry["url"]
        known = {key: value for key, value in entry.items() if key != "url"}
        return cls(urls=(urls,) if isinstance(urls, str) else tuple(urls), **known)


@dataclass(frozen=True)
class Backbone:
    """A pre-trained network; see workflow/backbones.yaml.

    Attributes:
        name: names its folder below results/DATASET/.
        extractor: its extractor for the CPU, if it is published.
        compiled: its extractor for the Edge TPU, if it is published.
        frozen_graph: the graph to cut, where it is made of one.
        tflite: the quantized classifier to cut, where it is made of one.
        tensor: name of the embedding in the graph or classifier.
        input: name of the image in the graph.
        width: how wide the embedding is, if that is known.
        mean: the pixel value that stands for 0.
        std: how many pixel values stand for 1.
    """

    name: str
    extractor: Source | None
    compiled: Source | None
    frozen_graph: Source | None
    tflite: Source | None
    tensor: str | None
    input: str
    width: int | None
    mean: float
    std: float


def values_from_text(data: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Turns text into the numbers and booleans that a schema wants, in place.

    Snakemake passes on the numbers of ``--config training={reg: 0.1}`` as text, and YAML takes
    ``1e-3`` for text. Numbers that are not finite become text, which a schema refuses.
    """
    for key, subschema in schema["properties"].items():
        value, kind = data.get(key), subschema.get("type")
        if kind == "object" and isinstance(value, dict):
            values_from_text(value, subschema)
        elif kind in ("number", "integer") and isinstance(value, str):
            with contextlib.suppress(ValueError):
                data[key] = int(value) if kind == "integer" else float(value)
        elif kind == "integer" and isinstance(value, float) and value.is_integer():
            # JSON Schema takes 8.0 for an integer, Python does not.
            data[key] = int(value)
        elif kind == "boolean" and isinstance(value, str):
            data[key] = {"true": True, "false": False}.get(value.lower(), value)
        if isinstance(data.get(key), float) and not math.isfinite(data[key]):
            data[key] = str(data[key])


def describe(error: jsonschema.ValidationError, what: str = "config") -> str:
    """Says in one line what a schema found wrong, with the key's full name.

    A schema's `description` is taken as what the value should be.
    """
    key = ".".join(map(str, error.absolute_path))
    where = f"{what}: {key}" if key else what
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        prefix = f"{key}." if key else ""
        unknown = [name for name in error.instance if name not in known]
        return "; ".join(f"{what}: {_unknown(f'{prefix}', name, known)}" for name in unknown)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{where}: {', '.join(missing)} is missing."
    if error.validator == "oneOf" and not key:
        networks = ("extractor", "tflite", "frozen_graph")
        given = " and ".join(key for key in networks if key in error.instance) or "none"
        return (
            f"{where}: give one of extractor, tflite, and frozen_graph (with its tensor), or the "
            f"name of a backbone in workflow/backbones.yaml; given is {given}."
        )
    expected = error.schema.get("description")
    return f"{where} is {error.instance!r}" + (
        f"; expected {expected}." if expected else f": {error.message}."
    )


def _unknown(prefix: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    return (
        f"there is no key '{prefix}{name}'.{_did_you_mean(name, known)} "
        f"The keys are: {', '.join(known)}."
    )


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=_MAX_SUGGESTIONS, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def check_split(validation: float, test: float) -> None:
    """Raises a UserError where a split leaves no photo for training."""
    if validation + test >= 1:
        raise UserError(
            f"config: split.validation ({validation}) and split.test ({test}) leave nothing to "
            "train on; their sum must be below 1."
        )


def find_dataset(
    wanted: str, catalogue: Mapping[str, Mapping[str, Any]], sha256: str | None
) -> Dataset:
    """Resolves the key `dataset`: a name, a folder, an archive, or an address of one.

    Raises:
        UserError: it is none of these, or a checksum is given for what has none.
    """
    found = _find_dataset(wanted, catalogue)
    if sha256 is None:
        return found
    if not (found.archive or found.urls) or wanted in catalogue:
        raise UserError(
            f"config: dataset_sha256 is for an archive of your own; the dataset {wanted!r} is "
            + ("in the catalogue." if wanted in catalogue else "a folder.")
        )
    return Dataset(found.name, archive=found.archive, urls=found.urls, sha256=sha256)


def _find_dataset(wanted: str, catalogue: Mapping[str, Mapping[str, Any]]) -> Dataset:
    if wanted in catalogue:
        entry = catalogue[wanted]
        return Dataset(
            wanted,
            urls=tuple(entry.get("urls", ())),
            drawn=entry.get("drawn", {}),
            sha256=entry.get("sha256"),
        )
    if re.match(r"https?://", wanted):
        return Dataset(_stem(unquote(PurePosixPath(urlsplit(wanted).path).name)), urls=(wanted,))
    path = Path(wanted).expanduser()
    if path.is_dir():
        return Dataset(_slug(path.resolve().name), folder=str(path))
    if path.is_file():
        _check_braces("dataset", str(path))
        return Dataset(_stem(path.name), archive=str(path))
    names = sorted(catalogue)
    raise UserError(
        f"config: dataset is {wanted!r}, which is no folder or archive on disk, no http(s) "
        f"address, and not in workflow/datasets.yaml.{_did_you_mean(wanted, names)} The names "
        f"there are: {', '.join(names)}."
    )


def _check_braces(key: str, path: str) -> None:
    if "{" in path or "}" in path:
        raise UserError(
            f"config: {key} is {path!r}: Snakemake takes braces in a file's name for wildcards. "
            "Rename it."
        )


def _stem(name: str) -> str:
    return _slug(re.sub(r"\.(tgz|tbz2|txz|zip|tar(\.\w+)?)$", "", name, flags=re.IGNORECASE))


def _slug(name: str) -> str:
    """Makes a name that is safe as a folder's: letters of any script, digits, dot, dash."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "photos"


def find_backbone(
    wanted: str | Mapping[str, Any], catalogue: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Resolves the key `backbone`: a name in the catalogue, or an entry of one's own.

    An entry that has the name of one in the catalogue and no network of its own adds to that one.

    Raises:
        UserError: there is none of this name.
    """
    if not isinstance(wanted, str):
        is_network = {"extractor", "tflite", "frozen_graph"}.intersection(wanted)
        known = {} if is_network else catalogue.get(wanted.get("name", ""), {})
        return {**known, **wanted}
    if wanted not in catalogue:
        names = sorted(catalogue)
        raise UserError(
            f"config: backbone is {wanted!r}, which is not in workflow/backbones.yaml."
            f"{_did_you_mean(wanted, names)} The names there are: {', '.join(names)}."
        )
    return {"name": wanted, **catalogue[wanted]}


def parse_backbone(entry: Mapping[str, Any]) -> Backbone:
    """Reads a validated entry.

    Raises:
        UserError: it names a file on disk that is not there.
    """
    backbone = Backbone(
        name=entry["name"],
        extractor=Source.parse(entry.get("extractor")),
        compiled=Source.parse(entry.get("compiled")),
        frozen_graph=Source.parse(entry.get("frozen_graph")),
        tflite=Source.parse(entry.get("tflite")),
        tensor=entry.get("tensor"),
        input=entry["input"],
        width=entry.get("width"),
        mean=entry["mean"],
        std=entry["std"],
    )
    for key in ("extractor", "compiled", "frozen_graph", "tflite"):
        source = getattr(backbone, key)
        if source and source.path:
            _check_braces(f"backbone.{key}", source.path)
        if source and source.path and not Path(source.path).is_file():
            hint = " For an address give {url: ..., sha256: ...}." if "://" in source.path else ""
            raise UserError(f"config: backbone.{key}: there is no file {source.path}.{hint}")
    return backbone
