"""A long run in a log file is seen to be alive."""

from __future__ import annotations

import logging
import time

import pytest

from tfmi.core.heartbeat import doing


def test_lines_say_what_is_being_done_and_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with doing("training", seconds=0.05), doing(lambda: f"step {len(caplog.messages)}", seconds=0.02):
        time.sleep(0.15)
    said = [message for message in caplog.messages if message.startswith("Still ")]
    assert said[:2] == ["Still step 0 (0 s)", "Still step 1 (0 s)"]
    assert not any("training" in message for message in said)  # the inner activity alone
    time.sleep(0.05)
    assert [message for message in caplog.messages if message.startswith("Still ")] == said  # nothing once it has ended


def test_a_terminal_has_progress_bars_instead(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with doing("training", seconds=0.01):
        time.sleep(0.05)
    assert not caplog.messages
