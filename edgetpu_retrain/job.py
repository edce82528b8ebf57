"""What every script does around its one call: log, and fail without a traceback."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from edgetpu_retrain.errors import UserError


@contextlib.contextmanager
def run(log_path: str | Path | None = None) -> Iterator[None]:
    """Logs to standard error and, if given, to a file; ends the program on an error.

    A `UserError`, or an error of the system such as a full disk, is shown by its text alone. The
    traceback of anything else, which is a defect, is shown and logged too.
    """
    console = logging.StreamHandler()
    console.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [console]
    if log_path is not None:
        handlers.append(
            logging.FileHandler(log_path, mode="w", encoding="utf-8", errors="backslashreplace")
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    # Details of this package go to the file.
    logging.getLogger("edgetpu_retrain").setLevel(logging.DEBUG)
    log = logging.getLogger(__name__)
    try:
        yield
    except (UserError, OSError) as error:
        log.error("Error: %s", error)
        sys.exit(1)
    except Exception:
        log.error(traceback.format_exc())
        sys.exit(1)
