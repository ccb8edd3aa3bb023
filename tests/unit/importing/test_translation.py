"""
One document of the Go library oncetask, as a once-task: a table of its states, and of the documents that can't be taken.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask.importing.translation import UntakenError, env_of, translate
from gcp_oncetask.rules.record import Failure, Status
from gcp_oncetask.tasks.earlier import EarlierTask
from tests.support.go_oncetask import NO_WAIT, old

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
DONE = "2026-02-01T08:00:00Z"
DONE_AT = datetime(2026, 2, 1, 8, tzinfo=UTC)
SOON, SOON_AT = "2026-03-01T13:00:00Z", datetime(2026, 3, 1, 13, tzinfo=UTC)
ERROR = {"at": "2026-01-31T08:00:00Z", "error": "no route"}
FAILURE = Failure(datetime(2026, 1, 31, 8, tzinfo=UTC), 1, 1, "no route")
DAILY = {"rrule": "FREQ=DAILY", "dtstart": "2026-01-01T13:00:00Z", "exdates": None}

STATES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "due"),
    ({"waitUntil": SOON}, {"wait_until": SOON_AT}, "waiting until 2026-03-01T13:00:00.000000Z"),
    ({"waitUntil": "2026-03-01T14:00:00+01:00"}, {"wait_until": SOON_AT}, "waiting until 2026-03-01T13:00:00.000000Z"),
    ({"waitUntil": "", "resourceKey": "cal-1"}, {"resource_key": "cal-1"}, "due"),
    ({"attempts": 1, "errors": [ERROR]}, {"attempts": 1, "errors": (FAILURE,)}, "due"),
    (
        {"doneAt": DONE, "attempts": 1, "result": {"id": "m-1"}},
        {"status": Status.COMPLETED, "attempts": 1, "result": {"id": "m-1"}, "done_at": DONE_AT},
        "completed",
    ),
    (
        {"doneAt": DONE, "attempts": 2, "errors": [ERROR], "leasedUntil": SOON, "waitUntil": SOON},
        {
            "status": Status.COMPLETED,
            "attempts": 2,
            "errors": (FAILURE,),
            "done_at": DONE_AT,
            "wait_until": SOON_AT,
        },
        "completed",
    ),
    (
        {"doneAt": DONE, "attempts": 1, "errors": [ERROR]},
        {"status": Status.FAILED, "attempts": 1, "errors": (FAILURE,), "done_at": DONE_AT},
        "failed",
    ),
    (
        {"doneAt": DONE, "isCancelled": True, "attempts": 1, "errors": [ERROR]},
        {"status": Status.CANCELLED, "attempts": 1, "errors": (FAILURE,), "done_at": DONE_AT},
        "cancelled",
    ),
    (
        {"isCancelled": True, "cancelledAt": DONE, "attempts": 1, "errors": [ERROR]},
        {"cancelling": True, "errors": (FAILURE,)},
        "to be cancelled",
    ),
    (
        {"parentRecurrenceId": "report", "occurrenceTimestamp": SOON, "waitUntil": SOON},
        {"parent_id": "report", "occurrence_at": SOON_AT, "wait_until": SOON_AT},
        "waiting until 2026-03-01T13:00:00.000000Z",
    ),
]


@pytest.mark.parametrize(("fields", "expected", "said"), STATES)
def test_each_state_is_taken_over(fields: dict[str, Any], expected: dict[str, Any], said: str) -> None:
    """
    Id, time, key, attempts, failures, end and result are those of the document.
    """
    task = translate("a", old("a", **fields))

    assert task.past == EarlierTask(**({"id": "a", "created_at": CREATED} | expected))
    assert (task.kind, task.said, task.occurrence) == ("send-mail", said, None)
    assert not task.leased(NOW)


@pytest.mark.parametrize(
    ("until", "late", "leased"),
    [(SOON, 0, True), (SOON, 3600, True), (SOON, 3601, False), (DONE, 0, False), ("", 0, False), (NO_WAIT, 0, False)],
)
def test_lease_is_over_a_second_after_its_cut_off_end(until: str, late: int, leased: bool) -> None:
    """
    A stored end in whole seconds may be up to a second early.
    """
    task = translate("a", old("a", leasedUntil=until, attempts=1))

    assert task.leased(NOW + timedelta(seconds=late)) is leased


@pytest.mark.parametrize(
    ("fields", "status", "said", "occurrence"),
    [
        (
            {"waitUntil": SOON, "attempts": 59},
            Status.SCHEDULED,
            "recurring, waiting until 2026-03-01T13:00:00.000000Z",
            "a_occ_2026-03-01T13:00:00Z",
        ),
        # A reset generator.
        ({"waitUntil": NO_WAIT}, Status.SCHEDULED, "recurring, due", None),
        ({"waitUntil": SOON, "doneAt": DONE, "attempts": 2}, Status.COMPLETED, "completed", None),
        ({"waitUntil": NO_WAIT, "isCancelled": True, "cancelledAt": DONE}, Status.CANCELLED, "cancelled", None),
    ],
)
def test_generator_goes_on_at_its_next_time(
    fields: dict[str, Any], status: Status, said: str, occurrence: str | None
) -> None:
    """
    A generator has its rule, its next time and no attempts; a cancelled one has ended.
    """
    task = translate("a", old("a", recurrence=DAILY, **fields))

    assert task.past.recurrence is not None
    assert task.past.recurrence.to_data()["rrule"] == "FREQ=DAILY"
    assert (task.past.status, task.past.attempts, task.past.cancelling) == (status, 0, False)
    assert (task.said, task.occurrence) == (said, occurrence)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "b"}, "its field id is 'b'"),
        ({"type": ""}, "its field type is empty"),
        ({"waitUntil": "soon"}, "its field waitUntil is 'soon', which is no time"),
        ({"waitUntil": "2026-03-01"}, "its field waitUntil is '2026-03-01', which is no time"),
        ({"doneAt": "2026-13-01T00:00:00Z"}, "its field doneAt is '2026-13-01T00:00:00Z', which is no time"),
        ({"leasedUntil": 7}, "its field leasedUntil is 7, which is no text"),
        ({"attempts": "1"}, "its field attempts is '1'"),
        ({"attempts": -1}, "its field attempts is -1"),
        ({"errors": ["no route"]}, "its field errors is no list of maps"),
        ({"errors": [{"at": "", "error": "x"}]}, r"its errors\[0\] has no time"),
        ({"isCancelled": "yes"}, "its field isCancelled is 'yes', neither true nor false"),
        ({"data": [1]}, "its field data is no map"),
        ({"data": {"when": [datetime(2026, 1, 1, tzinfo=UTC)]}}, r"its data.when\[0\] is a datetime, which JSON"),
        ({"data": {"size": float("nan")}}, "its data.size is a float, which JSON"),
        ({"recurrence": "daily"}, "its field recurrence is no map"),
        ({"recurrence": {"rrule": "FREQ=NEVER", "dtstart": SOON}}, "its recurrence can't be read: "),
        ({"recurrence": {"rrule": "FREQ=DAILY", "dtstart": ""}}, "its recurrence can't be read: dtstart is missing"),
        ({"recurrence": DAILY, "waitUntil": DONE}, "its recurrence has no run at its waitUntil"),
    ],
)
def test_document_that_cannot_be_taken_says_why(fields: dict[str, Any], reason: str) -> None:
    """
    The first wrong field is named.
    """
    with pytest.raises(UntakenError, match=f"^{reason}"):
        translate("a", old("a", **fields))


def test_numbers_are_those_that_go_has_meant() -> None:
    """
    A whole float is a whole number, as in the JSON text from which Go read it; a large one stays a float.
    """
    given = {"size": 3.0, "rate": 0.5, "big": 1e300, "in": [{"n": -2.0}, None, True, "x"]}
    task = translate("a", old("a", data=given))

    assert task.data == {"size": 3, "rate": 0.5, "big": 1e300, "in": [{"n": -2}, None, True, "x"]}
    assert type(task.data["size"]) is int
    assert translate("a", old("a", data=None)).data == {}


@pytest.mark.parametrize(
    ("fields", "env"),
    [
        (old("a"), "DEFAULT"),
        (old("a") | {"lock": {}}, None),
        ({"env": "DEFAULT", "kind": "send-mail"}, None),
        ({"env": 1, "type": "send-mail"}, None),
    ],
)
def test_documents_of_the_go_library_are_known(fields: dict[str, Any], env: str | None) -> None:
    """
    The once-tasks of this library are in a collection of the same name, and have a lock.
    """
    assert env_of(fields) == env
