"""Run a program so that it logs, and ends in a sentence instead of a traceback."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from edgetpu_retrain.errors import UserError

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


@contextlib.contextmanager
def run(log_path: str | Path | None = None) -> Iterator[None]:
    """Logs to standard error and, if given, to a file; ends the program on an error.

    A `UserError`, or an error of the system such as a full disk, is shown as a sentence; the
    traceback of the latter goes to the file. The traceback of anything else, which is a defect, is
    shown too. Ctrl-C ends the program without a word.
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
    # On a full disk the log cannot be written either.
    logging.raiseExceptions = False
    log = logging.getLogger(__name__)
    try:
        yield
    except UserError as error:
        log.error("Error: %s", error)
        sys.exit(1)
    except OSError as error:
        log.error("Error: %s", sentence(error))
        log.debug(traceback.format_exc())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception:
        log.error(traceback.format_exc())
        sys.exit(1)


def sentence(error: OSError) -> str:
    """Says what the system refused, and for which file.

    >>> sentence(PermissionError(13, "Permission denied", "model.tflite"))
    'model.tflite: permission denied.'
    """
    if error.strerror is None:
        return str(error) or type(error).__name__
    text = error.strerror[0].lower() + error.strerror[1:]
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return f"{' -> '.join(paths)}: {text}." if paths else f"the system says: {text}."
