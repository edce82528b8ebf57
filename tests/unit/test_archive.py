import bz2
import gzip
import io
import lzma
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import archive


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = len(content) if kind == tarfile.REGTYPE else 0
    member.linkname = "/etc/passwd"
    tar.addfile(member, io.BytesIO(content))


def names_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("suffix", ["tar", "tgz", "tar.xz", "zip"])
def test_archives_of_every_kind(tmp_path: Path, suffix):
    path, content = tmp_path / f"photos.{suffix}", {"p/a/1.jpg": b"1", "p/ä ö/2 3.jpg": b"2"}
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in content.items():
                zipped.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{ {'tar': '', 'tgz': 'gz', 'tar.xz': 'xz'}[suffix] }") as tar:
            for name, data in content.items():
                add(tar, name, data)
    archive.extract(path, tmp_path / "out")
    assert {
        n: (tmp_path / "out" / n).read_bytes() for n in names_below(tmp_path / "out")
    } == content


@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/tmp/evil.jpg", "C:\\evil"])
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_a_path_outside_is_refused(tmp_path: Path, name, suffix):
    path = tmp_path / f"photos.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as tar:
            add(tar, name)
    with pytest.raises(UserError, match="leads outside"):
        archive.extract(path, tmp_path / "in" / "out")
    assert names_below(tmp_path) == [path.name]


def test_links_and_devices_are_left_out(tmp_path: Path, caplog):
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        add(tar, "a/1.jpg")
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            add(tar, f"a/special{kind.decode()}", kind=kind)
    archive.extract(tmp_path / "photos.tar", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out" / "a").iterdir()] == ["1.jpg"]
    assert "left out 4 links, devices or files above 1 GB, such as a/special" in caplog.text


def test_a_symlink_in_a_zip_is_left_out(tmp_path: Path):
    info = zipfile.ZipInfo("a/link.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as zipped:
        zipped.writestr(info, "/etc/passwd")
        zipped.writestr("a/1.jpg", b"x")
    archive.extract(tmp_path / "photos.zip", tmp_path / "out")
    assert names_below(tmp_path / "out") == ["a/1.jpg"]


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 99])
def test_what_is_no_archive_is_refused(tmp_path: Path, content):
    path = tmp_path / "photos.tgz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not a \.tar, \.tgz or \.zip"):
        archive.extract(path, tmp_path / "out")


def test_a_zip_made_on_macos_keeps_its_names(tmp_path: Path):
    info = zipfile.ZipInfo("GaXnse/1.jpg")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as zipped:
        zipped.writestr(info, b"x")
    content = (tmp_path / "photos.zip").read_bytes()
    (tmp_path / "photos.zip").write_bytes(content.replace(b"GaXnse", "Gänse".encode()))
    archive.extract(tmp_path / "photos.zip", tmp_path / "out")
    assert names_below(tmp_path / "out") == ["Gänse/1.jpg"]


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_a_damaged_archive_is_called_so(tmp_path: Path, suffix):
    path = tmp_path / f"photos.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("a/1.jpg", b"x" * 9999)
        path.write_bytes(path.read_bytes()[:-60])
    else:
        with tarfile.open(path, "w:gz") as tar:
            add(tar, "a/1.jpg")
        content = bytearray(path.read_bytes())
        content[-6] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or incomplete"):
        archive.extract(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_truncated_archive_leaves_nothing(tmp_path: Path, shared: Path):
    path = tmp_path / "photos.tgz"
    with (shared / "data" / "flower_photos_1000.tgz").open("rb") as file:
        path.write_bytes(file.read(3_000_000))
    with pytest.raises(UserError, match="damaged or incomplete"):
        archive.extract(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["photos.tgz"]


def pack(folder: Path, kind: str, names: list[str]) -> Path:
    path = folder / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.mkdir("p")
            for name in names:
                zipped.writestr(name, b"x")
    else:
        with tarfile.open(path, {"tar": "w", "tgz": "w:gz", "tar.xz": "w:xz"}[kind]) as tar:
            add(tar, "p", kind=tarfile.DIRTYPE)
            add(tar, "p/link.jpg", kind=tarfile.SYMTYPE)
            for name in names:
                add(tar, name)
    return path


@pytest.mark.parametrize("kind", ["tar", "tgz", "tar.xz", "zip"])
@pytest.mark.parametrize("count", [0, 3])
def test_files_are_counted_without_unpacking(tmp_path: Path, kind: str, count: int):
    path = pack(tmp_path, kind, [f"p/a/{i}.jpg" for i in range(count)])
    assert archive.count_files(path) == count
    assert list(tmp_path.iterdir()) == [path]


def test_photos_of_a_real_archive_are_counted(shared: Path):
    path = shared / "data" / "flower_photos_1000.tgz"
    listed = subprocess.run(["tar", "-tzf", path], capture_output=True, text=True, check=True)
    expected = [line for line in listed.stdout.splitlines() if not line.endswith("/")]
    assert archive.count_files(path) == len(expected) > 900


@pytest.mark.parametrize("kind", ["tar", "tgz", "tar.xz", "zip"])
def test_counting_a_damaged_archive_stops_nothing(tmp_path: Path, kind: str):
    """The number of files is for dividing the work; unpacking says what is wrong."""
    path = pack(tmp_path, kind, [f"p/ä/{i}.jpg" for i in range(6)])
    content = path.read_bytes()
    step = 1 + len(content) // 300
    for place in range(0, len(content), step):
        path.write_bytes(content[:place])
        assert archive.count_files(path) in (None, *range(7))
        changed = content[place] ^ 0x88
        path.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
        assert archive.count_files(path) in (None, *range(10))


def test_a_damaged_name_in_a_zip(tmp_path: Path):
    path = pack(tmp_path, "zip", ["p/ä/1.jpg"])
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xc3\x2f"))
    assert archive.count_files(path) is None
    with pytest.raises(UserError, match="damaged or incomplete"):
        archive.extract(path, tmp_path / "out")


def test_what_is_no_archive_has_no_files(tmp_path: Path):
    (tmp_path / "photos.zip").write_bytes(b"no archive at all" * 99)
    assert archive.count_files(tmp_path / "photos.zip") is None
    assert archive.count_files(tmp_path / "missing.zip") is None


@pytest.fixture
def tarred(tmp_path: Path) -> Path:
    """Two classes of two photos each, packed by tar."""
    for label in ("a", "b"):
        (tmp_path / "p" / label).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "p" / label / f"{i}.jpg").write_bytes(bytes(700) + label.encode())
    subprocess.run(["tar", "-C", tmp_path / "p", "-cf", tmp_path / "p.tar", "a", "b"], check=True)
    return tmp_path / "p.tar"


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message):
        archive.extract(path, path.parent / "out")
    assert not (path.parent / "out").exists()


def start_of_b(content: bytes) -> int:
    return content.index(b"b/" + bytes(98))


def test_a_tar_that_ends_early_is_refused(tarred: Path):
    content = tarred.read_bytes()
    archive.extract(tarred, tarred.parent / "whole")
    end = len(content.rstrip(b"\0"))
    # Behind the last photo, in front of a class's folder, and within a header.
    for cut in (-(-end // 512) * 512, start_of_b(content), start_of_b(content) + 200):
        tarred.write_bytes(content[:cut])
        assert_refused(tarred, "damaged or incomplete: ")


def test_a_damaged_header_loses_no_class(tarred: Path):
    content = bytearray(tarred.read_bytes())
    content[start_of_b(content) + 110] ^= 1
    tarred.write_bytes(content)
    assert_refused(tarred, "a header in it is damaged, or a second archive is joined")


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_joined_archives_are_refused(tarred: Path, compress):
    content = tarred.read_bytes()
    tarred.write_bytes(compress(content) + compress(content))
    assert_refused(tarred, "a second archive is joined to the first")
    tarred.write_bytes(compress(content))
    archive.extract(tarred, tarred.parent / "out")


def test_a_sparse_file_is_left_out(tmp_path: Path, caplog):
    (tmp_path / "p/a").mkdir(parents=True)
    (tmp_path / "p/a/photo.jpg").write_bytes(b"x")
    with (tmp_path / "p/a/huge.jpg").open("wb") as file:
        file.truncate(3 << 30)
    for kind in ("gnu", "posix"):
        path = tmp_path / f"{kind}.tar"
        subprocess.run(
            ["tar", "-C", tmp_path / "p", f"--format={kind}", "-cSf", path, "a"], check=True
        )
        assert path.stat().st_size < 1e5
        archive.extract(path, tmp_path / kind)
        assert names_below(tmp_path / kind) == ["a/photo.jpg"]
        assert "left out 1 links, devices or files above 1 GB, such as a/huge.jpg" in caplog.text


def test_a_sparse_map_that_is_no_number_is_called_damage(tmp_path: Path):
    with tarfile.open(tmp_path / "p.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a/1.jpg")
        member.pax_headers = {"GNU.sparse.map": "a,b"}
        tar.addfile(member)
    assert_refused(tmp_path / "p.tar", "damaged or incomplete")


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        # The second byte of these characters is a backslash.
        ("cp932", ["ソース/表1.jpg", "十能/1.jpg"]),
        ("cp932", ["写真\\表示\\1.jpg"]),
        ("cp437", ["Vögel/Größe.jpg", "Äpfel/1.jpg"]),
        ("cp437", ["Vögel\\1.jpg", "Finken\\2.jpg"]),
        ("utf-8", ["Vögel/写真.jpg", "表/1.jpg"]),
    ],
)
def test_old_names_in_a_zip(tmp_path: Path, monkeypatch, encoding: str, names: list[str]):
    path = tmp_path / "p.zip"
    # As old programs write them: without the flag for UTF-8.
    monkeypatch.setattr(
        zipfile.ZipInfo, "_encodeFilenameFlags", lambda self: (self.filename.encode("cp437"), 0)
    )
    with zipfile.ZipFile(path, "w") as zipped:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name.encode(encoding).decode("cp437")
            zipped.writestr(info, b"x")
    archive.extract(path, tmp_path / "out")
    assert names_below(tmp_path / "out") == sorted(name.replace("\\", "/") for name in names)


def test_names_flagged_as_utf8_that_are_not(tmp_path: Path):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("aä/1.jpg", b"x")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xfe"))
    assert_refused(path, "damaged or incomplete")


def test_another_archive_of_the_same_name_is_mentioned(tmp_path: Path, caplog):
    """Both would be unpacked to the same folder."""
    first, second = (tmp_path / name / "birds.zip" for name in "ab")
    for path in (first, second):
        path.parent.mkdir()
        path.write_bytes(b"PK")
    record = tmp_path / "resources" / ".archive"

    def warned(path: Path) -> bool:
        caplog.clear()
        archive.record_source(path, record)
        return f"another archive with this name, {first}, are replaced" in caplog.text

    assert not warned(first)
    # Changed, or named in another way.
    assert not warned(first)
    assert not warned(first.parent / ".." / "a" / "birds.zip")
    assert not warned(first)
    assert warned(second)
    assert not warned(second)
    archive.record_source(first, record)
    first.rename(tmp_path / "moved.zip")
    assert not warned(tmp_path / "moved.zip")


def test_an_archive_of_the_same_name_at_another_url_is_mentioned(tmp_path: Path, caplog):
    """Both are downloaded to the same file."""
    downloaded, own = tmp_path / "archive", tmp_path / "own" / "birds.zip"
    for path in (downloaded, own):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PK")
    record = tmp_path / ".archive"

    def warned_of(path: Path, url: str | None = None) -> list[str]:
        caplog.clear()
        archive.record_source(path, record, url)
        return re.findall(r"with this name, (.*), are replaced", caplog.text)

    # As an earlier version recorded a download.
    archive.record_source(downloaded, record)
    assert warned_of(downloaded, "https://a/birds.zip") == []
    assert warned_of(downloaded, "https://a/birds.zip") == []
    assert warned_of(downloaded, "https://b/birds.zip") == ["https://a/birds.zip"]
    assert warned_of(own) == ["https://b/birds.zip"]
    assert warned_of(downloaded, "https://b/birds.zip") == [str(own)]
