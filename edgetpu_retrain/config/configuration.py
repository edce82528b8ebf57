"""Look up what a configuration names, and put its mistakes into words."""

import contextlib
import difflib
import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema

from edgetpu_retrain.errors import UserError

_MAX_SUGGESTIONS = 3


@dataclass(frozen=True)
class Dataset:
    """Where the photos come from; one of the three sources is set.

    Attributes:
        name: names its folder below results/.
        folder: a folder of photos, used in place.
        archive: an archive on disk.
        urls: addresses of one archive.
        sha256: the archive's checksum, if known.
        photos: how many photos there are in the archive, if known.
    """

    name: str
    folder: str | None = None
    archive: str | None = None
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    photos: int | None = None


def check(
    data: dict[str, Any], properties: Mapping[str, Any], required: Sequence[str], what: str
) -> None:
    """Checks a mapping by JSON schemas of its keys; text that stands for numbers becomes numbers.

    Raises:
        UserError: a key is missing, unknown or of a wrong value; `what` begins the text.
    """
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        "required": list(required),
    }
    values_from_text(data, schema)
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(data)
    )
    if error is not None:
        raise UserError(describe(error, what))


def values_from_text(data: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Turns text into the numbers and booleans that a schema wants, in place.

    Snakemake passes on the numbers of ``--config training={reg: 0.1}`` as text, and YAML takes
    ``1e-3`` for text. Numbers that are not finite become text, which a schema refuses.
    """
    for key, subschema in schema["properties"].items():
        value, kind = data.get(key), subschema.get("type")
        if kind == ["integer", "string"]:
            # Such text as stands for no number is left as it is.
            kind = "integer"
        if kind == "object" and isinstance(value, dict):
            values_from_text(value, subschema)
        elif kind == "array" and isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    values_from_text(item, {"properties": {}, **subschema["items"]})
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
    expected = error.schema.get("description")
    return f"{where} is {error.instance!r}" + (
        f"; expected {expected}." if expected else f": {error.message}."
    )


def _unknown(prefix: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    return (
        f"there is no key '{prefix}{name}'.{did_you_mean(name, known)} "
        f"The keys are: {', '.join(known)}."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that names what is near to a misspelt name, or nothing."""
    near = difflib.get_close_matches(name, known, n=_MAX_SUGGESTIONS, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def check_test_dataset(folder: str) -> str:
    """Returns the path of a folder of photos; it may begin with ``~``.

    Raises:
        UserError: there is no such folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"config: test_dataset: there is no folder {path}.")
    return str(path)


def check_split(validation: float, test: float) -> None:
    """Raises a UserError where a split leaves no photo for training."""
    if validation + test >= 1:
        raise UserError(
            f"config: split.validation ({validation}) and split.test ({test}) leave nothing to "
            "train on; their sum must be below 1."
        )


def find_dataset(
    wanted: str,
    catalogue: Mapping[str, Mapping[str, Any]],
    sha256: str | None = None,
    reserved: Container[str] = (),
) -> Dataset:
    """Resolves the key `dataset`: a name, a folder, an archive, or an address of one.

    Args:
        wanted: what the key says.
        catalogue: the data sets that have a name.
        sha256: the checksum of an archive of the user's own.
        reserved: names that no data set can have.

    Raises:
        UserError: it is none of these, or a checksum is given for what has none.
    """
    found = _find_dataset(wanted, catalogue)
    if found.name in reserved:
        raise UserError(
            f"config: dataset is {wanted!r}, but results/{found.name} is for something else: "
            "rename it."
        )
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
            archive=entry.get("archive"),
            urls=tuple(entry.get("urls", ())),
            sha256=entry.get("sha256"),
            photos=entry.get("photos"),
        )
    if re.match(r"https?://", wanted):
        return Dataset(_stem(unquote(PurePosixPath(urlsplit(wanted).path).name)), urls=(wanted,))
    path = Path(wanted).expanduser()
    if path.is_dir():
        folder = path.resolve()
        # Frigate's photos lie in clips/NAME/dataset.
        name = folder.parent.name if folder.name == "dataset" else folder.name
        return Dataset(_slug(name), folder=str(path))
    if path.is_file():
        check_braces("dataset", str(path))
        return Dataset(_stem(path.name), archive=str(path))
    names = sorted(catalogue)
    raise UserError(
        f"config: dataset is {wanted!r}, which is not a folder or archive on disk, not an "
        f"http(s) address, and not in workflow/datasets.yaml.{did_you_mean(wanted, names)} "
        f"The names there are: {', '.join(names)}."
    )


def find_corrections(wanted: str | None) -> str | None:
    """Returns the path that the key `corrections` names, or None where there is none.

    Raises:
        UserError: there is no such file.
    """
    if not wanted:
        return None
    path = Path(wanted).expanduser()
    if not path.is_file():
        raise UserError(
            f"config: corrections is {wanted!r}, but there is no such file. Save it with the "
            "button on the report's page, or remove the key."
        )
    return str(path)


def check_braces(key: str, path: str) -> None:
    """Raises a UserError where Snakemake would take a path of the configuration for a pattern."""
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
