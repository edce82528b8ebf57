"""A lock that ends with the process that holds it, however that ends."""

import errno
import os
from pathlib import Path
from typing import IO


class UnsupportedError(Exception):
    """This system or file system has no such locks."""


def lock(path: str | os.PathLike[str]) -> IO[str] | None:
    """Takes the lock that a file stands for.

    Args:
        path: of the file, which is made where it is not there; it stays.

    Returns:
        The open file, which holds the lock as long as it is open; None where another process
        holds it.

    Raises:
        UnsupportedError: there are no locks here, as on some network file systems.
    """
    try:
        import fcntl
    except ImportError:
        raise UnsupportedError("this system has no fcntl") from None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    holder = open(path, "w")  # noqa: SIM115, the caller holds it
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UnsupportedError(str(error)) from error
        return None
    return holder
