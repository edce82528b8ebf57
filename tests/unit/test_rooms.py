"""The library's packages stand in the order of the data's way, and import only what is below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "edgetpu_retrain"
# From the ground up.
ROOMS = (
    "errors", "io", "config", "photos", "head", "tflite", "runtime", "index", "backbone",
    "embeddings", "training", "fine_tuning", "evaluation", "report", "labelling", "deploy",
    "workflow",
    # The command line of the library.
    "__main__",
)  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400
# What only some of them may import.
ALONE_IN = {
    "flatbuffers": {"tflite"},
    # The schema; the interpreter is looked up by name, in runtime.
    "ai_edge_litert": {"tflite"},
    "tensorflow": {"backbone", "fine_tuning"},
    "keras": {"backbone"},
    "snakemake": {"workflow"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yields the dotted name of every module that is imported, at whatever place."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: import by the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_known():
    assert {room_of(path) for path in MODULES} == {*ROOMS, "__init__"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_is_below(room: str):
    for path in MODULES:
        if room_of(path) != room:
            continue
        for name in imported(path):
            first, _, rest = name.partition(".")
            if first == "edgetpu_retrain":
                above = rest.partition(".")[0]
                assert ROOMS.index(above) <= ROOMS.index(room), f"{path} imports {name}"
            assert room in ALONE_IN.get(first, {room}), f"{path} imports {name}"


def test_no_module_is_long():
    assert {p.name: n for p in MODULES if (n := p.read_text().count("\n")) > MAX_LINES} == {}
