"""
The pages: their contents, empty ones, and sources that refuse.
"""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest

from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.store import sessions
from tests.support.console_app import BASE, HOSTILE, OURS, Nightly, Parcel, get, token_in


def path_of(id_: str, kind: str = "parcel") -> str:
    return TaskName("DEFAULT", kind, id_).path


def test_overview_counts_by_kind_and_state(desk: Any) -> None:
    """
    Two sent parcels and a failed one, one that waits; the longest overdue document is linked.
    """
    for number in ("1", "2", "bad"):
        desk.manager.create_task(Parcel(number=number))
    desk.cloud.run_until_idle()
    desk.cloud.faults.fail("CreateTask", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    desk.manager.create_task(Parcel(number="late"))
    desk.cloud.advance(minutes=7)

    page = get(desk.browser(), "/").text
    [row] = re.findall(r'<tr data-key="parcel">.*?</tr>', page, re.DOTALL)
    counted = dict(re.findall(r'data-label="(\w+)" class="number">([0-9,+]+)', row))
    assert {state: number for state, number in counted.items() if number != "0"} == {
        "completed": "2",
        "failed": "1",
        "scheduled": "1",
    }
    assert path_of("late").replace(":", "%3A") in page or path_of("late") in page
    assert "min ago" in page
    assert ">1 failed</a>, the oldest since" in page
    assert f'href="{BASE}/list?reason=failed"' in page


def test_overview_says_which_source_was_not_read(desk: Any) -> None:
    """
    A source that refuses leaves its tile "not read", and does not hold the page.
    """
    desk.cloud.faults.fail("RunAggregationQuery", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    answer = get(desk.browser(), "/")

    assert answer.status_code == 200
    assert "Not read: " in answer.text
    assert "Nothing is overdue for the sweep." in answer.text
    assert "Nothing needs a person." in answer.text


def test_task_page_shows_the_record_and_hides_contents(desk: Any, caplog: Any) -> None:
    """
    Status, attempts, errors without messages; contents by name and size, with values after a POST alone, never in the log.
    """
    desk.manager.create_task(Parcel(number="bad", note="hidden words"))
    desk.cloud.run_until_idle()
    browser, path = desk.browser(), path_of("bad")
    page = get(browser, "/task", query_string={"path": path}).text

    assert '<span class="state failed">failed</span>' in page
    assert "attempt 1 of step 1" in page
    assert "hidden words" not in page
    assert re.search(r"data: [0-9]+ bytes", page)
    caplog.clear()
    answer = browser.post(f"{BASE}/contents", data={"path": path, "token": token_in(page, "contents")}, headers=OURS)
    assert answer.status_code == 200
    assert "no address for hidden words" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "hidden words" not in caplog.text


@pytest.mark.parametrize(
    ("path", "status"),
    [("onceTasks/00:DEFAULT:parcel:none", 404), ("", 400), ("a", 400), ("a/../b", 400), ("a/b/c", 400)],
)
def test_task_page_of_no_task_says_so(desk: Any, path: str, status: int) -> None:
    """
    A document that is not there is 404; a text that is no path is 400.
    """
    assert get(desk.browser(), "/task", query_string={"path": path}).status_code == status


def test_op_46_hostile_texts_are_shown_as_text(desk: Any) -> None:
    """
    Markup, templates, quotes and marks of direction in id, payload and error are words on the page; a megabyte is cut.
    """
    hostile = f"{HOSTILE}\x07"
    desk.manager.create_task(Parcel(number=f"bad{hostile}", note=hostile + "x" * 700_000))
    desk.cloud.run_until_idle()
    browser, path = desk.browser(), path_of(f"bad{hostile}")
    page = get(browser, "/task", query_string={"path": path}).text
    shown = browser.post(
        f"{BASE}/contents", data={"path": path, "token": token_in(page, "contents")}, headers=OURS
    ).text

    for text in (page, shown):
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "49" not in re.sub(r"[0-9a-f]{16,}|[0-9:.T-]{8,}|[A-Za-z0-9_.-]{60,}", "", text)[:2000]
        assert len(text.encode()) < 300_000
    assert "{{7*7}}" in shown
    assert "characters more are left out" in shown


def test_schedules_show_next_runs_and_clock_changes(desk: Any) -> None:
    """
    A nightly rule at 02:30 in Berlin, a month before clocks go forward: five runs with their offsets, and a note for the gap.
    """
    desk.cloud.advance(days=84)
    desk.manager.create_task(Nightly(name="report"))
    page = get(desk.browser(), "/schedules").text

    assert "nightly report" in page
    assert page.count("<li>2026-03-2") >= 3
    assert "does not exist on this day (clocks go forward)" in page
    assert "Europe/Berlin" in page
    desk.manager.pause(Nightly, "report")
    assert '<strong class="state paused">paused</strong>' in get(desk.browser(), "/schedules").text


def test_workers_show_living_and_gone_sessions(desk: Any) -> None:
    """
    A session that beats is alive, one that was ended has left, one that is silent is dead.
    """
    store = desk.manager.locker._runtime.store
    assert "No worker has been here for a day." in get(desk.browser(), "/workers").text
    sessions.beat(store, "DEFAULT", "silent", kinds=["pull"], host="h1/1", ttl=30.0, version=None)
    version = sessions.beat(store, "DEFAULT", "ended", kinds=["pull"], host="h2/1", ttl=30.0, version=None)
    sessions.end(store, "DEFAULT", "ended", version)
    desk.cloud.advance(minutes=5)
    sessions.beat(store, "DEFAULT", "alive", kinds=["pull"], host="<b>h3</b>", ttl=30.0, version=None)

    page = get(desk.browser(), "/workers").text
    rows = re.findall(r'<tr data-key="(\w+)">.*?<span class="state \w+">([a-z ]+)</span>', page, re.DOTALL)
    assert rows[0] == ("alive", "alive")
    assert dict(rows) == {"alive": "alive", "silent": "dead", "ended": "has left"}
    assert "&lt;b&gt;h3" in page


def test_queues_show_state_and_no_invented_depth(desk: Any) -> None:
    """
    State and rates are the service's; a depth that it does not tell is "not available"; a missing queue says what to do.
    """
    page = get(desk.browser(), "/queues").text
    assert '<span class="state running">running</span>' in page
    assert '<td data-label="Depth">not available</td>' in page
    assert "gcloud tasks queues pause default" in page
    desk.cloud.faults.fail("GetQueue", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    assert "roles/cloudtasks.viewer" in get(desk.browser(), "/queues").text


def test_zone_is_remembered(desk: Any) -> None:
    """
    A zone that was chosen holds for all pages; an unknown one means UTC, and the way back is to the console alone.
    """
    browser = desk.browser()
    for zone, shown in (("Europe/Berlin", "CET"), ("nowhere", "UTC")):
        answer = browser.post(f"{BASE}/zone", data={"zone": zone, "here": "//evil.test"}, headers=OURS)
        assert answer.status_code == 303
        assert answer.headers["Location"] == f"{BASE}/"
        assert shown in get(browser, "/").text


def test_fragments_are_shared_for_two_seconds(desk: Any) -> None:
    """
    Ten screens that poll cost the queries of one.
    """
    browser = desk.browser()
    first = get(browser, "/?fragment=1")
    assert first.headers["X-Oncetask-Fragment"] == "1"
    assert "<html" not in first.text
    desk.manager.create_task(Parcel(number="1"))
    assert get(browser, "/?fragment=1").text == first.text
    desk.cloud.advance(seconds=3)
    assert get(browser, "/?fragment=1").text != first.text
