"""What a run shows on the terminal, from the records that Snakemake logs."""

import io
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from edgetpu_retrain.workflow.console import Console


@pytest.fixture
def console() -> Console:
    return Console(logging.StreamHandler(io.StringIO()))


def log(console: Console, text: str, level: int = logging.INFO, **extra: object) -> None:
    record = logging.LogRecord("snakemake.logging", level, "", 0, text, (), None)
    vars(record).update(extra)
    console.handle(record)


def start(console: Console, rule: str, **wildcards: str) -> None:
    extra = {"rule_name": rule, "wildcards": SimpleNamespace(items=wildcards.items)}
    log(console, "", event=LogEvent.JOB_INFO, **extra)


def fail(console: Console, rule: str, path: Path) -> None:
    exception = "RuleException:\nCalledProcessError in file x\nCommand y died with SIGKILL: 9"
    log(console, exception, logging.ERROR, event=LogEvent.ERROR)
    extra = {"rule_name": rule, "log": [str(path)]}
    log(console, "", logging.ERROR, event=LogEvent.JOB_ERROR, **extra)


def test_a_job_is_a_line_and_the_rest_is_left_to_the_log(console: Console):
    log(console, "Building DAG of jobs...")
    log(console, "Job stats: ...", event=LogEvent.RUN_INFO, stats={"index": 1, "total": 2})
    start(console, "index")
    log(console, "Finished jobid: 0", event=LogEvent.JOB_FINISHED)
    start(console, "train", backbone="net", recipe="optimum", twin="")
    log(console, "a warning", logging.WARNING)
    log(console, "Nothing to be done (all requested files are present and up to date).")
    assert console.stream.getvalue().splitlines() == [
        "[1/2] index",
        "[2/2] train: net, optimum",
        "a warning",
        "Nothing to be done (all requested files are present and up to date).",
    ]


def test_the_error_stands_last(console: Console, tmp_path: Path):
    path = tmp_path / "index.log"
    path.write_text("photo 7\nError: a photo is broken:\n  7.jpg\nTraceback (most recent\n  ...")
    start(console, "index")
    fail(console, "index", path)
    # The job itself has just said it.
    console.repeat_errors(always=False)
    assert console.stream.getvalue() == "[1/1] index\n"
    start(console, "quantize")
    console.repeat_errors(always=False)
    log(console, "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    said = "The rule index failed.\nError: a photo is broken:\n  7.jpg\n"
    assert console.stream.getvalue().endswith(said)


def test_a_job_that_could_not_say_why_it_failed(console: Console, tmp_path: Path):
    fail(console, "embed", tmp_path / "missing.log")
    assert console.stream.getvalue() == (
        "The rule embed failed. Error: Command y died with SIGKILL: 9\n"
    )
