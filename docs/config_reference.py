"""Write the reference of the configuration from its model and the comments in config.yaml.

A hook of MkDocs (mkdocs.yml): a page that says ``<!-- config keys -->`` gets a section per key.
A key without a description ends the build.
"""

import html
import itertools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.exceptions import PluginError
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from edgetpu_retrain.config.settings import Settings  # noqa: E402

MARKER = "<!-- config keys -->"
_LINE = re.compile(r"(?P<indent> *)(?P<off># )?(?P<key>[a-z][a-z0-9_]*):(?P<rest>.*)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the reference in place of the marker."""
    if MARKER not in markdown:
        return markdown
    try:
        text = reference(Settings, (ROOT / "config.yaml").read_text("utf-8"))
    except ValueError as error:
        raise PluginError(f"docs/config_reference.py: {error}") from None
    return markdown.replace(MARKER, text)


def on_serve(server: Any, **_: Any) -> None:
    """Builds anew when what the reference is made of changes."""
    server.watch(str(ROOT / "config.yaml"))
    server.watch(str(ROOT / "edgetpu_retrain/config/settings.py"))


def reference(model: type[BaseModel], config: str) -> str:
    """Returns a section per key, as Markdown.

    Args:
        model: of the configuration.
        config: the text of the shipped config.yaml.

    Raises:
        ValueError: a key has no description, or config.yaml explains one that there is not.
    """
    explained = comments(config, model)
    shipped = yaml.safe_load(config)
    sections = []
    for path, one in keys(model):
        name, top = ".".join(path), len(path) == 1
        if not one.description:
            raise ValueError(f"{name} has no description in settings.py")
        if top and not explained.get(path, ("", ""))[0]:
            raise ValueError(f"{name} has no comment in config.yaml")
        sections.append(_section(name, one, *explained.get(path, ("", "")), _value(shipped, path)))
    return "\n\n".join(sections)


def keys(
    model: type[BaseModel], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yields every key with its field; those of a mapping after it."""
    for key, field in model.model_fields.items():
        yield (*above, key), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, (*above, key))


def comments(config: str, model: type[BaseModel]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Returns, by key, the comment on it and the commented-out line that stands for it.

    A comment belongs to the key below it, whether that is commented out or not, up to a blank line.
    What stands behind a value is a comment on its key, too.
    """
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    known = dict(keys(model))
    block: list[str] = []
    top = ""
    for line in config.splitlines():
        text = line.strip()
        match = _LINE.fullmatch(line)
        path = ()
        if match:
            path = (top, match["key"]) if match["indent"] else (match["key"],)
        if match and path in known:
            top = path[0]
            behind = match["rest"].partition(" # ")[2]
            if behind and not match["off"]:
                block.append(f"{behind[0].upper()}{behind[1:]}.")
            found[path] = ("\n".join(block), text.removeprefix("# ") if match["off"] else "")
            block = []
        elif match and not match["off"] and not match["indent"]:
            raise ValueError(f"config.yaml: {match['key']} is not in settings.py")
        elif text.startswith("#"):
            block.append(text[1:].removeprefix(" "))
        else:
            block = []
    return found


def _value(shipped: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = shipped
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _section(name: str, one: FieldInfo, comment: str, commented_out: str, shipped: Any) -> str:
    level = "##" + "#" * name.count(".")
    lines = [f"{level} `{name}` {{: #{name.replace('.', '-')} }}", ""]
    lines += [f"Value: {html.escape(one.description or '', quote=False)}.", ""]
    default = None if one.is_required() else one.default
    if isinstance(default, str | bool | int | float):
        lines += [f"Default: `{_plain(default)}`.", ""]
    if shipped is not None and not isinstance(shipped, Mapping | list):
        if shipped != default:
            lines += [f"In the shipped `config.yaml`: `{_plain(shipped)}`.", ""]
    elif isinstance(shipped, list):
        block = yaml.safe_dump({name.rpartition(".")[2]: shipped}, sort_keys=False, width=1000)
        lines += ["In the shipped `config.yaml`:", "", "```yaml", block.rstrip(), "```", ""]
    if commented_out:
        lines += ["Commented out in the shipped `config.yaml`:", ""]
        lines += ["```yaml", commented_out, "```", ""]
    return "\n".join([*lines, prose(comment)]).rstrip()


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def prose(comment: str) -> str:
    """Turns a comment into Markdown: what is indented or in columns stays as it is."""
    parts: list[str] = []
    for verbatim, lines in itertools.groupby(comment.splitlines(), _is_verbatim):
        text = "\n".join(lines)
        parts.append(f"```text\n{text}\n```" if verbatim else html.escape(text, quote=False))
    return "\n\n".join(parts)


def _is_verbatim(line: str) -> bool:
    return line.startswith("  ") or "   " in line
