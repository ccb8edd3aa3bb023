"""
A real browser without a window: Debian's packages ``chromium`` and ``chromium-driver``, driven by selenium.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.support import apt
from tests.support.patience import patient

MISSING: Final = (
    "Chromium is not here, so the console is not tested in a browser. On Debian: "
    "apt-get install chromium chromium-driver"
)
_PACKAGES: Final = ("chromium", "chromium-driver")


def is_installed() -> bool:
    """
    Tell whether the browser and its driver are installed.
    """
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


@contextmanager
def opened() -> Iterator[Any]:
    """
    Open a browser.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for one in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "lang=en"):
        options.add_argument(f"--{one}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    # A page that a click asks for may not be there yet.
    driver.implicitly_wait(patient(10))
    try:
        yield driver
    finally:
        driver.quit()


def look(driver: Any, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True) -> None:
    """
    Set the size of the window, the scheme that the person prefers, and whether pages may run scripts.
    """
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})


def complaints(driver: Any) -> list[str]:
    """
    Return the warnings and errors of the page's console since the last call, violations of its policy included.
    """
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def requested(driver: Any) -> list[str]:
    """
    Return the URLs that the browser has asked for since the last call.
    """
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("chrome", "data:", "about:"))]


def install() -> None:
    """
    Install the packages where that is possible; else say how.
    """
    if not apt.install(_PACKAGES, "Chromium for the tests of the console", is_installed):
        print(MISSING)


if __name__ == "__main__":
    sys.exit(install())
