"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tfmi  # noqa: F401 - selects Keras 2 before any test imports TensorFlow
from tests.browser import NoBrowserError, console_errors, set_window, start_browser

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

# By how many bytes a test process may grow before it looks for garbage; see ``bounded_garbage``.
MOST_GARBAGE = 2**29
_resident_after_collection = 0

# What is imported and collected stays; looking for garbage in it again and again takes seconds. See ``little_overhead``.
gc.disable()

DATA_DIRECTORY = Path(os.environ.get("TFMI_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for examples in the package's docstrings alone (``--doctest-modules``), and not in those of tests."""
    found = yield
    return [collector for collector in found if type(collector).__name__ != "DoctestModule"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of the slowest tests: a process that gets one of them last would work alone at the end."""
    functions = {(item.path, getattr(item, "originalname", item.name)) for item in items if item.get_closest_marker("slow")}
    slow = Counter(path for path, _ in functions)
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def little_overhead() -> None:
    """Leave out what pays off in long runs only, and takes a fifth of the time of small ones.

    Modules are not searched for garbage again and again, and graphs run as they were traced: for a few rows they need not be optimized.
    Programs that tests start as processes of their own do as they always do.
    """
    gc.freeze()
    gc.set_threshold(50_000, 10, 20)
    gc.enable()
    if "tensorflow" not in sys.modules:  # no test that was collected needs it
        return
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True)
def bounded_garbage() -> Iterator[None]:
    """Collect garbage where the process has grown: what is traced refers to itself, and holds far more memory than its objects tell."""
    yield
    global _resident_after_collection  # noqa: PLW0603 - of this process
    if _resident_bytes() - _resident_after_collection > MOST_GARBAGE:
        gc.collect()
        _resident_after_collection = _resident_bytes()


def _resident_bytes() -> int:
    statistics = Path("/proc/self/statm")  # Linux has it
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statistics.exists() else 0


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test calls again and again on a published version load it once."""
    from tests.exports import loaded

    # Whoever is imported later would keep what stands here for the test alone.
    for module in ("bulk.item_vectors", "bulk.recommendations", "bulk.tag_answers", "export.retrieval.evaluate_exported", "rollout.sides"):
        importlib.import_module(f"tfmi.{module}")
    for module in ("tfmi.export.exported_model", "tfmi.rollout.sides"):
        monkeypatch.setattr(f"{module}.ExportedModel", loaded)


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
    """Take back what a program under test has set up: handlers write to a stream that is closed after the test, levels hide messages."""
    handlers, level, disabled = logging.root.handlers[:], logging.root.level, logging.root.manager.disable
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.disable(disabled)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("tfmi.") and isinstance(logger, logging.Logger) and logger.level:
            logger.setLevel(logging.NOTSET)


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
