"""Say in one sentence where a YAML file is wrong, and how."""

import contextlib
import re
from pathlib import Path

import yaml

from edgetpu_retrain.errors import UserError

_WITHOUT_COLON = "a key without a colon, or a colon without a space behind it"
_UNCLOSED = "a bracket or brace is not closed, or a comma is missing"
# What PyYAML says of the mistakes that people make, and what they are.
_MISTAKES = {
    r"found character '\\t'": "a tab; indent with spaces",
    r"unexpected end of stream": "a quote is opened and not closed",
    r"expected '?,'? or": _UNCLOSED,
    r"mapping values are not allowed": (
        "a colon where there can be none; check the indentation, and put text with a colon in "
        "quotes"
    ),
    r"could not find expected ':'": _WITHOUT_COLON,
    r"expected <block end>, but found '<scalar>'": (
        "text behind the end of a value; look for a quote that is missing, or one too many"
    ),
    r"expected <block end>": "a line that is not indented like those above it",
    r"escape": "a backslash in double quotes; take single quotes",
    r"expected alphabetic or numeric|cannot start any token": (
        "a character that has a meaning of its own; put the text in quotes"
    ),
}
# Mistakes of which PyYAML notices the end, which may be that of the file.
_AT_THEIR_BEGINNING = r"unexpected end of stream|expected '?,'? or"


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"line {line}: the key '{key.value}' stands in line {lines[key.value]} "
                    "already. Keep one of them."
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def check(path: str | Path) -> None:
    """Checks that a file holds a mapping in YAML (or JSON), in which no key is given twice.

    Raises:
        UserError: it does not, or cannot be read; the text says which line is wrong and why.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not YAML: it is not text in UTF-8.") from None
    try:
        content = yaml.load(text, _Loader)
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}, {_describe(error, text)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}".splitlines()[0]) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys; a line of it is 'key: value'.")


def _describe(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = f"{error.context or ''} {error.problem or ''}".strip()
    what = next((say for known, say in _MISTAKES.items() if re.search(known, problem)), problem)
    mark = error.problem_mark
    if error.context_mark and re.search(_AT_THEIR_BEGINNING, problem):
        mark = error.context_mark
    if mark is None:
        return what
    lines, line = text.splitlines(), mark.line
    if (opened := _quote_over_lines(text)) is not None and opened < line:
        line, what = opened, f"the quote that is opened here is closed in line {line + 1} only"
    elif what.startswith("a colon where") and line and _has_no_colon(lines[line - 1]):
        line, what = line - 1, _WITHOUT_COLON
    return f"line {line + 1}: {what}" + (f":\n  {lines[line]}" if line < len(lines) else "")


def _quote_over_lines(text: str) -> int | None:
    """Returns the line of the last quote, in front of a mistake, that goes over several lines."""
    found = None
    with contextlib.suppress(yaml.YAMLError):
        for token in yaml.scan(text, yaml.SafeLoader):
            is_quote = isinstance(token, yaml.ScalarToken) and token.style in ("'", '"')
            if is_quote and token.end_mark.line > token.start_mark.line:
                found = token.start_mark.line
    return found


def _has_no_colon(line: str) -> bool:
    line = line.split("#")[0].strip()
    return bool(line) and not re.search(r":(\s|$)", line)
