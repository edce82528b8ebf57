"""Draws the sample's photos and packs them: photos.zip, and planted.tsv, what is wrong with them.

What is planted is what one finds in every folder of photos: wrong labels, near-copies, and a file
that broke off. The same versions of numpy and Pillow give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from drawing import compose_photo
from flowers import FLOWERS

HERE = Path(__file__).parent
SEED = 1
PHOTOS_PER_CLASS = 60
SIDES = (160, 240)
# Folder and number of a photo -> the kind that it shows instead of its folder's.
WRONG_LABELS = {
    ("bellflower", 41): "tulip",
    ("daisy", 17): "dandelion",
    ("rose", 8): "daisy",
    ("tulip", 29): "rose",
}
# Folder and number of a photo -> how its near-copy is made.
NEAR_COPIES = {
    ("dandelion", 22): "re-encoded",
    ("rose", 35): "resized",
    ("tulip", 3): "brightened",
}
BROKEN = ("daisy", 50)
# A copy's name, as programs choose it, after its original's.
COPY_NAMES = {
    "re-encoded": "{} (1).jpg",
    "resized": "{}_small.jpg",
    "brightened": "{}-edited.jpg",
}


@dataclass(frozen=True)
class Planted:
    """A photo that is not as it should be.

    Attributes:
        path: where it is in the archive.
        what: wrong label, re-encoded copy, resized copy, brightened copy or broken.
        truth: the true class, or the path of the original; empty for the broken photo.
    """

    path: str
    what: str
    truth: str


def draw(folder: str, number: int) -> tuple[Image.Image, int]:
    """Returns a photo and the JPEG quality that it is saved with.

    It depends on the seed, its folder and its number only.
    """
    rng = np.random.default_rng((SEED, list(FLOWERS).index(folder), number))
    width, height = (int(side) for side in rng.integers(*SIDES, 2, endpoint=True))
    kind = WRONG_LABELS.get((folder, number), folder)
    photo = compose_photo(FLOWERS[kind], rng, (width, height))
    return photo, int(rng.integers(62, 87))


def encode(photo: Image.Image, quality: int) -> bytes:
    """Encodes a photo as JPEG."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def copy_of(content: bytes, how: str) -> bytes:
    """Makes a near-copy of an encoded photo, as a program does that opens and saves it."""
    photo = Image.open(io.BytesIO(content))
    if how == "resized":
        photo = photo.resize((photo.width * 2 // 3, photo.height * 2 // 3))
    if how == "brightened":
        photo = ImageEnhance.Brightness(photo).enhance(1.15)
    return encode(photo, 60 if how == "re-encoded" else 80)


def camera_names(count: int) -> list[str]:
    """Returns names without suffix, as cameras count up, in a random order."""
    rng = np.random.default_rng(SEED)
    numbers = 1 + np.cumsum(rng.integers(1, 9, count))
    names = [f"IMG_{number:04d}" for number in numbers]
    return list(rng.permutation(names))


def draw_all(photos_per_class: int) -> tuple[dict[str, bytes], list[Planted]]:
    """Returns the photos by path, and what is planted among them."""
    names = camera_names(PHOTOS_PER_CLASS * len(FLOWERS))
    files, planted = {}, []
    for i, folder in enumerate(FLOWERS):
        for number in range(photos_per_class):
            name = f"{folder}/{names[i * PHOTOS_PER_CLASS + number]}"
            path = f"{name}.jpg"
            content = encode(*draw(folder, number))
            if (folder, number) in WRONG_LABELS:
                planted.append(Planted(path, "wrong label", WRONG_LABELS[folder, number]))
            if how := NEAR_COPIES.get((folder, number)):
                copy = COPY_NAMES[how].format(name)
                files[copy] = copy_of(content, how)
                planted.append(Planted(copy, f"{how} copy", path))
            if (folder, number) == BROKEN:
                content = content[: len(content) // 2]
                planted.append(Planted(path, "broken", ""))
            files[path] = content
    return dict(sorted(files.items())), sorted(planted, key=lambda entry: entry.path)


def pack(files: dict[str, bytes], archive: Path) -> None:
    """Writes a .zip archive whose bytes depend on the files only."""
    with zipfile.ZipFile(archive, "w") as zipped:
        for path, content in files.items():
            info = zipfile.ZipInfo(path)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            zipped.writestr(info, content)


def main() -> None:
    """Writes photos.zip and planted.tsv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="the folder they go to")
    output = parser.parse_args().output
    files, planted = draw_all(PHOTOS_PER_CLASS)
    pack(files, output / "photos.zip")
    lines = [f"{entry.path}\t{entry.what}\t{entry.truth}\n" for entry in planted]
    (output / "planted.tsv").write_text("".join(["path\twhat\ttruth\n", *lines]))


if __name__ == "__main__":
    main()
