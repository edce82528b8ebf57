"""Explains what to write in place of a name that is not in the catalogue of backbones."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from edgetpu_retrain.config.messages import did_you_mean

_SCALING = ("mean", "std")
# By the end of the file's name: the kind of backbone, and the other keys that it needs.
_BY_SUFFIX: dict[str, tuple[str, tuple[str, ...]]] = {
    ".tflite": ("tflite", ()),
    ".pb": ("frozen_graph", ("tensor",)),
    ".keras": ("keras", _SCALING),
    ".h5": ("keras", _SCALING),
    ".hdf5": ("keras", _SCALING),
}


def explain(wanted: str, names: Iterable[str]) -> str:
    """Returns a message about a backbone that is not in the catalogue.

    Args:
        wanted: the value of the config key `backbone`. If it is a path or URL, of a file that may
            not exist, the message says how to write it.
        names: the names in the catalogue.
    """
    message = f"config: backbone is {wanted!r}, which is not in workflow/backbones.yaml."
    if "/" in wanted or Path(wanted).suffix.lower() in _BY_SUFFIX:
        return (
            f"{message} For a network of your own, say what kind of file it is: backbone: "
            f"{_entry(wanted)}. All keys are in docs/reference/config.md."
        )
    names = sorted(names)
    return f"{message}{did_you_mean(wanted, names)} Available names: {', '.join(names)}."


def _entry(path: str) -> str:
    """Returns the entry for a path or URL as YAML; the user has to fill in what it says as '...'.

    >>> _entry("models/mine.pb")
    '{name: mine, frozen_graph: models/mine.pb, tensor: ...}'
    """
    kind, others = _BY_SUFFIX.get(Path(path).suffix.lower(), ("tflite", ()))
    if Path(path).expanduser().is_dir():
        kind, others = "saved_model", _SCALING
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem).strip("._-") or "mine"
    # Characters that mean something in YAML are quoted.
    file = path if re.fullmatch(r"[\w./~-]+", path) else json.dumps(path)
    keys = {"name": name, kind: f"{{url: {file}, sha256: ...}}" if "://" in path else file}
    keys |= dict.fromkeys(others, "...")
    return f"{{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"
