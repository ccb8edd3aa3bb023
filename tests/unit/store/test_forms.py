"""
The forms of texts in a record, and records whose attributes contradict each other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.firestore_v1.types import Document

from gcp_oncetask.rules.document_paths import TaskName, key_path
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store import forms
from gcp_oncetask.store.forms import TEXTS, misfit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = TaskName("E", "work", "1").path
KEY = key_path("E", "k")
RUNS = Lock.of(
    {
        "env": "E",
        "sequence": 2,
        "status": Status.LEASED,
        "holder": "me",
        "token": 1,
        "granted_at": NOW,
        "leased_at": NOW,
    }
)
WAITS = Lock.of({"env": "E", "sequence": 2, "status": Status.SCHEDULED})


def document(at: datetime | None = None) -> Any:
    made = Document.pb()()
    if at is not None:
        made.update_time.FromDatetime(at)
    return made


@pytest.mark.parametrize(
    ("lock", "found"),
    [
        (WAITS, None),
        (WAITS.but(due="E/d/000/x"), None),
        (WAITS.but(due="Else/d/000/x"), ("env", "it is 'E', and due is of another one")),
        (WAITS.but(url="https://a.example/x"), ("queue", "it is missing")),
        (WAITS.but(queue="projects/p/locations/l/queues/q"), ("url", "it is missing")),
        (WAITS.but(url="https://a.example/x", queue="projects/p/locations/l/queues/q"), None),
        (WAITS.but(base=2), ("base", "it is 2, and the sequence 2")),
        (WAITS.but(base=1), None),
        (WAITS.but(scheduled_token=1), ("token", "it is 0, and was 1 before")),
        (WAITS.but(granted=1), ("granted", "it is 1, and the newest payload 0")),
    ],
)
def test_attributes_that_contradict_each_other(lock: Lock, found: Any) -> None:
    assert misfit(lock, TASK, document()) == found


@pytest.mark.parametrize("status", [Status.LEASED, Status.QUARANTINED])
def test_lease_without_its_holder_or_its_times(status: Status) -> None:
    lock = RUNS.but(status=status)
    assert misfit(lock, TASK, document()) is None
    nobody = misfit(lock.but(holder=None), TASK, document())
    assert nobody == (None if status is Status.QUARANTINED else ("holder", "it is missing, and the status leased"))
    for name in ("granted_at", "leased_at"):
        assert misfit(lock.but(**{name: None}), TASK, document()) == (name, f"it is missing, and the status {status}")


def test_record_of_a_key_has_a_document_for_its_holder() -> None:
    held = RUNS.but(granted_at=None, leased_at=None, holder=TASK)
    assert misfit(held, KEY, document()) is None
    assert misfit(held.but(holder="nonsense"), KEY, document()) == ("holder", "it is no path of a document")
    assert misfit(held, TASK, document()) == ("granted_at", "it is missing, and the status leased")


@pytest.mark.parametrize("name", ["granted_at", "leased_at"])
def test_time_that_is_to_come(name: str) -> None:
    """
    Server times may be ahead of the document's last write by a little, and nothing is known of a document without one.
    """
    bound = NOW + timedelta(seconds=forms._AHEAD)
    assert misfit(RUNS.but(**{name: bound}), TASK, document(NOW)) is None
    ahead = bound + timedelta(seconds=1)
    assert misfit(RUNS.but(**{name: ahead}), TASK, document(NOW)) == (
        name,
        f"it is {ahead.isoformat()}, which is to come",
    )
    assert misfit(RUNS.but(**{name: ahead}), TASK, document()) is None


@pytest.mark.parametrize(
    ("name", "text", "sound"),
    [
        ("holder", "", False),
        ("holder", "x" * forms._LONGEST_NAME, True),
        ("holder", "x" * (forms._LONGEST_NAME + 1), False),
        ("url", "https://a.example/x", True),
        ("url", "http://a.example", True),
        ("url", "ftp://a.example/x", False),
        ("url", "https:///x", False),
        ("url", "/x", False),
        ("url", "https://[x", False),
    ],
)
def test_texts_of_a_form(name: str, text: str, sound: bool) -> None:
    if sound:
        TEXTS[name](text)
    else:
        with pytest.raises(ValueError, match=r"it (has|is)"):
            TEXTS[name](text)
