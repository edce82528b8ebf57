"""Keep out of standard error what native libraries print there for their developers."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

# File descriptor 2 belongs to the whole process.
_REDIRECTION = threading.Lock()


@contextlib.contextmanager
def without(is_unwanted: Callable[[bytes], object]) -> Iterator[None]:
    """Drops lines from what the block prints to standard error.

    Args:
        is_unwanted: whether to drop a line, which is given without the end of the line.
    """
    with _REDIRECTION, tempfile.TemporaryFile() as printed:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            before = os.dup(2)
        except OSError:  # Standard error is closed.
            yield
            return
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            printed.seek(0)
            for line in printed:
                if not is_unwanted(line.rstrip()):
                    os.write(2, line)
