"""A headless Chromium for tests of pages. The fixtures are in ``tests/conftest.py``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# As root and in containers there is neither a sandbox nor a shared memory of a browser's size; pages find this machine alone.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class NoBrowserError(Exception):
    """What a test in a browser lacks here."""


def start_browser() -> WebDriver:
    """A headless Chromium that keeps its console; whoever starts it calls ``quit``.

    Raises:
        NoBrowserError: Selenium, Chromium or its driver is not installed; the message says which.
    """
    try:
        from selenium import webdriver
    except ImportError:
        raise NoBrowserError("needs selenium (pip install 'tfmi[dev]')") from None
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        raise NoBrowserError("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = found  # with the driver named too, selenium looks for nothing to download
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))


def console_errors(browser: WebDriver) -> list[str]:
    """What the console has said of errors since it was asked last: exceptions, refused or missing resources."""
    return [str(entry["message"]) for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@contextlib.contextmanager
def window(browser: WebDriver, width: int, height: int = 900) -> Iterator[None]:
    """A page area of ``width`` x ``height`` CSS pixels, as on a telephone; 1280 x 900 again afterwards."""
    try:
        set_window(browser, width, height)
        yield
    finally:
        set_window(browser, 1280, 900)


def set_window(browser: WebDriver, width: int, height: int) -> None:
    """Windows have a least width, emulated screens have none."""
    sizes: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)


@contextlib.contextmanager
def media(browser: WebDriver, medium: str = "", **features: str) -> Iterator[None]:
    """A page seen on another medium, ``media(browser, "print")``, or with other wishes, ``media(browser, prefers_color_scheme="dark")``."""
    wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    try:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": wanted})
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def save_screenshot(browser: WebDriver, path: Path) -> None:
    """The window as a PNG file."""
    if not browser.save_screenshot(str(path)):
        raise OSError(f"{path}: the screenshot could not be written")
