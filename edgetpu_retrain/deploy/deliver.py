"""Put the results of one run where users look for them, and nothing of another run beside them."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgetpu_retrain.io import files

log = logging.getLogger(__name__)


def deliver(results: Mapping[str | Path, str | Path]) -> None:
    """Copies files.

    Args:
        results: where each goes, by where it is.
    """
    for source, copy in results.items():
        with files.replacing(copy) as temporary:
            shutil.copyfile(source, temporary)


def record(delivered: Iterable[str | Path], run: str, path: str | Path) -> None:
    """Writes down which files were delivered, so that they can be told from the user's own.

    Args:
        delivered: paths of the files.
        run: what identifies the model that they belong to.
        path: of the record.
    """
    content = {"run": run, "files": {str(file): files.sha256(file) for file in delivered}}
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def delivered(records: str | Path) -> list[str]:
    """Returns the paths of the delivered files that are still there, according to the records."""
    contents = map(files.read_json, sorted(Path(records).glob("*.json")))
    return [name for content in contents for name in content["files"] if Path(name).is_file()]


def remove_others(records: str | Path, run: str) -> list[str]:
    """Removes what was delivered for other models, and says so.

    A file that is not what was delivered is left alone: it is the user's.

    Args:
        records: the folder of what `record` wrote.
        run: what identifies the model that stays.

    Returns:
        The paths of what was removed.
    """
    removed = []
    for path in sorted(Path(records).glob("*.json")):
        content = files.read_json(path)
        if content["run"] == run:
            continue
        for name, sha256 in content["files"].items():
            file = Path(name)
            if file.is_file() and files.sha256(file) == sha256:
                file.unlink()
                removed.append(name)
                # A folder that was made for it goes with its last file.
                with contextlib.suppress(OSError):
                    file.parent.rmdir()
        path.unlink()
    if removed:
        log.info("Removed, since they belong to another model: %s", ", ".join(removed))
    return removed
