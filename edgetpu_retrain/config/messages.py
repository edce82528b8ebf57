"""Validate what the user wrote with a Pydantic model, and report every mistake in one line."""

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from edgetpu_retrain.errors import UserError

_MAX_SUGGESTIONS = 3


class Section(BaseModel):
    """A mapping in the configuration.

    The `description` of a field says what value is expected; error messages quote it. Numbers and
    booleans may also be given as strings, because Snakemake passes ``--config training={reg: 0.1}``
    as a string and YAML reads ``1e-3`` as one. A key without a value gets its default.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, regex_engine="python-re"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, content: Any) -> Any:
        if isinstance(content, Mapping):
            return {key: value for key, value in content.items() if value is not None}
        return content


def _reject_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


Number = Annotated[float, BeforeValidator(_reject_boolean)]
WholeNumber = Annotated[int, BeforeValidator(_reject_boolean)]
_Model = TypeVar("_Model", bound=BaseModel)


def parse(model: type[_Model], content: Any, prefix: str = "config") -> _Model:
    """Validates a mapping that the user wrote.

    Args:
        model: the model that it must match.
        content: the mapping.
        prefix: what every line of the error message starts with.

    Raises:
        UserError: keys are missing or unknown, or values are invalid; one line for each.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError("\n".join(_describe(model, error.errors(), prefix))) from None


def _describe(model: type[BaseModel], errors: Iterable[ErrorDetails], prefix: str) -> Iterator[str]:
    by_key: dict[tuple[str, ...], tuple[ErrorDetails, type[BaseModel], str]] = {}
    for error in errors:
        names, parent, expected = _locate(model, error)
        by_key.setdefault(names, (error, parent, expected))
    # A value with a union type yields an error per alternative; the innermost is most specific.
    outer = {names[:i] for names in by_key for i in range(len(names))}
    for names, (error, parent, expected) in by_key.items():
        if names in outer:
            continue
        key = ".".join(names)
        if error["type"] == "extra_forbidden":
            yield f"{prefix}: {_describe_unknown(names, parent)}"
        elif error["type"] == "missing":
            yield f"{prefix}: {key} is missing."
        else:
            where = f"{prefix}: {key}" if key else prefix
            # An out-of-range number is shown as a number, even if it was given as a string.
            is_out_of_range = error["type"].startswith(("greater", "less"))
            value = error["input"] if is_out_of_range else repr(error["input"])
            expected = expected or "a mapping of keys and values"
            yield f"{where} is {value}; expected {expected}."


def _locate(
    model: type[BaseModel], error: ErrorDetails
) -> tuple[tuple[str, ...], type[BaseModel], str]:
    """Resolves the location of a validation error.

    Returns:
        The path of keys to the value, the model that contains the last key, and the description of
        the expected value.
    """
    names: list[str] = []
    parent, candidates, expected = model, [model], ""
    for step in error["loc"]:
        fields = {
            field.alias or name: (candidate, field)
            for candidate in candidates
            for name, field in candidate.model_fields.items()
        }
        if step in fields:
            parent, field = fields[str(step)]
            names.append(str(step))
            candidates, expected = list(_models(field.annotation)), field.description or ""
        elif isinstance(step, int):
            names.append(str(step))
        elif chosen := [candidate for candidate in candidates if candidate.__name__ == step]:
            # The step is the name of one alternative of a union type, not of a key.
            candidates = chosen
        elif error["type"] == "extra_forbidden" and candidates:
            parent = candidates[0]
            names.append(step)
    return tuple(names), parent, expected


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models that occur in a type annotation."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models(part)


def _describe_unknown(names: tuple[str, ...], parent: type[BaseModel]) -> str:
    known = sorted(field.alias or name for name, field in parent.model_fields.items())
    return (
        f"there is no key '{'.'.join(names)}'.{did_you_mean(names[-1], known)} "
        f"Valid keys: {', '.join(known)}."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``" Did you mean ...?"`` with the closest of `known`, or "" if none is close."""
    matches = difflib.get_close_matches(name, list(known), n=_MAX_SUGGESTIONS, cutoff=0.5)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def check_braces(key: str, path: str) -> None:
    """Raises a UserError if a configured path contains braces, which Snakemake treats as wildcards.

    Args:
        key: the config key, for the message.
        path: its value.
    """
    if "{" in path or "}" in path:
        raise UserError(
            f"config: {key} is {path!r}, but Snakemake treats braces in a path as wildcards. "
            "Rename the file or folder."
        )
