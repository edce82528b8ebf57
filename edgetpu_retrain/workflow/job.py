"""What every script does around its one call: log, fail without a traceback, sign its outputs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgetpu_retrain.io import files, program
from edgetpu_retrain.workflow import interrupt, locking

# Shared by the jobs at work in a folder, so that a run can wait for those of one that was killed.
AT_WORK = Path(".snakemake/at_work")


@contextlib.contextmanager
def run(snakemake: Any) -> Iterator[None]:
    """What a rule's script does around its one call.

    Besides what `program.run` does, a run waits for the job if it is killed, and the job's outputs
    carry their fingerprint once they are complete.

    Args:
        snakemake: the object that Snakemake gives the script.
    """
    with program.run(snakemake.log[0] if snakemake.log else None), _interruptible(), _at_work():
        yield
        path = getattr(snakemake.output, "fingerprint", None)
        if path is not None:
            with files.replacing(path) as temporary:
                temporary.write_text(f"{snakemake.params.fingerprint}\n", encoding="ascii")


def read_fingerprint(path: str | Path) -> str | None:
    """Returns the fingerprint that outputs carry; None where they carry none."""
    try:
        return Path(path).read_text(encoding="ascii").removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    interrupt.raise_again()
    try:
        yield
    finally:
        interrupt.end_silently()


def _at_work() -> contextlib.AbstractContextManager[object]:
    with contextlib.suppress(locking.UnsupportedError):
        if AT_WORK.parent.is_dir():
            return locking.lock(AT_WORK, shared=True, wait=True) or contextlib.nullcontext()
    return contextlib.nullcontext()
