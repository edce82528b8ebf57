"""A lock that ends with the process that holds it, however that ends."""

import errno
import os
from pathlib import Path
from typing import IO


class UnsupportedError(Exception):
    """This system or file system has no such locks."""


def lock(path: str | os.PathLike[str], shared: bool = False, wait: bool = False) -> IO[str] | None:
    """Takes the lock that a file stands for.

    Args:
        path: of the file, which is made where it is not there; it stays, with what is in it.
        shared: with others who share it, but not with one who does not.
        wait: until nobody is in the way.

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
    holder = open(path, "a+")  # noqa: SIM115, the caller holds it
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(holder, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        holder.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UnsupportedError(str(error)) from error
        return None
    return holder
