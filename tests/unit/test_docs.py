"""What the documentation says of the program: messages, keys and links."""

import ast
import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
from pydantic import Field, create_model

from edgetpu_retrain.config.settings import Settings

ROOT = Path(__file__).parents[2]
# Of the messages that are listed, those of other programs.
OTHERS = ("cores have to be specified", "No Snakefile found", "snakemake: command not found")


@pytest.fixture(scope="module")
def config_reference():
    """The hook that writes the reference; MkDocs is not installed where tests run."""
    fake = types.ModuleType("mkdocs.exceptions")
    fake.PluginError = type("PluginError", (Exception,), {})
    sys.modules.setdefault("mkdocs", types.ModuleType("mkdocs"))
    sys.modules.setdefault("mkdocs.exceptions", fake)
    spec = importlib.util.spec_from_file_location(
        "config_reference", ROOT / "docs/config_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts_of_the_program():
    """All string literals of the program, with … for what is filled in."""
    files = [*ROOT.glob("edgetpu_retrain/**/*.py"), *ROOT.glob("scripts/*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(v, "value", None) for v in node.values)
                yield "".join(p if isinstance(p, str) else "…" for p in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.\d]*[sdrf]", "…", node.value)
    for path in ROOT.glob("workflow/rules/*.smk"):
        yield path.read_text("utf-8")


def documented_messages():
    text = (ROOT / "docs/reference/messages.md").read_text("utf-8")
    return [one for one in re.findall(r"^### `(.+)`$", text, re.M) if not one.startswith(OTHERS)]


@pytest.mark.parametrize("message", documented_messages())
def test_documented_messages_are_those_of_the_program(message):
    # Between the names and numbers stands what the program says, in one text or another.
    known = "\n".join(texts_of_the_program())
    for part in re.split(r"'?…'?", message):
        part = part.strip(" ,:;.?'()")
        assert part in known, part


def test_reference_has_every_key(config_reference):
    text = config_reference.reference(Settings, (ROOT / "config.yaml").read_text("utf-8"))
    for key in Settings.model_fields:
        assert f"## `{key}`" in text
    assert "### `split.test`" in text
    assert "photos of rare classes count more" in text.partition("`training.class_weights`")[2]


def test_key_without_description_is_refused(config_reference):
    config = "# How many.\nnumber: 3\n"
    described = create_model("Described", number=(int, Field(description="a number")))
    assert "How many." in config_reference.reference(described, config)
    with pytest.raises(ValueError, match=r"number has no description"):
        config_reference.reference(create_model("Bare", number=(int, 3)), config)
    with pytest.raises(ValueError, match=r"number has no comment"):
        config_reference.reference(described, "number: 3\n")
    with pytest.raises(ValueError, match=r"other is not in"):
        config_reference.reference(described, config + "# What.\nother: 3\n")


def test_links_of_the_readme_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text("utf-8")):
            assert target.startswith("http") or (ROOT / target).exists(), target
