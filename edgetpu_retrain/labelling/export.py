"""Lay labelled photos out in one folder per class, for other programs."""

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
    """Links photos into one folder per class, or copies them where the disk has no links.

    Args:
        photos: with their classes; of copies of a photo in a class, the first is taken.
        folder: where the folders go; what is there is replaced.

    Returns:
        How many photos there are in it.

    Raises:
        UserError: no photo has a class, or one is gone.
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
                # Cameras give the same names again.
                target = target.with_name(f"{photo.sha256[:8]}-{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _link(Path(photo.path).resolve(strict=True), target)
            except FileNotFoundError:
                raise UserError(f"{photo.path} is not there any more. Run again.") from None
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
