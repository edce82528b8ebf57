import io
import os
import re
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin, TiffTags, features

from edgetpu_retrain.photos import memory
from edgetpu_retrain.photos.decode import (
    PhotoError,
    read_file,
    read_photo,
    rejection_reason,
    with_advice,
)
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


def previews_first(kind: str) -> bytes:
    """A TIFF that begins with a reduced picture, as NEF and DNG files do."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if kind == "preview":
        tags[254] = 1  # NewSubfileType: a reduced-resolution image.
    else:
        tags[50706] = b"\1\4\0\0"  # DNGVersion
        tags.tagtype[50706] = TiffTags.BYTE
    return encode(half_and_half((160, 120)), "TIFF", tiffinfo=tags)


@pytest.mark.parametrize("kind", ["preview", "dng"])
def test_a_camera_raw_file_is_not_used_for_its_preview(tmp_path: Path, kind):
    content = previews_first(kind)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.size == (160, 120)
    for name in ("a.tif", "a.nef"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(PhotoError, match="camera raw files: export it as JPEG"):
            read_file(path)
        reason = rejection_reason(str(path), path.stat())
        assert ("export it as JPEG" in with_advice(path, reason)) == (name == "a.nef")


def test_a_tiff_of_several_pages_gives_its_first():
    first, second = half_and_half(), half_and_half((20, 10))
    content = encode(first, "TIFF", save_all=True, append_images=[second])
    assert read_photo(content).size == (40, 20)


@pytest.mark.skipif(not features.check("avif"), reason="needs a Pillow that reads AVIF")
def test_avif_is_read(tmp_path: Path):
    (tmp_path / "photo.avif").write_bytes(encode(half_and_half((64, 32)), "AVIF", quality=95))
    ((path, status),) = find_photos(tmp_path)
    assert rejection_reason(path, status) == ""
    photo = read_file(path)
    assert (photo.mode, photo.size) == ("RGB", (64, 32))
    assert np.allclose(photo.getpixel((4, 16)), RED, atol=8)
    assert np.allclose(photo.getpixel((60, 16)), BLUE, atol=8)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n<!DOCTYPE html>\n<html lang=en>", "a web page"),
        (b"\xef\xbb\xbf<HTML><head><title>404", "a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
            "a Git LFS pointer",
        ),
        (b"\xff\x0a\xfa\x7f", "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a video"),
        (b"RIFF\0\1\0\0AVI LIST", "a video"),
        (b"\x1aE\xdf\xa3\xa3B\x86", "a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "a camera raw file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"PK\x03\x04\x14\0", "an archive"),
    ],
)
def test_what_is_named_like_a_photo_is_named_for_what_it_is(tmp_path: Path, content, what):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content + b"\0" * 100)
    reason = rejection_reason(str(path), path.stat())
    assert reason.startswith(what)
    with pytest.raises(PhotoError, match=f"^{re.escape(reason)}$"):
        read_photo(path.read_bytes())
    # No second advice for the extension.
    assert with_advice("photo.heic", reason) == reason


@pytest.mark.parametrize(
    "entry",
    # Tag, type and value: SubIFDs as raw bytes, a date as a float, XMP as a whole number.
    [(330, 7, 1000), (306, 11, 1000), (700, 4, 1000)],
)
def test_a_photo_with_unreadable_exif_is_used(entry):
    tag, kind, value = entry
    ifd = struct.pack("<HHHIIHHIII", 2, 0x0112, 3, 1, 6, tag, kind, 1, value, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + ifd
    content = encode(half_and_half(), "JPEG", exif=exif, quality=95)
    with Image.open(io.BytesIO(content)) as opened, pytest.raises(Exception):  # noqa: B017
        ImageOps.exif_transpose(opened)
    photo = read_photo(content)
    # It is turned upright even so: orientation 6.
    assert photo.size == (20, 40)
    assert np.allclose(photo.getpixel((10, 2)), RED, atol=6)
    assert np.allclose(photo.getpixel((10, 37)), BLUE, atol=6)


def test_a_huge_file_is_not_read(tmp_path: Path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(noise_jpeg())
    os.truncate(path, 8 << 30)
    assert rejection_reason(str(path), path.stat()) == "larger than 500 MB"
    with pytest.raises(PhotoError, match="larger than 500 MB"):
        read_file(path)


@pytest.mark.parametrize(
    "rest",
    [b"\xff" * 50_000_000, b"\0" * 50_000_000, b"\xff\0" * 20_000_000, b"\xff\xfe\0\2" * 10**7],
    ids=["fill bytes", "zeros", "stuffed bytes", "empty comments"],
)
def test_a_damaged_jpeg_header_is_not_read_byte_by_byte(rest: bytes, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: pytest.fail("opened"))
    with pytest.raises(PhotoError, match="JPEG header is damaged"):
        read_photo(b"\xff\xd8" + rest)


def test_fill_bytes_between_segments_are_read():
    """Any number of them may precede a marker (ITU-T T.81, B.1.1.2)."""
    content = encode(half_and_half(), "JPEG")
    filled = content[:2] + b"\xff" * 10_000 + content[2:]
    assert read_photo(filled).tobytes() == read_photo(content).tobytes()


def test_a_large_transparent_picture_is_blended_like_a_small_one():
    """It is blended in strips; the expected values are those of the whole."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (700, 9, 4), np.uint8), "RGBA")
    white = Image.new("RGBA", image.size, "white")
    expected = Image.alpha_composite(white, image).convert("RGB")
    assert read_photo(encode(image, "PNG")).tobytes() == expected.tobytes()


def test_threads_share_memory():
    budget, most, inside = memory.Budget(100), [], []

    def take(size: int) -> None:
        with budget.taking(size):
            inside.append(size)
            most.append(sum(inside))
            time.sleep(0.002)
            inside.remove(size)

    sizes = [30, 60, 250, 45] * 5
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, sizes))
    assert len(most) == 20
    # More than there is goes through alone.
    assert max(one for one in most if one < 250) <= 100
    assert set(most) & {250 + one for one in (30, 45, 60)} == set()


def test_what_a_photo_needs_is_known_before_it_is_decoded():
    large = Image.new("L", (4000, 3000))
    assert memory.needed(encode(large, "PNG")) == 12_000_000 * 8
    assert memory.needed(encode(large, "JPEG"), min_side=100) == 12_000_000
    assert memory.needed(encode(large, "JPEG", progressive=True), min_side=100) == 12_000_000 * 8
    assert memory.needed(encode(large, "JPEG")) == 12_000_000 * 8
    assert memory.needed(b"no photo") == 0
