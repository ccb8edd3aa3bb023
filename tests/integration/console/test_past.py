"""
The pages of the past: the timeline of a task, and the acts of people.
"""

from __future__ import annotations

import re
from typing import Any

import grpc

from gcp_oncetask.rules.document_paths import TaskName
from tests.support.console_app import VIEWER, Parcel, get

PATH = TaskName("DEFAULT", "parcel", "bad1").path


def test_timeline_is_in_the_order_of_causes(desk: Any) -> None:
    """
    A failed attempt: granted before it is settled; a viewer sees phases, and no words.
    """
    desk.manager.create_task(Parcel(number="bad1", note="hidden words"))
    desk.cloud.run_until_idle()
    page = get(desk.browser(), "/timeline", query_string={"path": PATH}).text
    phases = re.findall(r'data-label="Phase">(\w+)<', page)

    assert "hidden words" in page
    assert phases.index("scheduled") < phases.index("granted") < phases.index("settled")
    viewed = get(desk.browser(VIEWER), "/timeline", query_string={"path": PATH}).text
    assert re.findall(r'data-label="Phase">(\w+)<', viewed) == phases
    assert "hidden words" not in viewed


def test_timeline_without_logs_says_so(desk: Any) -> None:
    """
    If the logs can't be read, the record's part is shown, with the reason.
    """
    desk.manager.create_task(Parcel(number="bad1"))
    desk.cloud.faults.fail("ListLogEntries", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    answer = get(desk.browser(), "/timeline", query_string={"path": PATH})

    assert answer.status_code == 200
    assert "roles/logging.viewer" in answer.text
    assert "scheduled" in answer.text
    assert get(desk.browser(), "/timeline", query_string={"path": "a"}).status_code == 400


def test_acts_of_nobody(desk: Any) -> None:
    """
    Without an act the page says so; a length of time that is none is a wrong use.
    """
    assert "No act of a person was found" in get(desk.browser(), "/acts").text
    assert get(desk.browser(), "/acts?since=soon").status_code == 400
