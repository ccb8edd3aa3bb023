"""
The headers of a delivery, and instants as texts.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gcp_oncetask.rules.task_headers import TaskHeaders, count
from gcp_oncetask.rules.timestamps import instant, instant_of, parse_instant

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_headers_are_read() -> None:
    """
    Each by its name.
    """
    given = {
        "X-CloudTasks-QueueName": "q",
        "X-CloudTasks-TaskName": "t",
        "X-CloudTasks-TaskRetryCount": "3",
        "X-CloudTasks-TaskExecutionCount": "2",
        "X-CloudTasks-TaskETA": f"{T0.timestamp():f}",
        "X-CloudTasks-TaskPreviousResponse": "503",
    }

    assert TaskHeaders.of(given.get) == TaskHeaders("q", "t", 3, 2, T0, 503)
    assert TaskHeaders.of({}.get) == TaskHeaders()


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "٣", "1" * 10, "1e3", "inf", "nan", "9" * 400])
def test_invalid_headers_count_as_missing(text: str) -> None:
    """
    A delivery never fails by them.
    """
    numbers = ("RetryCount", "ExecutionCount", "PreviousResponse")
    given = {f"X-CloudTasks-Task{name}": text for name in numbers}

    assert count(text) is None
    assert TaskHeaders.of(given.get) == TaskHeaders()
    assert TaskHeaders.of({"X-CloudTasks-TaskETA": "9" * 400}.get).eta is None
    assert TaskHeaders.of({"X-CloudTasks-TaskETA": "soon"}.get).eta is None


@pytest.mark.parametrize("micros", [0, 1, 120, 999_999])
def test_instants_come_back_and_sort(micros: int) -> None:
    """
    All texts have one width.
    """
    at = T0.replace(microsecond=micros)

    assert parse_instant(instant(at)) == at
    assert instant_of(at.timestamp()) == instant(at)
    assert len(instant(at)) == len(instant(T0))
