"""Copies the results of a run to where users look for them, and removes those of other runs."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel

from edgetpu_retrain.io import files

log = logging.getLogger(__name__)


class _Record(BaseModel):
    """What `record` writes: the model, and the SHA-256 of its files by path."""

    run: str
    files: dict[str, str]


def deliver(results: Mapping[str | Path, str | Path]) -> None:
    """Copies files; each copy appears complete or not at all.

    Args:
        results: destination paths by source path.
    """
    for source, destination in results.items():
        with files.replacing(destination) as temporary:
            shutil.copyfile(source, temporary)


def record(delivered: Iterable[str | Path], run: str, path: str | Path) -> None:
    """Records which files were delivered, to tell them from the user's own files later.

    Args:
        delivered: paths of the delivered files.
        run: identifies the model that they belong to.
        path: the JSON file to write.
    """
    content = {"run": run, "files": {str(file): files.sha256(file) for file in delivered}}
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def delivered(records: str | Path) -> list[str]:
    """Returns the paths of the delivered files that are still there, according to the records."""
    contents = [files.read_json(path, _Record) for path in sorted(Path(records).glob("*.json"))]
    return [name for content in contents for name in content["files"] if Path(name).is_file()]


def remove_others(records: str | Path, run: str) -> list[str]:
    """Removes and logs the files that were delivered for other models.

    Files whose content has changed since are kept, because they are the user's.

    Args:
        records: the folder with the files that `record` wrote.
        run: identifies the model whose files are kept.

    Returns:
        The paths of the removed files.
    """
    removed = []
    for path in sorted(Path(records).glob("*.json")):
        content = files.read_json(path, _Record)
        if content["run"] == run:
            continue
        for name, sha256 in content["files"].items():
            file = Path(name)
            if file.is_file() and files.sha256(file) == sha256:
                file.unlink()
                removed.append(name)
                # Fails, as it should, unless the folder is empty now.
                with contextlib.suppress(OSError):
                    file.parent.rmdir()
        path.unlink()
    if removed:
        log.info("Removed files that belong to another model: %s", ", ".join(removed))
    return removed
