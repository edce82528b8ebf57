"""HEIC, what iPhones take: read upright, found, indexed, and refused where it is damaged."""

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageFilter

from edgetpu_retrain.photos.decode import PhotoError, read_photo, with_advice
from edgetpu_retrain.photos.walk import find_photos
from tests.indexing import write_index

_ORIENTATION = 0x0112


@pytest.fixture
def picture() -> Image.Image:
    """160 x 120 pixels, smooth, no two quarters alike."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    noise[:60, :80, 0], noise[60:, 80:, 1] = 255, 0
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(8))


def encode(picture: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=95, **options)
    return file.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def test_a_heic_photo_is_read(picture: Image.Image):
    read = read_photo(encode(picture))
    assert read.mode == "RGB"
    assert difference(read, picture) < 3
    assert difference(read_photo(encode(picture), min_side=32), picture) < 3


def test_a_turned_heic_photo_is_read_upright(picture: Image.Image):
    """As iPhones write them: turned by a property of the file, and once more said in EXIF."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    lying.info["exif"] = exif.tobytes()
    # The encoder stores the picture as it is and adds the property.
    content = encode(lying)
    # ISO/IEC 23008-12, 6.5.10: turn by three times 90 degrees, against the clock.
    assert content.count(b"irot\x03") == 1
    assert difference(read_photo(content), picture.transpose(Image.Transpose.ROTATE_270)) < 3


def test_transparency_and_grey(picture: Image.Image):
    clear = picture.copy()
    clear.putalpha(0)
    assert np.asarray(read_photo(encode(clear))).min() > 250
    grey = picture.convert("L")
    assert difference(read_photo(encode(grey)), grey.convert("RGB")) < 3


def test_a_damaged_heic_photo_is_refused(picture: Image.Image):
    content = encode(picture)
    for damaged in (content[: len(content) // 2], content[:40], b"\0\0\0\x18ftypheic"):
        with pytest.raises(PhotoError):
            read_photo(damaged)
    assert "export it as JPEG" in with_advice("IMG_1.HEIC", "cannot be decoded")


def test_heic_photos_are_found_and_indexed(picture: Image.Image, tmp_path: Path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i, name in enumerate(("1.heic", "2.HEIF", "3.hif", "no suffix")):
            shade = picture.point(
                lambda value, i=i, label=label: (value + 9 * i + ord(label)) % 256
            )
            (tmp_path / label / name).write_bytes(encode(shade))
    assert len(list(find_photos(tmp_path / "a"))) == 4
    found = write_index(tmp_path, validation=0, test=0, max_skipped=0)
    assert len(found.photos) == 8
    assert len({photo.sha256 for photo in found.photos}) == 8
