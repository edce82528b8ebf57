"""Run a program with logging, and report errors as messages rather than tracebacks."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from edgetpu_retrain.errors import UserError

_INTERRUPTED = 130  # 128 + SIGINT, the shell convention


@contextlib.contextmanager
def run(log_path: str | Path | None = None) -> Iterator[None]:
    """Sets up logging to standard error and exits the program if the block raises.

    A `UserError` or an `OSError`, such as a full disk, is shown as a message; the traceback of an
    `OSError` goes to the log file only. Any other exception is a bug and is shown with its
    traceback. Ctrl-C exits silently. The exit status is 1, or 130 after Ctrl-C.

    Args:
        log_path: a file to log to as well. It is overwritten, and also gets debug messages.
    """
    console = logging.StreamHandler()
    console.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [console]
    if log_path is not None:
        handlers.append(
            logging.FileHandler(log_path, mode="w", encoding="utf-8", errors="backslashreplace")
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    # Only the file gets debug messages: the console handler drops them.
    logging.getLogger("edgetpu_retrain").setLevel(logging.DEBUG)
    # On a full disk, logging fails too; its own tracebacks would hide the error.
    logging.raiseExceptions = False
    log = logging.getLogger(__name__)
    try:
        yield
    except UserError as error:
        log.error("Error: %s", error)
        sys.exit(1)
    except OSError as error:
        log.error("Error: %s", describe_os_error(error))
        log.debug(traceback.format_exc())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception:
        log.error(traceback.format_exc())
        sys.exit(1)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Does what `run` does for a program that prints its results to standard output."""
    with run(), standard_output():
        yield


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Runs a block that prints, and makes sure that its output has been written.

    If the reader has closed the pipe, as `head` does, the program exits silently with status 1.

    Raises:
        UserError: standard output is closed, or what it goes to is full, for example.
    """
    if sys.stdout is None:
        raise UserError("Standard output is closed, so there is nowhere to print to.")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        # What is left to write when Python exits must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        error.filename = "standard output"
        raise UserError(describe_os_error(error)) from None


def describe_os_error(error: OSError) -> str:
    """Returns a message with the system's reason and the file it is about.

    >>> describe_os_error(PermissionError(13, "Permission denied", "model.tflite"))
    'model.tflite: permission denied.'
    """
    if error.strerror is None:
        return str(error) or type(error).__name__
    text = error.strerror[0].lower() + error.strerror[1:]
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return f"{' -> '.join(paths)}: {text}." if paths else f"system error: {text}."
