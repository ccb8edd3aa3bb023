"""
The console in a real browser: every page and button, 10,000 tasks, keyboard only, a narrow screen, a dark scheme, no script.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gcp_oncetask.errors import TaskNotFoundError
from gcp_oncetask.rules.document_paths import TaskName
from tests.processes.console.conftest import Site
from tests.support import browser as browsers
from tests.support.console_app import HOSTILE
from tests.support.patience import patient

PAGES = ("/", "/list", "/schedules", "/workers", "/queues", "/acts")
FOCUSABLE = "a[href], button:not([hidden]), input:not([type=hidden]), select, textarea:not([hidden]), summary"


def task(path: str) -> str:
    return f"/task?{urlencode({'path': path})}"


def wait_for(window: Any, script: str, *arguments: Any) -> Any:
    """
    Wait until a script in the page returns something.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(window, patient(20), 0.05).until(lambda driver: driver.execute_script(script, *arguments))


def press(window: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(window).send_keys(*keys).perform()


def go(window: Any, site: Site, path: str) -> str:
    window.get(site.url(path))
    return str(window.execute_script("return document.documentElement.outerHTML"))


def click(window: Any, selector: str) -> None:
    window.find_element("css selector", selector).click()


@pytest.mark.parametrize("path", PAGES)
def test_op_49_page_is_quick_with_10000_tasks(site: Site, window: Any, path: str) -> None:
    """
    Each page is there within a second, below 300 KB, without a complaint of the browser and without a request elsewhere.
    """
    browsers.look(window)
    browsers.requested(window)
    browsers.complaints(window)
    page = go(window, site, path)
    took = window.execute_script("return performance.getEntriesByType('navigation')[0].duration")

    assert took < patient(1.0) * 1000
    assert len(page.encode()) < 300_000
    assert {url for url in browsers.requested(window) if not url.startswith(site.origin)} == set()
    assert browsers.complaints(window) == []
    assert path != "/" or "10,000" in page


def test_op_46_hostile_texts_do_nothing(site: Site, window: Any) -> None:
    """
    In lists, on the task's page and among its contents they are words: nothing runs, nothing is loaded, the policy is not hurt.
    """
    browsers.look(window)
    path = TaskName("DEFAULT", "parcel", f"bad{HOSTILE}").path
    browsers.requested(window)
    for each in ("/list", task(path).replace("/task", "/timeline"), task(path)):
        go(window, site, each)
        assert window.execute_script("return document.querySelectorAll('img, main script, iframe').length") == 0
        assert "<script>alert(1)</script>" in window.execute_script("return document.body.textContent")
    click(window, "form[action$=contents] button")
    assert "{{7*7}}" in window.find_element("css selector", "details pre").text
    assert len(window.page_source.encode()) < 300_000
    assert [url for url in browsers.requested(window) if not url.startswith(site.origin)] == []
    assert browsers.complaints(window) == []


@pytest.mark.parametrize("script", [True, False])
def test_op_49_every_button_works(site: Site, window: Any, script: bool) -> None:
    """
    Each button asks on a page of its own and acts, with and without script.
    """
    prefix = f"button {script}"
    [run, happened, complete, fail] = site.quarantine(*(f"{prefix} {number}" for number in range(4)))
    [failed, dismissed, deleted] = site.fail(*(f"{prefix} {number}" for number in range(3)))
    report = TaskName("DEFAULT", "nightly", "report").path
    browsers.look(window, script=script)
    for path, verb, inputs, said in (
        (run, "run", {}, "scheduled"),
        (happened, "happened", {"[name=end]": None, "[name=result]": '{"paid": true}'}, "completed"),
        (complete, "complete", {"[name=result]": "1"}, "completed"),
        (fail, "fail", {"[name=note]": "no"}, "failed"),
        (failed, "ack", {}, "failed"),
        (failed, "reset", {}, "scheduled"),
        (failed, "cancel", {}, "cancelled"),
        (dismissed, "dismiss", {}, "failed"),
        (deleted, "delete", {}, None),
        (report, "pause", {}, "scheduled"),
        (report, "resume", {}, "scheduled"),
    ):
        go(window, site, task(path))
        click(window, f"#act-{verb}")
        for selector, text in inputs.items():
            field = window.find_element("css selector", selector)
            field.click() if text is None else field.send_keys(text)
        click(window, "#yes")
        assert window.find_elements("css selector", ".said"), f"{verb}: {window.page_source}"
        assert said is None or f'class="state {said}"' in window.page_source, verb
    assert browsers.complaints(window) == []
    browsers.look(window)


@pytest.mark.parametrize("script", [True, False])
def test_op_49_buttons_of_the_list_work(site: Site, window: Any, script: bool) -> None:
    """
    A selected row is dismissed, all that fit are deleted after the number is typed, and the zone is set.
    """
    [one, two, three] = site.fail(*(f"list {script} {number}" for number in range(3)))
    site.cloud.advance(seconds=5)
    browsers.look(window, script=script)
    go(window, site, "/list?kind=parcel&newer=1min")
    [row] = [each for each in window.find_elements("css selector", "[name=path]") if each.get_attribute("value") == two]
    row.click()
    window.find_element("css selector", "select[name=verb] option:nth-child(3)").click()
    click(window, "button[value=selected]")
    click(window, "#yes")
    assert "1 done, 0 not" in window.find_element("css selector", "main [role=status]").text
    go(window, site, "/list?kind=parcel&newer=1min")
    window.find_element("css selector", "select[name=verb] option:nth-child(4)").click()
    click(window, "button[value=all]")
    number = window.find_element("css selector", "#yes").text.split()[-1]
    window.find_element("css selector", "[name=typed]").send_keys(number)
    click(window, "#yes")
    assert f"{number} done, 0 not" in window.find_element("css selector", "main [role=status]").text
    for path in (one, three):
        with pytest.raises(TaskNotFoundError):
            site.manager.locker.show(path)
    assert str(site.manager.locker.show(two).status) == "failed"

    zone = window.find_element("css selector", "#zone")
    zone.clear()
    zone.send_keys("Europe/Berlin")
    click(window, "form[action$=zone] button")
    assert window.find_element("xpath", "//p[@class='read'][contains(., 'CE')]")
    window.delete_all_cookies()
    browsers.look(window)


def tabbed(window: Any) -> set[str]:
    """
    The elements of a page that Tab reaches, in their own words.
    """
    from selenium.webdriver.common.keys import Keys

    name = "const at = document.activeElement; return [...document.querySelectorAll(arguments[0])].indexOf(at) + ' ' + at.tagName"
    window.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    found: set[str] = set()
    for _ in range(200):
        press(window, Keys.TAB)
        at = window.execute_script(name, FOCUSABLE)
        if at in found or at.endswith("BODY"):
            break
        found.add(at)
    return found


@pytest.mark.parametrize("path", [*PAGES, "task", "timeline", "question"])
def test_op_49_narrow_dark_page_is_reached_by_keys_alone(site: Site, window: Any, path: str) -> None:
    """
    At 360 px nothing is cut off, words can be read on the dark ground, and Tab reaches each link, field and button.
    """
    charge = TaskName("DEFAULT", "charge", "1").path
    special = {
        "task": task(charge),
        "timeline": task(charge).replace("/task", "/timeline"),
        "question": f"/act?{urlencode({'path': charge, 'verb': 'happened'})}",
    }
    browsers.look(window, width=360, height=740, dark=True)
    go(window, site, special.get(path, path))

    assert window.execute_script("return document.documentElement.scrollWidth") <= 360
    assert window.execute_script(_CONTRAST) == []
    expected = window.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter((one) => one.getClientRects().length)"
        ".map((one) => [...document.querySelectorAll(arguments[0])].indexOf(one) + ' ' + one.tagName)",
        FOCUSABLE,
    )
    assert len(expected) > 5
    assert set(expected) - tabbed(window) == set()
    browsers.look(window)


_CONTRAST = """
const light = (text) => {
  const parts = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const ground = (one) => {
  for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (!/, 0\\)$|transparent/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
return [...document.querySelectorAll("body *")].filter((one) => one.getClientRects().length
  && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).filter((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((one) => one.tagName + " " + one.className + ": " + one.textContent.slice(0, 40));
"""


def test_op_49_keys_act_by_the_question_alone(site: Site, window: Any) -> None:
    """
    From the overview to the list, down its rows, into a task, to its question and its end, by keys.
    """
    from selenium.webdriver.common.keys import Keys

    [path] = site.quarantine("by keys")
    browsers.look(window)
    go(window, site, "/")
    press(window, "g", "l")
    wait_for(window, "return document.title.startsWith('Tasks')")
    press(window, "/")
    assert window.execute_script("return document.activeElement.name") == "kind"
    press(window, "charge", Keys.ENTER)
    wait_for(window, "return location.search.includes('kind=charge')")
    keys = window.execute_script("return [...document.querySelectorAll('tr[data-key]')].map((row) => row.dataset.key)")
    press(window, *("j" * (keys.index(path) + 1)))
    press(window, Keys.ENTER)
    wait_for(window, "return location.search.includes('by%20keys') || location.search.includes('by+keys')")
    # No single key acts on a task.
    press(window, *"rcdfx")
    window.execute_script("document.getElementById('act-fail').focus()")
    press(window, Keys.ENTER)
    wait_for(window, "return document.getElementById('yes')")
    window.execute_script("document.getElementById('yes').focus()")
    press(window, Keys.ENTER)
    wait_for(window, "return document.querySelector('.said')")
    assert str(site.manager.locker.show(path).status) == "failed"


def test_op_50_live_list_loses_nothing(site: Site, window: Any) -> None:
    """
    A filter half typed and a selected row stay through three updates; three new records are a line, not rows.
    """
    browsers.look(window)
    go(window, site, "/list?kind=parcel&live=2")
    click(window, "tr[data-key] input[name=path]")
    field = window.find_element("css selector", "input[name=collection]")
    field.send_keys("half")
    rows = window.execute_script("return [...document.querySelectorAll('tr[data-key]')].map((row) => row.dataset.key)")
    count = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('fragment=1')).length"
    for number in range(3):
        site.fail(f"live {number}")
        site.cloud.advance(seconds=3)
        before = window.execute_script(count)
        wait_for(window, f"return ({count.removeprefix('return ')}) > arguments[0]", before)
    wait_for(window, "return document.querySelector('#new')?.textContent.startsWith('3 new')")

    assert field.get_attribute("value") == "half"
    assert window.execute_script("return document.activeElement.name") == "collection"
    assert window.execute_script("return document.querySelectorAll('tr[data-key] input:checked').length") == 1
    assert rows == window.execute_script(
        "return [...document.querySelectorAll('tr[data-key]')].map((row) => row.dataset.key)"
    )


def test_live_overview_changes_and_stops_when_signed_out(site: Site, window: Any) -> None:
    """
    Counts change by themselves; a page that is refused says so, and asks no more.
    """
    browsers.look(window)
    go(window, site, "/?live=2")
    failed = "return Number(document.querySelector('tr[data-key=parcel] td[data-label=failed]').textContent)"
    before = window.execute_script(failed)
    site.fail(f"counted {time.monotonic_ns()}")
    site.cloud.advance(seconds=3)
    wait_for(window, f"{failed} === arguments[0]", before + 1)
    window.execute_script("window.fetch = () => Promise.resolve(new Response('sign in', { status: 401 }))")
    wait_for(window, "return document.getElementById('live-state').textContent === 'signed out: reload the page'")


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="make screenshots takes them")
def test_screenshots(site: Site, window: Any) -> None:
    """
    Pictures of the pages for the documentation.
    """
    folder = Path(os.environ["SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    charge = task(TaskName("DEFAULT", "charge", "1").path)
    question = f"/act?{urlencode({'path': TaskName('DEFAULT', 'charge', '1').path, 'verb': 'happened'})}"
    for name, path, options in (
        ("overview", "/", {}),
        ("list", "/list?kind=charge", {}),
        ("task", charge, {"height": 1200}),
        ("question", question, {}),
        ("schedules", "/schedules", {}),
        ("queues", "/queues", {}),
        ("narrow-dark", "/list?kind=charge", {"width": 360, "height": 740, "dark": True}),
    ):
        browsers.look(window, **options)
        go(window, site, path)
        window.save_screenshot(str(folder / f"console-{name}.png"))
    browsers.look(window)
