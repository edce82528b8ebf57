"""Chromium without a window, for tests of pages."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

_WAIT_SECONDS = 20


@contextlib.contextmanager
def open_browser() -> Iterator:
    """Opens a browser; without the programs for it the test is skipped."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def set_window(
    browser, width: int, colours: str = "light", touch: bool = False, height: int = 900
) -> None:
    """Gives the page a size, and the colours that its reader prefers."""
    features = [{"name": "prefers-color-scheme", "value": colours}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    touching = {"enabled": touch, "maxTouchPoints": 1} if touch else {"enabled": False}
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touching)


def save_picture(browser, path: Path) -> None:
    """Saves what the window shows as a PNG, with as few colours as the eye needs."""
    browser.save_screenshot(str(path))
    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)


def wait_for(condition: Callable[[], object]) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not come true")
        time.sleep(0.05)
