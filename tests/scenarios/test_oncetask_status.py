"""
oncetask: the derived status, as a table of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import Status, StoreError
from gcp_oncetask.rules.record import Failure, Lock
from gcp_oncetask.tasks import TaskStatus
from gcp_oncetask.tasks.task import status_of
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.tasks import Service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON, PAST = NOW + timedelta(seconds=30), NOW - timedelta(hours=1)
STORED = "what has ended is stored by name, not counted from attempts and errors"
GIVEN_UP = "a cancelled task has the stored status cancelled; a completed one never becomes it"


def lock(status: Status, **fields: Any) -> Lock:
    """
    A record of an attempt granted an hour ago, unless told otherwise.
    """
    held = {"granted_at": PAST, "leased_at": PAST, "lease_seconds": 600.0, "run_limit_seconds": 90_000.0}
    return Lock(env="E", sequence=1, status=status, **(held | fields))


def errors(count: int) -> tuple[Failure, ...]:
    """
    So many failures.
    """
    return tuple(Failure(PAST, number + 1, 1, "no") for number in range(count))


HELD = {"leased_at": NOW - timedelta(seconds=1)}
CANCELLED = {"cancel_requested_at": PAST}
TABLE: list[tuple[str, str, Lock, TaskStatus, str]] = [
    ("OT-032", "completed", lock(Status.COMPLETED, attempts=2, errors=errors(1)), TaskStatus.COMPLETED, STORED),
    ("OT-033", "failed", lock(Status.FAILED, attempts=3, errors=errors(3)), TaskStatus.FAILED, STORED),
    ("OT-034", "leased", lock(Status.LEASED, **HELD), TaskStatus.LEASED, ""),
    ("OT-035", "waiting", lock(Status.SCHEDULED, wait_until=SOON), TaskStatus.WAITING, ""),
    (
        "OT-036",
        "waiting",
        lock(Status.SCHEDULED, attempts=1, errors=errors(1), wait_until=SOON),
        TaskStatus.WAITING,
        "",
    ),
    ("OT-037", "pending", lock(Status.SCHEDULED, wait_until=PAST), TaskStatus.PENDING, ""),
    ("OT-038", "pending", lock(Status.LEASED), TaskStatus.PENDING, ""),
    ("OT-039", "pending", lock(Status.SCHEDULED), TaskStatus.PENDING, "no sentinel: no time at all"),
    ("OT-040", "cancellationPending", lock(Status.SCHEDULED, **CANCELLED), TaskStatus.CANCELLATION_PENDING, ""),
    ("OT-041", "cancelled", lock(Status.CANCELLED, **CANCELLED), TaskStatus.CANCELLED, ""),
    ("OT-042", "cancelled", lock(Status.CANCELLED, attempts=1, **CANCELLED), TaskStatus.CANCELLED, GIVEN_UP),
    (
        "OT-043",
        "cancelled",
        lock(Status.CANCELLED, attempts=3, errors=errors(3), **CANCELLED),
        TaskStatus.CANCELLED,
        GIVEN_UP,
    ),
    ("OT-044", "cancellationPending", lock(Status.LEASED, **HELD, **CANCELLED), TaskStatus.CANCELLATION_PENDING, ""),
    (
        "OT-045",
        "cancellationPending",
        lock(Status.SCHEDULED, wait_until=SOON, **CANCELLED),
        TaskStatus.CANCELLATION_PENDING,
        "",
    ),
    (
        "OT-046",
        "cancellationPending",
        lock(Status.SCHEDULED, wait_until=PAST, **CANCELLED),
        TaskStatus.CANCELLATION_PENDING,
        "",
    ),
    ("OT-048", "completed", lock(Status.COMPLETED, wait_until=SOON, **HELD), TaskStatus.COMPLETED, ""),
    ("OT-049", "leased", lock(Status.LEASED, wait_until=SOON, **HELD), TaskStatus.LEASED, ""),
]


def shows(found: Lock, expected: TaskStatus) -> Callable[[], None]:
    """
    The test of one row.
    """

    def test() -> None:
        assert status_of(found, NOW) is expected
        assert str(expected) == expected.value

    return test


for _id, _then, _lock, _status, _deviation in TABLE:
    _test = shows(_lock, _status)
    _test.__name__ = f"test_{_id.lower().replace('-', '_')}_{_status.name.lower()}"
    globals()[_test.__name__] = row(_id, _then, _deviation)(_test)


@row(
    "OT-047", "unreadable done / lease / wait time: error", "times are timestamps; anything else is refused on reading"
)
@pytest.mark.parametrize("field", ["doneAt", "lock.leasedAt", "lock.waitUntil"])
def test_ot_047_unreadable_time(oncetask_cloud: OncetaskCloud, field: str) -> None:
    service = Service(oncetask_cloud)
    service.create("a")
    service.manager.locker.client.document(service.path("a")).update({field: "yesterday"})
    with pytest.raises(StoreError, match=field.rsplit(".", maxsplit=1)[-1]):
        service.get("a")
