"""Choose photos to calibrate quantization on, and others to check it on."""

from collections.abc import Collection, Iterable
from pathlib import Path

from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files, tables

_COLUMNS = ("sha256",)


def choose(photos: Iterable[Photo], count: int) -> list[str]:
    """Chooses photos evenly from all classes, by their identities.

    From each class, the first photos in the order of their identities are chosen, the same number
    from each class if it has that many. The order of `photos` and file names make no difference.

    Args:
        photos: photos to choose from; identical copies count once.
        count: maximum number of photos.

    Returns:
        The identities (SHA-256 in hexadecimal), sorted.

    >>> photos = [Photo(f"{i}.jpg", "ab"[i > 0], "train", str(i) * 64) for i in range(4)]
    >>> [sha256[0] for sha256 in choose(photos, 3)]
    ['0', '1', '2']
    """
    by_class: dict[str, list[str]] = {}
    for sha256, label in sorted((photo.sha256, photo.label) for photo in photos):
        by_class.setdefault(label, []).append(sha256)
    # Round-robin: the first photo of every class, then the second of every class, and so on.
    turns = sorted(
        (turn, sha256) for members in by_class.values() for turn, sha256 in enumerate(members)
    )
    return sorted(list(dict.fromkeys(sha256 for _, sha256 in turns))[:count])


def choose_for_calibration(photos: Iterable[Photo], count: int) -> list[str]:
    """Chooses up to `count` photos of the training split; returns their identities, sorted."""
    return choose((photo for photo in photos if photo.split == "train"), count)


def choose_for_check(photos: Iterable[Photo], count: int, calibrated: Collection[str]) -> list[str]:
    """Chooses up to `count` photos of any split that are not in `calibrated`."""
    return choose((photo for photo in photos if photo.sha256 not in calibrated), count)


def write(identities: Iterable[str], path: str | Path) -> None:
    """Writes the identities of photos to a .tsv file."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(tables.to_tsv(_COLUMNS, ([sha256] for sha256 in identities)))


def read(path: str | Path) -> list[str]:
    """Reads a file written by `write`.

    Raises:
        UserError: the file is damaged.
    """
    return [sha256 for (sha256,) in tables.read(path, _COLUMNS)]
