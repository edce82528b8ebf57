"""Unpack an archive of photos without letting it write anywhere else."""

import logging
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from edgetpu_retrain import files
from edgetpu_retrain.errors import UserError

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
            else:
                raise UserError(f"{archive} is not a .tar, .tgz or .zip archive.")
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError) as e:
            raise UserError(f"{archive} is damaged or incomplete: {e}. Get it again.") from e


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            target = _target(archive, folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                source = tar.extractfile(member)
                assert source is not None
                _write(source, target)
            else:
                log.warning("%s: %s is a link or a device; left out", archive.name, member.name)


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            target = _target(archive, folder, info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif kind not in (0, stat.S_IFREG):
                log.warning("%s: %s is a link or a device; left out", archive.name, info.filename)
            elif info.flag_bits & 0x1:
                raise UserError(f"{archive} is protected by a password. Unpack it by hand.")
            else:
                with zipped.open(info) as source:
                    _write(source, target)


def _target(archive: Path, folder: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise UserError(
            f"{archive} holds the path {name!r}, which leads outside of the folder it is "
            "unpacked to. Nothing was unpacked; do not trust this archive."
        )
    return folder / path


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)
