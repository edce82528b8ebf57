"""Let Ctrl-C end a job without a traceback, even while it is importing modules."""

import signal
import sys
from types import TracebackType


def is_job() -> bool:
    """Returns whether this process runs the script of a Snakemake rule."""
    return ".snakemake/scripts/" in sys.argv[0].replace("\\", "/")


def exit_silently() -> None:
    """Makes Ctrl-C kill a job immediately; for when there is nothing to clean up."""
    if is_job() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_keyboard_interrupt() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt as usual, so that unfinished outputs are cleaned up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hide_interrupt_traceback() -> None:
    """Makes an uncaught KeyboardInterrupt end this program without a traceback."""
    show = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            show(kind, error, traceback)

    sys.excepthook = hook
