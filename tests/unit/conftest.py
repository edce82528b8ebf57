"""What tests of the library share."""

import time

import pytest


@pytest.fixture
def hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is an hour ahead, so that the files of a test were not written a moment ago."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)
