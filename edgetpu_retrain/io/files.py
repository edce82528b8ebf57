"""Whole files or none: write under a temporary name, rename when complete; say which are not."""

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from edgetpu_retrain.errors import UserError

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` that is renamed to `path` if the block succeeds.

    The temporary path does not exist yet; the block makes it a file or a folder. If the block
    raises, it is removed and what stood at `path` stays. What a process that was killed has left
    beside `path` is removed too.

    Args:
        path: a file or a folder.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    for leftover in final.parent.glob(f".{glob.escape(final.name)}.*.part"):
        remove(leftover)
    # A process that outlives a killed run must not write into the file of the next one.
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        yield temporary
        if temporary.is_dir():
            # The files in it are too many to wait for one by one.
            if hasattr(os, "sync"):
                os.sync()
            remove(final)
        else:
            _flush(temporary)
        temporary.replace(final)
    except BaseException:
        remove(temporary)
        raise


def _flush(path: Path) -> None:
    """Waits until a file is on the disk, so that a power cut after its renaming leaves it whole."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Says which file is damaged, where the block cannot make sense of what this project wrote.

    Raises:
        UserError: in place of what the block raises then.
    """
    try:
        yield
    # A RuntimeError is of a ZIP archive that seems to be encrypted, or of a kind not known here.
    except (ValueError, KeyError, EOFError, BadZipFile, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}). Delete it and run again.") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Returns the content of a JSON file that this project wrote.

    Raises:
        UserError: it is damaged.
    """
    with reading(path):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def remove(path: Path) -> None:
    """Removes a file or a whole folder; does nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # The buffer of hashlib.file_digest takes longer to get than a small photo to read.
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_BLOCK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(content: bytes) -> str:
    """Returns the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def md5(path: str | os.PathLike[str]) -> str:
    """Returns the MD5 of a file as 32 hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        return digest.hexdigest()


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """Returns the id git gives a file of this content, as 40 hexadecimal digits.

    It is the SHA-1 of ``blob SIZE NUL`` and the content
    (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects).
    """
    digest = hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
