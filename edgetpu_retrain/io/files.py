"""Atomic writes (write to a temporary name, rename when complete), damaged files, checksums."""

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
    """Yields a temporary path next to `path` that is renamed to `path` if the block succeeds.

    The temporary path does not exist yet; the block creates a file or folder there. If the block
    raises, that is removed and any existing `path` is left as it was. Temporary files of `path`
    that a killed process left are removed first.

    Args:
        path: the file or folder to create or replace.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    for leftover in final.parent.glob(f".{glob.escape(final.name)}.*.part"):
        remove(leftover)
    # The PID keeps a job that outlives a killed run from writing to the next run's file.
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        yield temporary
        if temporary.is_dir():
            # One sync is faster than an fsync for each of many files.
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
    """Flushes a file to disk, so that it is complete even if the power fails after the rename."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Reports `path` as damaged if the block, which reads a file of this project, cannot parse it.

    Raises:
        UserError: the block raised one of the exceptions that damaged content leads to.
    """
    try:
        yield
    # zipfile raises RuntimeError where damage looks like encryption or an unknown format version.
    except (ValueError, TypeError, KeyError, EOFError, BadZipFile, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}). Delete it and run again.") from error


def read_json(path: str | os.PathLike[str], form: Any) -> Any:
    """Returns the content of a JSON file written by this project.

    Args:
        path: the file.
        form: the type that the content is checked against, such as a pydantic model or
            `dict[str, int]`; parts that it does not name are not checked.

    Raises:
        UserError: the file is damaged.
    """
    # Importing the library should not need what only the workflow does.
    from pydantic import TypeAdapter, ValidationError

    with reading(path):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        try:
            TypeAdapter(form).validate_python(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the content"
            raise ValueError(f"{where}: {first['msg']}") from None
        return content


def remove(path: Path) -> None:
    """Removes a file or a folder with its contents; does nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # hashlib.file_digest allocates a buffer, which takes longer than reading a small photo.
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_BLOCK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(content: bytes) -> str:
    """Returns the SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def md5(path: str | os.PathLike[str]) -> str:
    """Returns the MD5 of a file as 32 hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        return digest.hexdigest()


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """Returns the git blob id of a file as 40 hexadecimal digits.

    This is the SHA-1 of ``blob SIZE``, a NUL byte and the content
    (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects).
    """
    digest = hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
