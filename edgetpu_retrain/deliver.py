"""Put the results of one run where users look for them, and nothing of another run beside them."""

import filecmp
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgetpu_retrain import files

log = logging.getLogger(__name__)


def deliver(results: Mapping[str | Path, str | Path]) -> None:
    """Copies files.

    Args:
        results: where each goes, by where it is.
    """
    for source, copy in results.items():
        with files.replacing(copy) as temporary:
            shutil.copyfile(source, temporary)


def remove_others(
    copies: Mapping[str | Path, str | Path],
    newer_than: str | Path,
    with_them: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Removes copies that are not of this run, and says so.

    Args:
        copies: where a copy may be, by where this run's own file is or would be.
        newer_than: path of what this run's own files are made of.
        with_them: paths that go in place of a copy, by the copy: the folder that it is in, and so
            on.

    Returns:
        The paths of what was removed.
    """
    removed: list[str] = []
    made = Path(newer_than).stat().st_mtime_ns
    for own, copy in ((Path(own), Path(copy)) for own, copy in copies.items()):
        is_own = own.is_file() and own.stat().st_mtime_ns >= made
        if copy.exists() and not (is_own and filecmp.cmp(own, copy, shallow=False)):
            removed += (with_them or {}).get(str(copy), [str(copy)])
    for path in removed:
        files.remove(Path(path))
    if removed:
        log.info("Removed, since it was of an earlier run: %s", ", ".join(removed))
    return removed
