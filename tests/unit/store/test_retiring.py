"""
The time from which Firestore's TTL may delete a document: which commit sets it, keeps it, and removes it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.record import Event, Lock, PendingAlert, Status
from gcp_oncetask.store.codec import DocumentType, decode, put
from gcp_oncetask.store.retiring import ending, expiry_of, retirement, retires
from gcp_oncetask.store.snapshot import Snapshot

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=10)
DAY = timedelta(days=1)
TASK = TaskName("DEFAULT", "work", "1").path
ONCE = "onceLocks/ab:DEFAULT:once:charge"
OWED = (PendingAlert("1-1-failure", Event.FAILURE, NOW, NOW, 1, 1, "no"),)
RUNS = Lock.of({"env": "DEFAULT", "sequence": 1, "status": Status.LEASED})
DONE = RUNS.but(status=Status.COMPLETED)
OWES = DONE.but(status=Status.FAILED, owed=OWED)
KEPT: dict[str, Any] = {"retentionSeconds": DAY.total_seconds()}
SET = {"expireAt": NOW + DAY}


def at(lock: Lock | None, path: str = TASK, **fields: Any) -> Snapshot:
    """
    A document with a record and these fields.
    """
    document = DocumentType()
    for name, value in fields.items():
        put(document.fields[name], value)
    return Snapshot(path, None, document, lock)


def plain(fields: Any) -> dict[str, Any]:
    return {name: None if value is None else decode(value) for name, value in fields.items()}


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        pytest.param(at(RUNS, **KEPT), DONE, SET, id="it ends"),
        pytest.param(at(RUNS), DONE, {}, id="it ends, and is kept for ever"),
        pytest.param(at(None, **KEPT), DONE, {}, id="it had no record"),
        pytest.param(at(RUNS, **KEPT), RUNS, {}, id="it goes on"),
        pytest.param(at(RUNS, **KEPT, **SET), RUNS, {}, id="it goes on, and has a time that is not ours"),
        pytest.param(at(RUNS, **KEPT), OWES, {}, id="it ends, and owes an alert"),
        pytest.param(at(OWES, **KEPT, doneAt=EARLIER), DONE, {"expireAt": EARLIER + DAY}, id="its alert was sent"),
        pytest.param(at(OWES, **KEPT, doneAt="a text"), DONE, SET, id="its alert was sent, and its end is unknown"),
        pytest.param(at(OWES, **KEPT), DONE, SET, id="its alert was sent, and its end is missing"),
        pytest.param(
            at(RUNS, **KEPT, doneAt=EARLIER), DONE, SET, id="it ends again, and the time of its first end is there"
        ),
        pytest.param(at(DONE, **KEPT, **SET), DONE, {}, id="it has ended, and has its time"),
        pytest.param(at(DONE, **KEPT), DONE, SET, id="it has ended, and has lost its time"),
        pytest.param(at(OWES, **KEPT, **SET), OWES, {"expireAt": None}, id="an older release has set it too early"),
        pytest.param(at(OWES, **KEPT, **SET), DONE, SET, id="its time was set too early, and is made anew"),
        pytest.param(at(DONE, **KEPT, **SET), RUNS, {"expireAt": None}, id="it runs again"),
        pytest.param(at(DONE, **KEPT), RUNS, {}, id="it runs again, and had no time"),
        pytest.param(at(RUNS, retentionSeconds="long"), DONE, {}, id="its retention is no number"),
        pytest.param(
            at(RUNS, retentionSeconds=60), DONE, {"expireAt": NOW + timedelta(hours=1)}, id="an hour at least"
        ),
    ],
)
def test_time_of_expiry_is_set_as_the_table_says(before: Snapshot, after: Lock, changed: dict[str, Any]) -> None:
    found = retirement(before, after, NOW)
    assert found is not None
    assert plain(found) == changed


@pytest.mark.parametrize(
    ("path", "after", "fields", "does"),
    [
        pytest.param(ONCE, DONE, KEPT, True, id="the key of a function that has ended"),
        pytest.param(f"mine/{ONCE.split('/')[1]}", DONE, KEPT, True, id="in a collection of the user's"),
        pytest.param(ONCE, RUNS, KEPT, False, id="it runs"),
        pytest.param(ONCE, DONE, {}, False, id="it is kept for ever"),
        pytest.param("onceLocks/ab:DEFAULT:lock:once", DONE, KEPT, False, id="a named lock"),
        pytest.param("onceLocks/ab:DEFAULT:lock::once:", DONE, KEPT, False, id="a named lock with such a name"),
        pytest.param("orders/1", DONE, KEPT, False, id="an entity"),
    ],
)
def test_keys_of_functions_retire(path: str, after: Lock, fields: dict[str, Any], does: bool) -> None:
    assert retires(at(RUNS, path, **fields), after) is does


@pytest.mark.parametrize(
    ("seconds", "owes", "fields"),
    [
        (None, False, {}),
        (None, True, {}),
        (DAY.total_seconds(), False, SET),
        (86_400, True, {"retentionSeconds": 86_400.0, "doneAt": NOW}),
    ],
)
def test_end_of_a_function_says_how_long_its_result_is_kept(
    seconds: float | None, owes: bool, fields: dict[str, Any]
) -> None:
    found = ending(seconds, NOW, owes=owes)
    assert found is not None
    assert plain(found) == fields
    assert all(type(decode(value)) is float for name, value in found.items() if name == "retentionSeconds")


@pytest.mark.parametrize(
    ("snapshot", "expires"),
    [
        (at(DONE, **SET), NOW + DAY),
        (at(DONE), None),
        (at(DONE, expireAt="a text"), None),
        (at(DONE, "orders/1", **SET), None),
    ],
)
def test_time_of_expiry_of_a_once_task(snapshot: Snapshot, expires: datetime | None) -> None:
    assert expiry_of(snapshot) == expires
