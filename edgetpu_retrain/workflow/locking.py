"""A file lock that is released when the process that holds it ends, however it ends."""

import errno
import os
from pathlib import Path
from typing import IO


class UnsupportedError(Exception):
    """The operating system or file system does not support such locks."""


def lock(path: str | os.PathLike[str], shared: bool = False, wait: bool = False) -> IO[str] | None:
    """Acquires a lock on a file.

    Args:
        path: path of the lock file. It is created if necessary; its content is left as it is.
        shared: acquire a shared lock, which other processes can also hold as a shared lock.
        wait: wait until the lock is available.

    Returns:
        The open file, which holds the lock until it is closed; None if `wait` is false and another
        process holds the lock.

    Raises:
        UnsupportedError: locks are not supported here, as on some network file systems.
    """
    try:
        import fcntl
    except ImportError:
        raise UnsupportedError("this system has no fcntl") from None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115, the caller closes it
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UnsupportedError(str(error)) from error
        return None
    return file
