"""The page in a real browser."""

from __future__ import annotations

import itertools
import time
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import console_errors, media, window
from tests.explorer.conftest import MARKUP, TITLES, Site
from tests.explorer.test_api import explore
from tfmi.cli.explorer import build_parser, models_of, serving

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.slow  # exports, a browser

SECONDS = 30.0
# Names that a screen reader can say, of everything that can be operated.
NAMELESS = """
const labels = (each) => [...(each.labels ?? [])].map((label) => label.innerText).join("");
const named = (each) => (each.getAttribute("aria-label") || each.innerText || labels(each)).trim();
return [...document.querySelectorAll("button, input, select, summary, [role=option]")]
  .filter((each) => each.checkVisibility() && !named(each)).map((each) => each.outerHTML);
"""
# Texts whose contrast with what is behind them is below 4.5 to 1 (WCAG AA); those that can be operated no more do not count.
PALE = """
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const colour = (text) => {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = text;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
};
const over = (top, below) => top.slice(0, 3).map((part, at) => (part * top[3] + below[at] * (255 - top[3])) / 255).concat(255);
const ground = (each) => {
  if (!each) return colour(matchMedia("(prefers-color-scheme: dark)").matches ? "black" : "white");
  const own = colour(getComputedStyle(each).backgroundColor);
  return own[3] === 255 ? own : over(own, ground(each.parentElement));
};
const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, share, at) => sum + share * linear(rgb[at] / 255), 0);
const pale = [];
for (const each of document.querySelectorAll("body *")) {
  const ownText = [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!ownText || !each.checkVisibility() || each.closest("svg, .unread, :disabled, [aria-busy]")) continue;
  const behind = ground(each);
  const [one, other] = [light(over(colour(getComputedStyle(each).color), behind)), light(behind)].sort((a, b) => b - a);
  const contrast = (one + 0.05) / (other + 0.05);
  if (contrast < 4.5) pale.push(`${each.tagName}.${each.className} ${contrast.toFixed(2)} ${each.textContent.slice(0, 40)}`);
}
return pale;
"""

BEYOND_THE_EDGE = """
return [...document.querySelectorAll("main *")].filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > 361)
  .map((each) => each.className);
"""


class Page:
    """The page as somebody uses it who sees it, or hears it."""

    def __init__(self, browser: WebDriver, site: Site) -> None:
        self.browser, self.site = browser, site

    def open(self, **address: Any) -> None:
        """Load the page for what its address asks for, and wait for the answer."""
        parameters = {"model": "toy/1", **{name: value for name, value in address.items() if value is not None}}
        self.browser.get("about:blank")
        self.browser.get(f"{self.site.address}#{urllib.parse.urlencode(parameters, doseq=True)}")
        self.until_answered()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: str, *arguments: Any) -> Any:
        """Wait until a JavaScript expression is true, and return it."""
        deadline = time.monotonic() + SECONDS
        while not (value := self.run(f"return {condition}", *arguments)):
            assert time.monotonic() < deadline, f"{condition} stayed {value!r}; the page says {self.run('return document.body.innerText')}"
            time.sleep(0.02)
        return value

    def until_answered(self) -> None:
        self.wait("document.querySelector('#results[data-asked]:not([aria-busy])') !== null")

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)", selector)

    def items(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.dataset.item)", selector)

    def type(self, words: str, box: str = "input[role=combobox]") -> Any:
        element = self.browser.find_element("css selector", box)
        element.clear()
        element.send_keys(words)
        return element

    def add(self, words: str) -> None:
        """Search for an item and take the first that is found, by the keyboard alone."""
        box = self.type(words)
        self.wait("document.querySelectorAll('[role=option]').length > 0 && document.querySelector('[role=listbox]').checkVisibility()")
        box.send_keys("\ue015")  # arrow down
        assert self.wait("document.querySelector('input[role=combobox]').getAttribute('aria-activedescendant')")
        box.send_keys("\ue007")  # Enter
        self.wait("document.querySelector('[role=listbox]').hidden")
        self.until_answered()

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)
        self.until_answered()


@pytest.fixture
def page(browser: WebDriver, site: Site) -> Iterator[Page]:
    yield Page(browser, site)
    assert console_errors(browser) == []


HISTORY = {"h": ["item-7", "item-9", "item-20"]}


def test_items_are_searched_added_and_removed_by_the_keyboard(page: Page) -> None:
    page.open()
    assert page.texts("[aria-label=Answer] .pill")[0] == "popular"
    assert "No item yet" in page.texts(".side")[0]
    page.add("teacup")
    page.add("чашка")
    assert page.items(".history li") == ["item-2", "item-0"]  # the newest first
    assert page.texts(".column h3 .number") == ["0", "1"]
    assert page.texts("[aria-label='Interest 1'] .fed") == ["Чашка синяя\n100 %"]
    assert "items by 2 interests" in page.texts("#status")[0]
    assert page.run("return document.querySelector('#status').getAttribute('aria-live')") == "polite"
    page.click("[aria-label='Remove Чашка синяя']")
    assert page.items(".history li") == ["item-0"]
    # Whoever loads the page again, or is sent its address, sees the same.
    page.browser.refresh()
    page.until_answered()
    assert page.items(".history li") == ["item-0"]
    assert page.texts(".history .title") == [TITLES[0]]
    page.type("nothing like it")
    page.wait("document.querySelector('.combobox .quiet').innerText.startsWith('Nothing is called like that')")


def test_titles_of_any_alphabet_and_markup_stay_text(page: Page) -> None:
    page.open(h=[f"item-{number}" for number in range(1, 6)], n=20)
    shown = page.run("return [...document.querySelectorAll('.history .title')].map((each) => each.textContent)")
    assert shown == [TITLES[number] for number in range(5, 0, -1)]
    page.type("script")
    assert page.wait("document.querySelector('[role=option] .title')?.textContent") == MARKUP
    page.click("[data-item='item-1'] [aria-label^='Leave out'], .items [data-key$='out-item-1']")
    assert MARKUP in page.run("return [...document.querySelectorAll('.chip')].map((each) => each.textContent).join('')")
    assert page.run("return [document.title, document.querySelectorAll('script').length, document.querySelectorAll('img').length]") == [
        "Interest explorer",
        1,
        0,
    ]


def test_sliders_and_chips_change_the_answer(page: Page) -> None:
    page.open(**HISTORY)
    assert len(page.items("[aria-label=Answer] .items > li")) == 20
    slider = page.browser.find_element("id", "n")
    slider.send_keys("\ue011", *["\ue014"] * 3)  # Home, arrow right
    page.wait("document.querySelectorAll('[aria-label=Answer] .items > li').length === 4")
    page.until_answered()
    page.browser.find_element("id", "diversity").send_keys("\ue010")  # End: λ 1
    page.wait("document.querySelector('output[for=diversity]').innerText === '1.00'")
    page.until_answered()
    expected = explore(page.site, history=HISTORY["h"], n=4, diversity=1.0)["answer"]
    assert page.items("[aria-label=Answer] .items > li") == [item["id"] for item in expected]
    first = page.items("[aria-label=Answer] .items > li")[0]
    page.click(f"[data-key='a-out-{first}']")
    assert first not in page.items("[aria-label=Answer] .items > li")
    page.run(
        "const choice = document.querySelector('[data-key=allow-category]'); choice.value = 'category-2';"
        "choice.dispatchEvent(new Event('change', { bubbles: true }))"
    )
    page.until_answered()
    assert {text.split(" · ")[0] for text in page.texts("[aria-label=Answer] .items .words .quiet")} == {"category-2"}
    page.click("[aria-label='Lift the filter only category-2']")
    page.click(f"[data-key='allow-{first}']")
    assert page.items("[aria-label=Answer] .items > li")[0] == first


def test_two_versions_side_by_side_have_their_differences_marked(page: Page) -> None:
    page.open(**HISTORY, **{"with": "toy/2"}, n=6)
    assert page.texts("#summary")[0].split(";")[0].endswith("at another place")
    before, after = (page.items(f"[aria-label^='Answer of toy, version {version}'] > li") for version in (1, 2))
    assert (len(before), len(after)) == (6, 6)
    gone, new = page.items(".items > li.gone"), page.items("[aria-label^='Answer of toy, version 2'] > li.new")
    assert set(gone) >= set(before) - set(after)
    assert set(new) == set(after) - set(before)
    assert set(before) != set(after)
    assert page.texts("section[aria-label^='Interests of toy']")[1].startswith("Interests of toy, version 2")
    # Two stages of the second version, alone.
    page.open(**HISTORY, model="toy/2")
    retrieval, ranked = page.items("[aria-label='Retrieval’s order'] > li"), page.items("[aria-label=Answer] > li")
    assert len(retrieval) == len(ranked) == 10
    assert retrieval != ranked


def test_a_server_that_cannot_be_reached_is_a_message(browser: WebDriver, site: Site) -> None:
    flags = ["--port", "0", "--server", "http://127.0.0.1:1", "--model-base-path", str(site.models / "toy")]
    options = build_parser().parse_args(flags)
    with serving(options, models_of(options)) as address:
        page = Page(browser, Site(address, site.models))
        browser.get(address)
        page.wait("!document.querySelector('#problem').hidden")
        page.wait("document.querySelector('#problem').innerText.includes('nothing listens at 127.0.0.1:1')")
        assert page.run("return document.querySelector('#problem').getAttribute('role')") == "alert"
        assert "History" in page.texts("body")[0]  # it is not blank
        assert "Try again" in page.texts("#problem button")
    # The explorer itself is gone, too.
    page.run("document.querySelector('#problem button').click()")
    page.wait("document.querySelector('#problem').innerText.includes('The explorer does not answer')")
    assert all("Failed to load resource" in error for error in console_errors(browser))


def test_a_history_of_500_items(page: Page) -> None:
    page.open(h=[f"item-{number % 40}" for number in range(500)])
    assert len(page.items(".history li")) == 500
    assert page.run("return document.querySelectorAll('.history li.unread').length") == 495
    assert page.run("const list = document.querySelector('.history'); return list.clientHeight < 400 && list.scrollHeight > 4000")
    page.click("[data-key=remove-499]")
    assert len(page.items(".history li")) == 499


def test_tags_of_a_user_with_reasons_and_audience(page: Page) -> None:
    page.open(model="tags/1")
    assert "these are the popular tags" in page.texts("[aria-label=Tags]")[0]
    page.run("const user = document.querySelector('#sample-user'); user.value = '0'; user.dispatchEvent(new Event('change'))")
    page.wait("!document.querySelector('[aria-label=Tags]').innerText.includes('popular')")
    page.until_answered()
    tag = page.texts("[aria-label=Tags] .tag")[0]
    page.click("[aria-label=Tags] .tag")
    reasons = page.texts("[aria-label=Reasons]")[0]
    assert tag in page.texts("[aria-label=Reasons] h3")
    assert "Score " in reasons
    assert "expert 0 " in reasons
    page.run("document.querySelector('[aria-label=Reasons] summary').click()")
    assert page.texts(".audience li")[0].startswith("user ")


def test_narrow_dark_and_for_those_who_do_not_see(page: Page) -> None:
    page.open(**HISTORY, x=["item-3"], n=10, filters='{"category": {"allow": ["category-0", "category-1"]}}')
    assert page.run(NAMELESS) == []
    for scheme in ("light", "dark"):
        with media(page.browser, prefers_color_scheme=scheme):
            page.until_answered()
            assert page.run(PALE) == []
    levels = [int(level) for level in page.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((each) => each.tagName[1])")]
    assert all(level <= before + 1 for before, level in itertools.pairwise([0, *levels]))
    with window(page.browser, 360):
        assert page.run("return document.documentElement.scrollWidth") <= 360
        assert page.run(BEYOND_THE_EDGE) == []
