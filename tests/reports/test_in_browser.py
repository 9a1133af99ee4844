"""Pages in a real browser: figures that can be seen, nothing in the console, nothing beyond the edge of a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import console_errors, media, window
from tests.kinds.finished import FinishedRun
from tests.reports.conftest import hostile_run, made_up
from tfmi.reports.comparison_page import comparison_page
from tfmi.reports.run_page import run_page
from tfmi.training.run_folder import RunFolder

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.slow

SIZES = """return [...document.querySelectorAll('figure')].map(figure => {
    const box = figure.querySelector('svg').getBoundingClientRect();
    return [figure.querySelector('figcaption').textContent, box.width, box.height];
})"""
# Labels that reach out of their drawing are cut off.
OUTSIDE = """return [...document.querySelectorAll('svg')].flatMap(drawing => {
    const frame = drawing.getBoundingClientRect();
    return [...drawing.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1 || box.top < frame.top - 1;
    }).map(text => text.textContent);
})"""
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_what_the_console_says_is_heard(browser: WebDriver, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>throw new Error('heard')</script>")
    browser.get(page.as_uri())
    assert "heard" in "".join(console_errors(browser))


def test_the_page_of_a_run(browser: WebDriver, finished: FinishedRun) -> None:
    browser.get(RunFolder(finished.exported).report.as_uri())
    assert console_errors(browser) == []
    sizes = browser.execute_script(SIZES)
    names = [name for name, _, _ in sizes]
    assert {"Training loss", "Popularity curve: events of each item", "recall@10", "Lengths: training sequences"} <= set(names)
    assert any(name.startswith("Which items feed which interest") for name in names)
    assert all(width > 250 and height > 50 for _, width, height in sizes)
    assert browser.execute_script(OUTSIDE) == []
    with window(browser, 360, 800):
        assert browser.execute_script(TOO_WIDE) == 0
        assert all(250 < width <= 360 for _, width, _ in browser.execute_script(SIZES))
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    with media(browser, prefers_color_scheme="dark"):
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != paper
    with media(browser, "print"):
        assert browser.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert console_errors(browser) == []


def test_hostile_texts_and_comparisons(browser: WebDriver, tmp_path: Path) -> None:
    pages = {"hostile": run_page(hostile_run()), "compared": comparison_page([hostile_run(), made_up()], tmp_path)}
    for name, page in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(page, encoding="utf-8")
        browser.get(path.as_uri())
        assert console_errors(browser) == []
        assert browser.execute_script("return window.hacked === undefined")
        assert "<script>window.hacked" in browser.execute_script("return document.body.innerText")
        assert browser.execute_script(OUTSIDE) == []
        with window(browser, 360, 800):
            assert browser.execute_script(TOO_WIDE) == 0
