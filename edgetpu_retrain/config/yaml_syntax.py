"""Check the syntax of a YAML file, and explain in one message what is wrong in which line."""

import contextlib
import re
from pathlib import Path
from typing import Any

import yaml

from edgetpu_retrain.errors import UserError

_WITHOUT_COLON = "a key has no colon after it, or the colon is not followed by a space"
_UNCLOSED = "a bracket or brace is not closed, or a comma is missing"
# PyYAML's messages for common mistakes, and what the mistakes are.
_MISTAKES = {
    r"found character '\\t'": "there is a tab; indent with spaces",
    r"unexpected end of stream": "a quote is opened but not closed",
    r"expected '?,'? or": _UNCLOSED,
    r"mapping values are not allowed": (
        "a colon is not allowed here; check the indentation, and put text that contains a colon "
        "in quotes"
    ),
    r"could not find expected ':'": _WITHOUT_COLON,
    r"expected <block end>, but found '<scalar>'": (
        "there is text after the end of a value; look for a missing or extra quote"
    ),
    r"expected <block end>": "the line is not indented like those above it",
    r"escape": "there is a backslash in double quotes; use single quotes",
    r"expected alphabetic or numeric|cannot start any token": (
        "a character has a special meaning in YAML; put the text in quotes"
    ),
}
# A file of a few lines whose aliases refer to one another can stand for billions of values.
_MAX_VALUES = 100_000
# PyYAML notices these mistakes only at the end of the construct, often the end of the file.
_REPORTED_WHERE_THEY_START = r"unexpected end of stream|expected '?,'? or"


# PyYAML has no type annotations, so mypy sees a base class of type Any.
class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Rejects duplicate keys and endless aliases, which PyYAML would accept."""

    def get_single_node(self) -> yaml.Node | None:
        root: yaml.Node | None = super().get_single_node()
        if root is not None:
            _count_values(root, {})
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"line {line}: the key '{key.value}' is already in line {lines[key.value]}. "
                    "Remove one of them."
                )
            lines[key.value] = line
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _count_values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Returns how many values a node stands for when its aliases are written out.

    Raises:
        UserError: they are too many, or an alias refers to something that contains it.
    """
    if node in known:
        count = known[node]
    elif isinstance(node, yaml.ScalarNode):
        count = 1
    else:
        # Found again below itself, the node contains itself.
        known[node] = _MAX_VALUES
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        count = known[node] = 1 + sum(_count_values(part, known) for part in parts)
    if count >= _MAX_VALUES:
        raise UserError(
            f"line {node.start_mark.line + 1}: with all aliases (*name) written out, this is more "
            f"than {_MAX_VALUES} values. Write them out, or remove some."
        )
    return count


def check(path: str | Path) -> None:
    """Checks that a file contains a YAML (or JSON) mapping without duplicate keys.

    Raises:
        UserError: it does not, or it cannot be read; the message says which line is wrong and why.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not YAML: it is not UTF-8 text.") from None
    try:
        content = yaml.load(text, _Loader)
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply.") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}, {_describe(error, text)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}".splitlines()[0]) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} contains no keys; expected lines such as 'key: value'.")


def _describe(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = f"{error.context or ''} {error.problem or ''}".strip()
    known = (what for pattern, what in _MISTAKES.items() if re.search(pattern, problem))
    explanation = next(known, problem)
    mark = error.problem_mark
    if error.context_mark and re.search(_REPORTED_WHERE_THEY_START, problem):
        mark = error.context_mark
    if mark is None:
        return explanation
    lines, line = text.splitlines(), mark.line
    quote = _last_multiline_quote(text)
    if quote is not None and quote < line:
        explanation = f"the quote opened here is not closed until line {line + 1}"
        line = quote
    elif explanation.startswith("a colon is not") and line and _has_no_colon(lines[line - 1]):
        line, explanation = line - 1, _WITHOUT_COLON
    return f"line {line + 1}: {explanation}" + (f":\n  {lines[line]}" if line < len(lines) else "")


def _last_multiline_quote(text: str) -> int | None:
    """Returns the line, from 0, where the last multi-line quote before a syntax error starts."""
    line = None
    with contextlib.suppress(yaml.YAMLError):
        for token in yaml.scan(text, yaml.SafeLoader):
            is_quote = isinstance(token, yaml.ScalarToken) and token.style in ("'", '"')
            if is_quote and token.end_mark.line > token.start_mark.line:
                line = token.start_mark.line
    return line


def _has_no_colon(line: str) -> bool:
    line = line.split("#")[0].strip()
    return bool(line) and not re.search(r":(\s|$)", line)
