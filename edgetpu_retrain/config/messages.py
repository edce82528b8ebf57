"""Check what the user wrote by a typed model, and put every mistake into a sentence."""

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
    """A mapping of the configuration.

    The `description` of a field says what its value should be, for messages. Text stands for a
    number or a boolean where one is wanted: Snakemake passes on ``--config training={reg: 0.1}`` as
    text, and YAML takes ``1e-3`` for text. A key without a value has its default.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, regex_engine="python-re"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {key: value for key, value in given.items() if value is not None}
        return given


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


Number = Annotated[float, BeforeValidator(_no_boolean)]
WholeNumber = Annotated[int, BeforeValidator(_no_boolean)]
_Model = TypeVar("_Model", bound=BaseModel)


def parse(model: type[_Model], given: Any, what: str = "config") -> _Model:
    """Checks a mapping that the user wrote.

    Args:
        model: what it should be.
        given: the mapping.
        what: begins every sentence about it.

    Raises:
        UserError: keys are missing, unknown or of a wrong value; a line for each.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise UserError("\n".join(_describe(model, error.errors(), what))) from None


def _describe(model: type[BaseModel], errors: Iterable[ErrorDetails], what: str) -> Iterator[str]:
    found: dict[tuple[str, ...], tuple[ErrorDetails, type[BaseModel], str]] = {}
    for error in errors:
        names, parent, expected = _find(model, error)
        found.setdefault(names, (error, parent, expected))
    # Of a value that can be of several types there is an error for each; the deepest says most.
    above = {names[:i] for names in found for i in range(len(names))}
    for names, (error, parent, expected) in found.items():
        if names in above:
            continue
        key = ".".join(names)
        if error["type"] == "extra_forbidden":
            yield f"{what}: {_unknown(names, parent)}"
        elif error["type"] == "missing":
            where = "".join(f"{one}." for one in names[:-1])
            yield f"{what}: {where}{names[-1]} is missing."
        else:
            where = f"{what}: {key}" if key else what
            given = error["input"]
            # A number that came as text, but for its size.
            value = given if error["type"].startswith(("greater", "less")) else repr(given)
            expected = expected or "a mapping of keys and values"
            yield f"{where} is {value}; expected {expected}."


def _find(
    model: type[BaseModel], error: ErrorDetails
) -> tuple[tuple[str, ...], type[BaseModel], str]:
    """Follows the location of an error through a model.

    Returns:
        The names of the keys on the way, the model that the last one is in, and what its value
        should be.
    """
    names: list[str] = []
    parent, below, expected = model, [model], ""
    for step in error["loc"]:
        fields = {
            field.alias or name: (one, field)
            for one in below
            for name, field in one.model_fields.items()
        }
        if step in fields:
            parent, field = fields[str(step)]
            names.append(str(step))
            below, expected = list(_models(field.annotation)), field.description or ""
        elif isinstance(step, int):
            names.append(str(step))
        elif chosen := [one for one in below if one.__name__ == step]:
            # One of several types that a value can be of.
            below = chosen
        elif error["type"] == "extra_forbidden" and below:
            parent = below[0]
            names.append(step)
    return tuple(names), parent, expected


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models(part)


def _unknown(names: tuple[str, ...], parent: type[BaseModel]) -> str:
    known = sorted(field.alias or name for name, field in parent.model_fields.items())
    return (
        f"there is no key '{'.'.join(names)}'.{did_you_mean(names[-1], known)} "
        f"The keys are: {', '.join(known)}."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that names what is near to a misspelt name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=_MAX_SUGGESTIONS, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def check_braces(key: str, path: str) -> None:
    """Raises a UserError where Snakemake would take a path of the configuration for a pattern."""
    if "{" in path or "}" in path:
        raise UserError(
            f"config: {key} is {path!r}: Snakemake takes braces in a file's name for wildcards. "
            "Rename it."
        )
