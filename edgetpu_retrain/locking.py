"""A lock that ends with the process that holds it, however that ends."""

import errno
import os
import time
from pathlib import Path
from typing import IO

_POLL_SECONDS = 0.2


class UnsupportedError(Exception):
    """This system or file system has no such locks."""


def lock(path: str | os.PathLike[str], wait: float = 0.0) -> IO[str] | None:
    """Takes the lock that a file stands for.

    Args:
        path: of the file, which is made where it is not there; it stays.
        wait: seconds to wait for another process that holds the lock.

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
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                holder.close()
                raise UnsupportedError(str(error)) from error
            if time.monotonic() >= deadline:
                holder.close()
                return None
            time.sleep(_POLL_SECONDS)
        else:
            return holder
