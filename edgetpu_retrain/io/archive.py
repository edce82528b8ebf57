"""Unpack an archive of photos without letting it write anywhere else."""

import contextlib
import gzip
import io
import logging
import lzma
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files

_AR_MAGIC = b"!<arch>\n"
_CHUNK_BYTES = 1 << 20

_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    # Names of files in a .zip archive.
    UnicodeDecodeError,
)

log = logging.getLogger(__name__)


def extract(archive: str | Path, folder: str | Path) -> None:
    """Unpacks a .tar (plain or compressed) or .zip archive into a new folder.

    Only regular files and folders are unpacked; links and devices are left out and logged. The
    folder appears under its name when it is complete.

    Raises:
        UserError: the file is missing, damaged, no archive, or holds a path that leads outside.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise UserError(f"{archive}: there is no such file.")
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        try:
            if tarfile.is_tarfile(archive):
                _extract_tar(archive, temporary)
            elif zipfile.is_zipfile(archive):
                _extract_zip(archive, temporary)
            elif _starts_as_archive(archive):
                raise UserError(f"{archive} is damaged or incomplete. Get it again.")
            else:
                raise UserError(f"{archive} is not a .tar, .tgz or .zip archive.")
        except _DAMAGES as error:
            raise UserError(
                f"{archive} is damaged or incomplete: {error}. Get it again."
            ) from error
        except NotImplementedError as error:
            raise UserError(
                f"{archive} is packed in a way that Python cannot read ({error}). Unpack it by "
                "hand and name the folder."
            ) from error


def count_files(archive: str | Path) -> int | None:
    """Returns how many files an archive lists; None where it cannot be read."""
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


def extract_member(archive: Path, member: str) -> None:
    """Replaces a .tar archive by one file in it, found by its name without folders.

    Raises:
        UserError: the file is not such an archive, or does not hold that file.
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
    raise UserError(f"the archive holds no file {member}")


def _first_line(error: Exception) -> str:
    # tarfile lists every compression it tried, one per line.
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")


def extract_program(package: Path, folder: str | Path, program: str) -> None:
    """Unpacks a program's .tar archive or Debian package into a new folder, to be run from there.

    Permissions and links inside of the folder are kept, which a program may need.

    Args:
        package: path of the archive or package.
        folder: the new folder.
        program: where the program should then be below the folder.

    Raises:
        UserError: the package is damaged, of another kind, does not hold the program, or would
            write outside of the folder, through links of its own as well.
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
            # What a link leads to may have come after it.
            for path in temporary.rglob("*"):
                _check_inside(package, temporary, path)
        # A loop of links is a RuntimeError before Python 3.13.
        except (*_DAMAGES, ValueError, RuntimeError, FileExistsError) as error:
            raise UserError(f"the package is damaged: {_first_line(error)}") from error
        if not (temporary / program).is_file():
            raise UserError(f"the package holds no {program}")


def _program_files(package: Path) -> IO[bytes]:
    """Opens a package's .tar archive, which in a Debian package is an ar archive's data.tar."""
    file = package.open("rb")
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        file.seek(0)
        return file
    with file:
        return _debian_data(file)


def _debian_data(file: IO[bytes]) -> IO[bytes]:
    """Returns the data.tar of a Debian package: an ar archive, deb(5), behind its magic."""
    while header := file.read(60):
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        content = file.read(size)
        if name.startswith("data.tar"):
            return io.BytesIO(content)
        file.read(size % 2)
    raise ValueError("it holds no data.tar")


def _extract_tar(archive: Path, folder: Path) -> None:
    left_out = []
    with tarfile.open(archive) as tar:
        for member in tar:
            target = _target(archive, folder, member.name)
            if not _extract_member(tar, member, target) and not member.isdir():
                left_out.append(member.name)
        # The checksum of a compressed archive stands at its very end.
        while tar.fileobj is not None and tar.fileobj.read(_CHUNK_BYTES):
            pass
    _warn(archive, left_out)


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> bool:
    """Writes a folder or a regular file; returns whether it was a file."""
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isreg():
        source = tar.extractfile(member)
        assert source is not None
        _write(source, target)
        return True
    return False


def _extract_zip(archive: Path, folder: Path) -> None:
    left_out = []
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            target = _target(archive, folder, _name(info))
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif kind not in (0, stat.S_IFREG):
                left_out.append(info.filename)
            elif info.flag_bits & 0x1:
                raise UserError(f"{archive} is protected by a password. Unpack it by hand.")
            else:
                with zipped.open(info) as source:
                    _write(source, target)
    _warn(archive, left_out)


def _warn(archive: Path, left_out: Sequence[str]) -> None:
    for name in left_out:
        log.debug("left out: %s", name)
    if left_out:
        log.warning(
            "%s: %d links or devices are left out, such as %s",
            archive.name,
            len(left_out),
            left_out[0],
        )


def _name(info: zipfile.ZipInfo) -> str:
    """Returns a file's name in a .zip archive; macOS writes UTF-8 without saying so."""
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode("utf-8")
    return info.filename


def _target(archive: Path, folder: Path, name: str) -> Path:
    path = PurePosixPath(posixpath.normpath(name.replace("\\", "/")))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise _leads_outside(archive, name)
    return folder / path


def _check_inside(archive: Path, folder: Path, path: Path) -> None:
    """Raises a UserError where a path leads outside of a folder, through links on disk as well."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _leads_outside(archive, str(path.relative_to(folder)))


def _leads_outside(archive: Path, name: str) -> UserError:
    return UserError(
        f"{archive} holds the path {name!r}, which leads outside of the folder it is "
        "unpacked to. Nothing was unpacked; do not trust this archive."
    )


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)
