"""
The session of a worker as another worker reads it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask.checks.values import LONGEST
from gcp_oncetask.store.codec import DocumentType, put
from gcp_oncetask.store.sessions import _decoded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
GOOD: dict[str, Any] = {"id": "s1", "kinds": ["mail", "scan"], "beatAt": NOW, "ttlSeconds": 60}
READ = ("s1", ("mail", "scan"), NOW, 60.0)


def session(**changes: Any) -> Any:
    document = DocumentType()
    for name, value in {**GOOD, "env": "DEFAULT", **changes}.items():
        if value is not ...:
            put(document.fields[name], value)
    return document


@pytest.mark.parametrize("read", [None, NOW, NOW + MICRO])
def test_session_is_read(read: datetime | None) -> None:
    found = _decoded(session(), read)
    assert found == READ
    assert type(found[3]) is float


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        pytest.param({"id": 7}, NOW, id="its id is no text"),
        pytest.param({"id": ...}, NOW, id="its id is missing"),
        pytest.param({"kinds": "mail"}, NOW, id="its kinds are no list"),
        pytest.param({"kinds": ...}, NOW, id="its kinds are missing"),
        pytest.param({"beatAt": "now"}, NOW, id="its heartbeat is no time"),
        pytest.param({"beatAt": ...}, None, id="its heartbeat is missing"),
        pytest.param({"beatAt": NOW + MICRO}, NOW, id="its heartbeat is to come"),
        pytest.param({"ttlSeconds": "long"}, NOW, id="its length is no number"),
        pytest.param({"ttlSeconds": ...}, NOW, id="its length is missing"),
        pytest.param({"ttlSeconds": 0}, NOW, id="it has no length"),
        pytest.param({"ttlSeconds": -1}, NOW, id="its length is below nothing"),
        pytest.param({"ttlSeconds": LONGEST * 1.01}, NOW, id="it is longer than any length of time"),
    ],
)
def test_damaged_session_is_left_out(changes: dict[str, Any], read: datetime | None) -> None:
    assert _decoded(session(**changes), read) is None


@pytest.mark.parametrize("ttl", [0.001, 0.5, LONGEST])
def test_session_of_any_length_is_read(ttl: float) -> None:
    found = _decoded(session(ttlSeconds=ttl), NOW)
    assert found is not None
    assert found[3] == ttl
