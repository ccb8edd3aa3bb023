"""
The sessions of workers: as they are written, and as another worker reads them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from gcp_oncetask.checks.values import LONGEST
from gcp_oncetask.errors import StoreError
from gcp_oncetask.rules.timestamps import parse_instant
from gcp_oncetask.store import sessions
from gcp_oncetask.store.codec import DocumentType, decode, get_timestamp, put
from gcp_oncetask.store.sessions import _decoded
from tests.support.base import Base

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


# --- written ----------------------------------------------------------------------------------------------------------


def beats(base: Base, id_: str = "s1", version: Any = None, ttl: float = 60.0) -> Any:
    return sessions.beat(base.store, "E", id_, kinds=("mail", "scan"), host="h", ttl=ttl, version=version)


def stored(base: Base, id_: str = "s1") -> dict[str, Any]:
    document = base.wire.get(sessions._path("E", id_))
    assert document is not None
    return {name: decode(value) for name, value in document.fields.items()}


def test_heartbeat_says_who_lives_until_when(base: Base) -> None:
    version = beats(base)
    found = stored(base)
    beat_at = found.pop("beatAt")
    assert found == {
        "env": "E",
        "id": "s1",
        "kinds": ["mail", "scan"],
        "host": "h",
        "ttlSeconds": 60.0,
        "live": f"E/{base.at(120)}",
        "expireAt": base.now + timedelta(seconds=60, days=1),
    }
    assert abs(beat_at - get_timestamp(version)) < timedelta(milliseconds=1)
    base.cloud.clock.advance(10)
    again = beats(base, version=version)
    assert again != version
    assert abs(stored(base)["beatAt"] - get_timestamp(again)) < timedelta(milliseconds=1)


def test_end_of_a_session_is_seen_by_those_that_listen(base: Base) -> None:
    version = beats(base)
    sessions.end(base.store, "E", "s1", version)
    found = stored(base)
    assert (found.pop("env"), found.pop("id")) == ("E", "s1")
    env, _, left = found.pop("left").partition("/")
    assert env == "E"
    assert timedelta(0) <= parse_instant(left) - base.now < timedelta(seconds=1)
    assert timedelta(0) <= found.pop("expireAt") - base.now - timedelta(days=1) < timedelta(seconds=1)
    assert found == {}, "it is no living one any more"
    query = sessions.leaving_query(base.store, "E")
    assert not query.HasField("limit")


def test_heartbeat_goes_on_where_another_one_was_applied_unheard(base: Base) -> None:
    first = beats(base)
    beats(base, version=first)
    assert beats(base, version=first) is not None
    base.wire.commit(_deletion(base))
    assert beats(base, version=first) is not None, "a person has deleted it"


def _deletion(base: Base) -> Any:
    request = base.wire.request()
    request.writes.add(delete=base.wire.name(sessions._path("E", "s1")))
    return request


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (beats, "a worker's heartbeat failed with PERMISSION_DENIED"),
        (lambda base: sessions.end(base.store, "E", "s1", None), "ending a worker's session failed with PERMISSION"),
    ],
)
def test_refused_session_says_so(base: Base, call: Any, what: str) -> None:
    base.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(StoreError, match=what) as raised:
        call(base)
    assert raised.value.facts["unknown"] is False
    base.cloud.faults.fail("RunQuery", code=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(StoreError, match="looking for the workers' sessions failed"):
        sessions.all_of(base.store, "E")


def test_living_sessions_are_found(base: Base) -> None:
    """
    Those of this environment; a damaged one is told of, if somebody asks.
    """
    beats(base)
    beats(base, "s2", ttl=1)
    sessions.end(base.store, "E", "s3", None)
    request = base.wire.request(sessions._path("E", "bad"))
    for name, value in {"live": f"E/{base.at(500)}", "id": 7}.items():
        put(request.writes[0].update.fields[name], value)
    base.wire.commit(request)
    damaged: list[str] = []
    found, read = sessions.all_of(base.store, "E", damaged.append)
    assert sorted((id_, kinds, ttl) for id_, kinds, _, ttl in found) == [
        ("s1", ("mail", "scan"), 60.0),
        ("s2", ("mail", "scan"), 1.0),
    ]
    assert damaged == [sessions._path("E", "bad")]
    assert read >= base.now
    base.cloud.clock.advance(60)
    later, read = sessions.all_of(base.store, "E")
    assert [id_ for id_, *_ in later] == ["s1"]
    assert read >= base.now + timedelta(seconds=60)
    assert sessions.all_of(base.store, "F")[0] == []
