"""
Documents of the Go library oncetask, and its worker, as its source describes them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import Aborted
from google.cloud.firestore import Client, FieldFilter, Transaction, transactional

NO_WAIT = "0001-01-01T00:00:00Z"
COLLECTION = "onceTasks"


def stamp(at: datetime) -> str:
    """
    A time as Go writes it: whole seconds, cut off.
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def old(id_: str, **fields: Any) -> dict[str, Any]:
    """
    A document as ``CreateTask`` of the Go library writes it, with other *fields* in place of these.
    """
    made = {
        "id": id_,
        "type": "send-mail",
        # A Go map that went through JSON has only floats.
        "data": {"to": id_, "size": 3.0},
        "resourceKey": "",
        "env": "DEFAULT",
        "waitUntil": NO_WAIT,
        "leasedUntil": "",
        "createdAt": "2026-01-01T00:00:00Z",
        "doneAt": "",
        "attempts": 0,
        "errors": None,
        "result": None,
        "recurrence": None,
        "parentRecurrenceId": "",
        "occurrenceTimestamp": "",
        "isCancelled": False,
        "cancelledAt": "",
    }
    assert fields.keys() <= made.keys()
    return made | fields


class OldWorker:
    """
    A worker of the Go library: it claims a due task in a transaction, runs it, and completes it in another one.
    """

    def __init__(self, client: Client, now: Callable[[], datetime], run: Callable[[str], object]) -> None:
        self._tasks = client.collection(COLLECTION)
        self._client, self._now, self._run = client, now, run

    def claim(self) -> str | None:
        """
        Claim one task; its id, or None if there is none, or if another process was faster.
        """

        @transactional
        def claim(transaction: Transaction) -> str | None:
            now = stamp(self._now())
            query = self._tasks.where(filter=FieldFilter("env", "==", "DEFAULT")).where(
                filter=FieldFilter("type", "==", "send-mail")
            )
            for found in query.stream(transaction=transaction):
                task = found.to_dict()
                if not task["doneAt"] and task["waitUntil"] <= now and task["leasedUntil"] <= now:
                    until = stamp(self._now() + timedelta(minutes=10))
                    transaction.update(found.reference, {"leasedUntil": until, "attempts": task["attempts"] + 1})
                    return str(found.id)
            return None

        try:
            return claim(self._client.transaction(max_attempts=1))
        except (Aborted, ValueError):
            return None

    def complete(self, id_: str) -> None:
        """
        Run the claimed task, and complete it.
        """
        self._run(id_)
        self._tasks.document(id_).update({"doneAt": stamp(self._now()), "leasedUntil": "", "result": "by Go"})
