"""Export labelled photos into one folder per class, for other programs."""

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files

log = logging.getLogger(__name__)


def export(photos: Iterable[Photo], folder: str | Path) -> int:
    """Links photos into one folder per class; copies them if the file system has no hard links.

    Args:
        photos: labelled photos; identical photos of a class are exported once.
        folder: the folder to create or replace.

    Returns:
        The number of exported photos.

    Raises:
        UserError: no photo has a class, or a photo no longer exists.
    """
    done: set[tuple[str, str]] = set()
    with files.replacing(folder) as temporary:
        for photo in photos:
            if (photo.label, photo.sha256) in done:
                continue
            done.add((photo.label, photo.sha256))
            name = Path(photo.path).name
            target = temporary / photo.label / name
            if target.exists():
                # Cameras reuse file names.
                target = target.with_name(f"{photo.sha256[:8]}-{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _link(Path(photo.path).resolve(strict=True), target)
            except FileNotFoundError:
                raise UserError(f"{photo.path} no longer exists. Run again.") from None
        if not done:
            raise UserError("No photo has a label yet. Label some with: python scripts/label.py")
    log.info("%d photos in %s", len(done), folder)
    return len(done)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
