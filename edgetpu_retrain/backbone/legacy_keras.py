"""Check .h5 files of Keras 2 for code; tf_keras, which loads them, has no safe mode for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WITH_CODE = {"Lambda", "__lambda__", "function"}
_MODULES = ("keras.", "tf_keras.")


def explain_unsafe(path: Path) -> str | None:
    """Returns why a file is not loaded, or None; the text continues a sentence that names the file.

    Args:
        path: an .h5 file with a whole model.
    """
    import h5py

    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
    for part in _parts(config):
        kind, module = part.get("class_name"), part.get("module")
        if isinstance(kind, str) and kind in _WITH_CODE:
            return (
                f"has a {kind} layer, which contains code and, for safety, is not loaded from a "
                "file. Export it where it was made, with tf.saved_model.save(model, 'folder'), and "
                "use saved_model: folder"
            )
        if module is not None and not f"{module}.".startswith(_MODULES):
            return f"has a part of the module {module}, which is not Keras, so it is not loaded"
    return None


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)
