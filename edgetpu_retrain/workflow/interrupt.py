"""Let Ctrl-C end a job of the workflow without a traceback, also while it is importing."""

import signal
import sys
from types import TracebackType


def is_job() -> bool:
    """Whether this program is a script that Snakemake runs."""
    return ".snakemake/scripts/" in sys.argv[0].replace("\\", "/")


def end_silently() -> None:
    """Lets the system end a job; what follows has nothing to clean up."""
    if is_job() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Lets Ctrl-C raise a KeyboardInterrupt as usual, so that what was begun is cleaned up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hide_traceback() -> None:
    """Lets a KeyboardInterrupt that nothing catches end this program without a word."""
    show = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            show(kind, error, traceback)

    sys.excepthook = hook
