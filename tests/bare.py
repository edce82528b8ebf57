"""A Python with few packages, as on a device, without installing anything."""

import importlib.metadata
import re
import venv
from pathlib import Path


def closure(names: list[str]) -> set[str]:
    """The distributions that these need, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            # Needed on other systems only.
            continue
        found.add(name)
        plain = [text for text in required if "extra ==" not in text]
        waiting += [re.match(r"[\w.-]+", text)[0] for text in plain]
    return found


def make_bare_python(folder: Path, requirements: Path) -> Path:
    """Makes an environment in a folder and returns its Python.

    It has the packages that a requirements file names, and those that they need: the ones that are
    installed where this runs.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure(
        [re.match(r"[\w-]+", line)[0] for line in requirements.read_text().split()]
    ):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files if ".." not in file.parts}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return folder / "bin" / "python"
