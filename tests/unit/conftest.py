"""What tests of the library share."""

import logging
import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def levels_of_logging() -> Iterator[None]:
    """Programs that run in this process set levels, which would hide messages from other tests."""
    loggers = [logging.getLogger(name) for name in ("edgetpu_retrain", "edgetpu_retrain.deploy")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is an hour ahead, so that the files of a test were not written a moment ago."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)
