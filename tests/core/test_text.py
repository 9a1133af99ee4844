"""What comes from files and requests reaches a terminal without what would steer it."""

from __future__ import annotations

import logging
import os

import pytest

from tfmi.cli.program import run_program
from tfmi.core.errors import DataError, TfmiError
from tfmi.core.text import shown_name, shown_names

HOSTILE = "a\x1b[2J\x07\r\u202eb\x9bc"


def test_an_errors_message_is_escaped_and_keeps_its_lines() -> None:
    message = str(DataError(f"{HOSTILE}\n\tsecond line"))
    assert message == "a\\x1b[2J\\x07\\r\\u202eb\\x9bc\n\tsecond line"
    assert TfmiError("é", 3).args == ("é", 3)


def test_log_lines_and_other_errors_of_a_program_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        logging.getLogger("tfmi.test").info("read %s", HOSTILE)
        raise OSError(28, "No space left on device", HOSTILE)

    assert run_program(work) == 1
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "\\x1b[2J" in text
        assert not set(text) & set("\x1b\x07\r\u202e\x9b")


def test_names_are_on_one_line_and_cut() -> None:
    assert shown_name("a\nb\tc") == "a\\nb\\tc"
    assert len(shown_name("x" * 10_000)) == 80
    assert shown_names([HOSTILE, "b"]).startswith("a\\x1b[2J")
    assert shown_names(map(str, range(50)), most=2) == "0, 1 and 48 more"


def test_a_reader_that_leaves_ends_a_program_without_a_trace(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    gone = os.fdopen(writing, "w", buffering=1)
    monkeypatch.setattr("sys.stdout", gone)
    reached = []

    def work() -> int:
        logging.getLogger("tfmi.test").info("a line")
        reached.append("on")
        return 0

    assert run_program(work) == 1
    assert not reached
    assert capfd.readouterr().err == ""
