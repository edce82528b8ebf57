"""Unpack archives of photos, and packages of a program, without letting them write elsewhere.

tarfile's data filter is not used: the Python 3.11.2 of Debian 12 and Raspberry Pi OS lacks it.
"""

import contextlib
import gzip
import io
import logging
import lzma
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files

_AR_MAGIC = b"!<arch>\n"
_CHUNK_BYTES = 1 << 20
# No photo is larger; a sparse file of a few kilobytes can claim to be.
_MAX_FILE_BYTES = 1 << 30

_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    # File names in a .zip archive, and numbers in the headers of a .tar archive.
    ValueError,
)

log = logging.getLogger(__name__)


def extract(archive: str | Path, folder: str | Path) -> None:
    """Unpacks a .tar archive (plain or compressed) or a .zip archive into a new folder.

    Only regular files and folders are unpacked; links, devices and files above 1 GB are left out
    and logged. The folder appears under its name when it is complete.

    Raises:
        UserError: the archive is missing, damaged, incomplete, encrypted or not an archive, or it
            holds a path that leads outside the folder.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise UserError(f"{archive}: no such file.")
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        try:
            if tarfile.is_tarfile(archive):
                _extract_tar(archive, temporary)
            elif zipfile.is_zipfile(archive):
                _extract_zip(archive, temporary)
            elif _starts_as_archive(archive):
                raise UserError(f"{archive} is damaged or incomplete. Download or copy it again.")
            else:
                raise UserError(f"{archive} is not a .tar, .tgz or .zip archive.")
        except _DAMAGES as error:
            raise UserError(
                f"{archive} is damaged or incomplete: {_first_line(error)}. Download or copy it "
                "again."
            ) from error
        except NotImplementedError as error:
            raise UserError(
                f"{archive} is compressed in a way that Python cannot read ({error}). Unpack it by "
                "hand and set `dataset` to the folder."
            ) from error


def check_complete(path: Path) -> None:
    """Checks that a downloaded file is an archive and has its end, without unpacking it.

    Raises:
        UserError: it is something else, such as a web page, or incomplete.
    """
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                for _ in tar:
                    pass
                _check_end(tar)
            return
    except _DAMAGES as error:
        raise UserError(f"the archive is incomplete: {_first_line(error)}") from error
    if zipfile.is_zipfile(path):
        return
    if _starts_as_archive(path):
        raise UserError("the archive is incomplete: its end is missing")
    with path.open("rb") as file:
        start = file.read(_CHUNK_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        raise UserError(
            "the server sent a web page, not an archive. The address may need a login, or be that "
            "of a page with a download button"
        )
    raise UserError("the server sent something that is not a .tar, .tgz or .zip archive")


def count_files(archive: str | Path) -> int | None:
    """Returns the number of files in an archive; None if it cannot be read."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                return sum(not entry.is_dir() for entry in packed.infolist())
        with tarfile.open(archive) as tar:
            return sum(member.isfile() for member in tar)
    except (OSError, NotImplementedError, *_DAMAGES):
        return None


def _starts_as_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04"))


def record_source(archive: str | Path, record: str | Path, url: str | None = None) -> None:
    """Records where the archive is that a dataset is unpacked from.

    Logs a warning if the last one with this name was another, unless it was a file that is gone.

    Args:
        archive: the archive.
        record: the file with the path or URL of the last one.
        url: where the archive was downloaded from, if it was.
    """
    record = Path(record)
    source = url or str(Path(archive).absolute())
    earlier = record.read_text("utf-8", "surrogateescape") if record.is_file() else None
    if earlier is not None and _is_another(earlier, source, archive):
        log.warning(
            "Warning: the photos and results of another archive with this name, %s, are replaced. "
            "To keep both, rename one of the archives; download it yourself if it is at a URL.",
            earlier,
        )
    with files.replacing(record) as temporary:
        temporary.write_text(source, "utf-8", "surrogateescape")


def _is_another(earlier: str, source: str, archive: str | Path) -> bool:
    if re.match(r"https?://", earlier):
        return earlier != source
    return Path(earlier).is_file() and not Path(earlier).samefile(archive)


def extract_member(archive: Path, member: str) -> None:
    """Replaces a .tar archive with one of its files, looked up by name, whatever its folder.

    Raises:
        UserError: the archive is damaged or does not contain the file.
    """
    try:
        with tarfile.open(archive) as tar:
            for info in tar:
                if info.isreg() and PurePosixPath(info.name).name == member:
                    source = tar.extractfile(info)
                    assert source is not None
                    with files.replacing(archive) as temporary:
                        _write(source, temporary)
                    return
    except _DAMAGES as error:
        raise UserError(f"the archive is damaged: {_first_line(error)}") from error
    raise UserError(f"the archive does not contain {member}")


def _first_line(error: Exception) -> str:
    # tarfile lists every compression it has tried, one per line.
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")


def extract_program(package: Path, folder: str | Path, program: str) -> None:
    """Unpacks a program's .tar archive or Debian package into a new folder.

    Execute permissions and links within the folder are kept, since a program may need them.

    Args:
        package: path of the archive or package.
        folder: path of the new folder.
        program: path of the program, relative to the folder.

    Raises:
        UserError: the package is damaged, is not such a package, does not contain the program, or
            would write outside the folder, be it through its own links.
    """
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        try:
            with _program_files(package) as content, tarfile.open(fileobj=content) as tar:
                for member in tar:
                    target = _target(package, temporary, member.name)
                    _check_inside(package, temporary, target.parent if member.issym() else target)
                    if member.issym():
                        link = str(PurePosixPath(member.name).parent / member.linkname)
                        _target(package, temporary, link)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.symlink_to(member.linkname)
                    elif _extract_member(tar, member, target):
                        target.chmod(0o755 if member.mode & 0o100 else 0o644)
            # The target of a link may come after the link.
            for path in temporary.rglob("*"):
                _check_inside(package, temporary, path)
        # A loop of links is a RuntimeError before Python 3.13, and a FileExistsError since.
        except (*_DAMAGES, RuntimeError, FileExistsError) as error:
            raise UserError(f"the package is damaged: {_first_line(error)}") from error
        if not (temporary / program).is_file():
            raise UserError(f"the package does not contain {program}")


def _program_files(package: Path) -> IO[bytes]:
    """Opens the .tar archive of a package; in a Debian package that is data.tar."""
    file = package.open("rb")
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        file.seek(0)
        return file
    with file:
        return _debian_data(file)


def _debian_data(file: IO[bytes]) -> IO[bytes]:
    """Returns the data.tar of a Debian package, an ar archive (deb(5)), read past its magic."""
    while header := file.read(60):
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        content = file.read(size)
        if name.startswith("data.tar"):
            return io.BytesIO(content)
        file.read(size % 2)
    raise ValueError("there is no data.tar in it")


def _extract_tar(archive: Path, folder: Path) -> None:
    left_out = []
    with tarfile.open(archive) as tar:
        for member in tar:
            target = _target(archive, folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif not _extract_member(tar, member, target):
                left_out.append(member.name)
        _check_end(tar)
    _warn(archive, left_out)


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> bool:
    """Writes a folder or a regular file; returns whether it was a file."""
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isreg() and not member.issparse() and member.size <= _MAX_FILE_BYTES:
        source = tar.extractfile(member)
        assert source is not None
        _write(source, target)
        return True
    return False


def _check_end(tar: tarfile.TarFile) -> None:
    """Checks that the end mark follows the last member, and nothing but padding follows that.

    tarfile takes a header that it cannot read for the end, and would lose the photos after it.

    Raises:
        tarfile.ReadError: it does not.
    """
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    at_end = tar.fileobj.read(tarfile.BLOCKSIZE)
    if len(at_end) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    # The checksum of a compressed archive is at its very end, too.
    while at_end:
        if at_end.count(0) != len(at_end):
            raise tarfile.ReadError(
                "a header in it is damaged, or a second archive is joined to the first"
            )
        at_end = tar.fileobj.read(_CHUNK_BYTES)


def _extract_zip(archive: Path, folder: Path) -> None:
    left_out = []
    written: dict[Path, str] = {}
    with zipfile.ZipFile(archive) as zipped:
        for info, name in _with_names(zipped.infolist()):
            target = _target(archive, folder, name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif kind not in (0, stat.S_IFREG) or info.file_size > _MAX_FILE_BYTES:
                left_out.append(name)
            elif info.flag_bits & 0x1:
                raise UserError(f"{archive} is encrypted. Unpack it by hand.")
            elif written.setdefault(target, info.filename) != info.filename:
                raise UserError(
                    f"{archive} contains several files named {name!r} in different encodings. "
                    "Unpack it by hand."
                )
            else:
                with zipped.open(info) as source:
                    _write(source, target)
    _warn(archive, left_out)


def _warn(archive: Path, left_out: Sequence[str]) -> None:
    for name in left_out:
        log.debug("left out: %s", name)
    if left_out:
        log.warning(
            "%s: left out %d links, devices or files above 1 GB, such as %s",
            archive.name,
            len(left_out),
            left_out[0],
        )


def _with_names(infos: Sequence[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """Yields the entries of a .zip archive with their names.

    A name that is not flagged as UTF-8 is in UTF-8 all the same (macOS), in the code page of
    Japanese Windows, or in cp437, as the format has it (APPNOTE.TXT, appendix D). One encoding is
    used for all of them. Zips made on Windows may separate folders by backslashes.
    """
    raw = [_unflagged(info) for info in infos]
    encoding = _encoding([name for name in raw if name is not None])
    for info, unflagged in zip(infos, raw, strict=True):
        name = info.filename if unflagged is None else unflagged.decode(encoding)
        yield info, name if "/" in name else name.replace("\\", "/")


def _unflagged(info: zipfile.ZipInfo) -> bytes | None:
    """Returns the bytes of a name that zipfile has read as cp437; None if it is Unicode."""
    if not info.flag_bits & 0x800:
        # A name in the extra field for Unicode paths, which Python 3.12 reads, need not be cp437.
        with contextlib.suppress(UnicodeEncodeError):
            return info.filename.encode("cp437")
    return None


def _encoding(names: Sequence[bytes]) -> str:
    for encoding in ("utf-8", "cp932"):
        with contextlib.suppress(UnicodeDecodeError):
            text = "/".join(name.decode(encoding) for name in names)
            # A single umlaut in cp437 and the letter after it make one character of cp932.
            if encoding == "utf-8" or re.search(r"[^\x00-\x7f]{2}", text):
                return encoding
    return "cp437"


def _target(archive: Path, folder: Path, name: str) -> Path:
    path = PurePosixPath(posixpath.normpath(name))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise _leads_outside(archive, name)
    return folder / path


def _check_inside(archive: Path, folder: Path, path: Path) -> None:
    """Raises a UserError if a path leads outside a folder, be it through links on disk."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _leads_outside(archive, str(path.relative_to(folder)))


def _leads_outside(archive: Path, name: str) -> UserError:
    return UserError(
        f"{archive} contains the path {name!r}, which leads outside the folder it is unpacked to. "
        "Nothing was unpacked; do not trust this archive."
    )


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)
