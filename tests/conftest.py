"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tfmi  # noqa: F401 - selects Keras 2 before any test imports TensorFlow
from tests.browser import NoBrowserError, console_errors, set_window, start_browser

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

DATA_DIRECTORY = Path(os.environ.get("TFMI_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of the slowest tests: a process that gets one of them last would work alone at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return a function from a dataset folder's name to its path; the test is skipped, saying so, where the folder is absent."""

    def find(name: str) -> Path:
        folder = DATA_DIRECTORY / name
        if not folder.is_dir():
            pytest.skip(f"needs the dataset folder {name!r}; set TFMI_DATA_DIR to the folder that holds it")
        return folder

    return find


@pytest.fixture(autouse=True)
def own_log_handlers() -> Iterator[None]:
    """Take away the log handlers that a program under test has set up: they write to a stream that is closed after the test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def chromium() -> Iterator[WebDriver]:
    """One headless Chromium for all tests of a process; they are skipped, saying so, where there is none."""
    try:
        started = start_browser()
    except NoBrowserError as error:
        pytest.skip(str(error))
    yield started
    started.quit()


@pytest.fixture
def browser(chromium: WebDriver) -> Iterator[WebDriver]:
    """A browser with an empty page of 1280 x 900 pixels and an empty console; see ``tests/browser.py`` for what to ask of it."""
    set_window(chromium, 1280, 900)
    chromium.get("about:blank")
    console_errors(chromium)
    yield chromium
    chromium.get("about:blank")
