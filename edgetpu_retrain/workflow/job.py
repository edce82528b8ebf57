"""Code shared by the scripts of all rules: logging, error messages and output fingerprints."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgetpu_retrain.io import files, program
from edgetpu_retrain.workflow import interrupt, locking

# A lock that running jobs share, so that a run can wait for the jobs of a run that was killed.
ACTIVE_JOBS_LOCK = Path(".snakemake/at_work")


@contextlib.contextmanager
def run(snakemake: Any) -> Iterator[None]:
    """Runs the block as the body of a rule's script, as `program.run` does.

    In addition, the job holds a lock, so that the next run waits for it if this run is killed, and
    the fingerprint of the outputs is written once they are complete.

    Args:
        snakemake: the object that Snakemake passes to the script.
    """
    log_path = snakemake.log[0] if snakemake.log else None
    with program.run(log_path), _interruptible(), _active_jobs_lock():
        yield
        path = getattr(snakemake.output, "fingerprint", None)
        if path is not None:
            with files.replacing(path) as temporary:
                temporary.write_text(f"{snakemake.params.fingerprint}\n", encoding="ascii")


def read_fingerprint(path: str | Path) -> str | None:
    """Returns the fingerprint in a rule's fingerprint file; None if there is none."""
    try:
        return Path(path).read_text(encoding="ascii").removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    interrupt.raise_keyboard_interrupt()
    try:
        yield
    finally:
        interrupt.exit_silently()


def _active_jobs_lock() -> contextlib.AbstractContextManager[object]:
    with contextlib.suppress(locking.UnsupportedError):
        if ACTIVE_JOBS_LOCK.parent.is_dir():
            held = locking.lock(ACTIVE_JOBS_LOCK, shared=True, wait=True)
            return held or contextlib.nullcontext()
    return contextlib.nullcontext()
