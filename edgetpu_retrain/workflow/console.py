"""Show a run on the terminal in one line per job; Snakemake's own log file has the details."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

# Values of Snakemake's LogEvent (snakemake_interface_logger_plugins.common).
_JOB_INFO, _JOB_ERROR = "job_info", "job_error"
# A failed job has said why; these add nothing to it.
_REDUNDANT = re.compile(
    r"Exiting because a job execution failed|CalledProcessError in file|"
    r"At least one job did not complete successfully"
)
# What else is shown of what Snakemake and its Slurm plugin say.
_SHOWN = re.compile(r"^Nothing to be done|^Trying to restart| has been submitted ")


class Console(logging.StreamHandler[Any]):
    """Shows the jobs that start, warnings and errors.

    Attributes:
        failures: for each failed job, its rule and what it said.
    """

    def __init__(self, default: logging.StreamHandler[Any]) -> None:
        """Takes the place of Snakemake's handler, with the same stream and the same filters."""
        super().__init__(default.stream)
        self.filters = default.filters
        self.setFormatter(default.formatter)
        self.failures: list[tuple[str, str]] = []
        self._started = self._total = 0
        self._exit_status = ""
        self._has_printed_since_failure = False

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record, if it is worth a line."""
        self._total = getattr(record, "stats", {}).get("total", self._total)
        event = getattr(record, "event", None)
        if event == _JOB_INFO:
            self._started += 1
            self._print(self._job_line(record))
        elif event == _JOB_ERROR:
            self._add_failure(record)
        elif _REDUNDANT.search(record.getMessage()):
            # How a job ended is only of interest if it could not say it itself.
            self._exit_status = record.getMessage().splitlines()[-1]
        elif record.levelno >= logging.WARNING or _SHOWN.search(record.getMessage()):
            self._print(self.format(record))

    def _job_line(self, record: Any) -> str:
        wildcards = ", ".join(str(value) for _, value in record.wildcards.items() if value)
        line = f"[{self._started}/{max(self._started, self._total)}] {record.rule_name}"
        return f"{line}: {wildcards}" if wildcards else line

    def _add_failure(self, record: Any) -> None:
        said = next(filter(None, map(_error_in, record.log or [])), None)
        if said is None:
            said = f"Error: {self._exit_status or 'it did not end as it should'}"
            self._print(f"The rule {record.rule_name} failed. {said}")
        self.failures.append((record.rule_name, said))
        self._has_printed_since_failure = len(self.failures) > 1

    def _print(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.flush()
        self._has_printed_since_failure = bool(self.failures)

    def repeat_errors(self, always: bool) -> None:
        """Prints why jobs failed, unless that is what was printed last.

        Args:
            always: whether something else has been printed in between.
        """
        if always or self._has_printed_since_failure:
            sys.stdout.flush()
            for rule, said in self.failures:
                self._print(f"\nThe rule {rule} failed.\n{said}")


def install() -> Console:
    """Replaces Snakemake's output on the terminal; its log file stays as it is.

    The workflow may be included as several modules; the first one does it for all.
    """
    logger = logging.getLogger("snakemake.logging")
    for handler in logger.handlers:
        if isinstance(handler, Console):
            return handler
    # On a full disk, Snakemake's log file cannot be written either.
    logging.raiseExceptions = False
    default = next(one for one in logger.handlers if one.name == "DefaultStreamHandler")
    assert isinstance(default, logging.StreamHandler)
    console = Console(default)
    logger.removeHandler(default)
    logger.addHandler(console)
    return console


def _error_in(log: str) -> str | None:
    """Returns the message at the end of a job's log; None if there is none."""
    try:
        text = Path(log).read_text("utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^Error: (?!.*^Error: ).*", text, re.MULTILINE | re.DOTALL)
    return found[0].partition("\nTraceback")[0].rstrip() if found else None
