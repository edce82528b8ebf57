import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.photos.decode import PhotoError, read_photo, rejection_reason, with_advice
from edgetpu_retrain.photos.walk import find_photos

RED, GREEN, BLUE = (254, 0, 0), (0, 128, 1), (0, 0, 254)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_and_half(size=(40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_every_format_gives_the_same_picture(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    photo = read_photo(encode(half_and_half(), kind, **options))
    assert (photo.mode, photo.size) == ("RGB", (40, 20))
    difference = np.abs(np.asarray(photo, int) - np.asarray(half_and_half(), int))
    # JPEG's chroma subsampling bleeds over the edge in the middle.
    assert np.median(difference) <= 2


def test_exif_orientation_turns_a_phone_photo_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = read_photo(encode(half_and_half(), "JPEG", exif=exif, quality=95))
    # Orientation 6: turn by 90 degrees clockwise; what was left is on top.
    assert photo.size == (20, 40)
    assert np.allclose(photo.getpixel((10, 2)), RED, atol=6)
    assert np.allclose(photo.getpixel((10, 37)), BLUE, atol=6)


def test_cmyk_jpeg_keeps_its_colours():
    photo = read_photo(encode(half_and_half().convert("CMYK"), "JPEG", quality=95))
    assert np.allclose(photo.getpixel((3, 10)), RED, atol=12)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    photo = read_photo(encode(Image.fromarray(values), kind))
    assert np.array_equal(np.asarray(photo)[..., 0], (values // 256).astype(np.uint8))
    assert np.ptp(np.asarray(photo), axis=2).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    image = Image.new(mode, (8, 8), (0,) * len(mode))
    assert read_photo(encode(image, "PNG")).getpixel((4, 4)) == (255, 255, 255)


def test_a_colour_that_stands_for_transparency_becomes_white():
    content = encode(Image.new("RGB", (8, 8), (16, 16, 16)), "PNG", transparency=(16, 16, 16))
    assert read_photo(content).getpixel((4, 4)) == (255, 255, 255)


def test_palette_gif_with_transparency_and_animation_gives_its_first_frame():
    first = Image.new("P", (8, 8), 0)
    first.putpalette([255, 255, 0, *GREEN])
    first.paste(1, (0, 0, 4, 8))
    second = Image.new("P", (8, 8), 1)
    second.putpalette([255, 255, 0, *GREEN])
    content = encode(first, "GIF", save_all=True, append_images=[second], transparency=0)
    photo = read_photo(content)
    assert photo.getpixel((1, 1)) == GREEN
    assert photo.getpixel((6, 6)) == (255, 255, 255)


def test_a_real_bitmap_is_read(shared: Path):
    photo = read_photo((shared / "data" / "sunflower.bmp").read_bytes())
    assert photo.size == (512, 340)


def noise_jpeg() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return encode(Image.fromarray(pixels), "JPEG")


def bomb() -> bytes:
    """A PNG of a few bytes that claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"a note about flowers\n" * 20, "not an image"),
        (noise_jpeg()[:-900], "truncated"),
        (bomb(), "absurdly large"),
        (encode(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ],
    ids=["empty", "text", "truncated", "bomb", "float"],
)
def test_what_cannot_be_read_gives_a_reason(content, reason):
    with pytest.raises(PhotoError, match=reason):
        read_photo(content)


def test_what_counts_as_a_photo(tmp_path: Path):
    jpeg = noise_jpeg()
    for name, content in {
        "a.jpg": jpeg,
        "no suffix": jpeg,
        "deep/er/b.JPEG": jpeg,
        "fake.jpg": b"text",
        "phone.heic": b"\0\0\0\x18ftypheic",
        ".hidden.jpg": jpeg,
        ".folder/c.jpg": jpeg,
        "__MACOSX/d.jpg": jpeg,
        "Thumbs.db": jpeg,
        "notes.txt": b"text",
        "drawing.svg": b"<svg/>",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [Path(path).relative_to(tmp_path).as_posix() for path, _ in find_photos(tmp_path)]
    assert sorted(found) == ["a.jpg", "deep/er/b.JPEG", "fake.jpg", "no suffix", "phone.heic"]


def test_files_come_sorted_by_path(tmp_path: Path):
    names = [
        "a/z.jpg",
        "a/deeper/b.jpg",
        "a/deeper.jpg",
        "a b/c.jpg",
        "a.jpg",
        "a-b/d.jpg",
        "z.jpg",
    ]
    names += ["a/deeper/ü.jpg", "a/deeper/u/v/w.jpg"]
    # The file system of macOS ignores case and takes names in UTF-8 only.
    names += ["A/a.jpg", os.fsdecode(b"a/\xff.jpg")] if sys.platform != "darwin" else []
    for name in names:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(noise_jpeg())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.jpg").write_bytes(noise_jpeg())
    (tmp_path / "root" / "a" / "f").symlink_to(tmp_path / "elsewhere")
    found = [path for path, _ in find_photos(tmp_path / "root")]
    assert found == sorted(str(tmp_path / "root" / name) for name in [*names, "a/f/linked.jpg"])


def test_a_file_is_given_with_its_size_and_time(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(noise_jpeg())
    ((path, status),) = find_photos(tmp_path)
    assert (path, status) == (str(tmp_path / "a.jpg"), (tmp_path / "a.jpg").stat())


def test_a_file_that_may_not_be_opened_has_its_reason(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(noise_jpeg())

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert rejection_reason(str(path), path.stat()) == "cannot be opened: Permission denied"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_every_format_is_known_by_its_first_bytes(tmp_path: Path, kind):
    path = tmp_path / "photo"
    path.write_bytes(encode(half_and_half(), kind))
    assert rejection_reason(str(path), path.stat()) == ""


def test_what_cannot_be_a_photo_is_known_without_decoding_it(tmp_path: Path):
    for content, reason in (
        (b"", "the file is empty"),
        (b"a note", "not an image of a supported format"),
        (b"\0\0\0\x18ftypmp42", "not an image of a supported format"),
        # What is damaged behind its first bytes is found when it is decoded.
        (b"\0\0\0\x18ftypheic", ""),
        (noise_jpeg()[:100], ""),
    ):
        path = tmp_path / "photo.jpg"
        path.write_bytes(content)
        assert rejection_reason(str(path), path.stat()) == reason
    os.mkfifo(tmp_path / "pipe.jpg")
    assert rejection_reason(str(tmp_path / "pipe.jpg"), (tmp_path / "pipe.jpg").stat()) == (
        "not a regular file"
    )


def test_what_can_be_done_about_a_photo_is_said():
    assert with_advice("a/b.HEIC", "no") == "no (HEIC: export it as JPEG)"
    assert with_advice(Path("b.nef"), "no") == "no (camera raw file: export it as JPEG)"
    assert with_advice("b.jpg", "no") == "no"
