"""
A document as it is known after this process's own commits: it is what the server has, without a read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gcp_emulator.clock import VirtualClock
from gcp_emulator.testing import InProcessCloud
from gcp_oncetask.errors import ConflictError, StoreError
from gcp_oncetask.rules import features
from gcp_oncetask.rules.record import SERVER_TIME, Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store import snapshot as snapshots
from gcp_oncetask.store.codec import DocumentType, decode, encode, put
from gcp_oncetask.store.snapshot import (
    NO_CHANGES,
    Changes,
    Snapshot,
    Update,
    WriteType,
    check_conflicts,
    contents_of,
    parse_version,
    quoted,
    snapshot_of,
    trusted,
    version_of,
)
from gcp_oncetask.store.wire import Wire
from gcp_oncetask.testing.cloud import TestClock

PATH = "orders/1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAITS = Lock.of(
    {"env": "DEFAULT", "sequence": 1, "status": Status.SCHEDULED, "due": f"DEFAULT/push/000/{instant(NOW)}"}
)
RUNS = WAITS.but(
    status=Status.LEASED, holder="me", token=1, attempts=1, granted_at=SERVER_TIME, leased_at=SERVER_TIME, due=None
)


@pytest.fixture
def wire() -> Wire:
    cloud = InProcessCloud()
    return Wire(lambda _: cloud.firestore_client(), TestClock(VirtualClock()), 10.0)


def changes(**values: Any) -> Changes:
    """
    Fields to write; None deletes one.
    """
    return Changes({name: None if value is None else encode(value) for name, value in values.items()}, None)


def committed(wire: Wire, before: Snapshot, lock: Lock | None, fields: Changes = NO_CHANGES) -> Snapshot:
    request = wire.request(PATH)
    update = Update(request.writes[0], before, lock, fields)
    return update.applied(wire.commit(request).write_results[0])


def same(wire: Wire, known: Snapshot) -> bool:
    """
    Whether the known document is the stored one.
    """
    stored = wire.get(PATH)
    assert stored is not None
    read = snapshot_of(PATH, stored, None)
    fields = {name: decode(value) for name, value in read.fields.items()}
    assert "lock" not in fields
    assert {name: decode(value) for name, value in known.fields.items()} == fields
    assert known.document is not None
    assert {name: decode(value) for name, value in known.fields.items()} == fields
    assert (known.version, known.lock) == (stored.update_time, read.lock)
    return bool(known.document.fields == stored.fields)


MISSING = Snapshot(PATH, None, None, None)
STEPS: dict[str, tuple[Lock | None, Changes]] = {
    "nothing but its record": (WAITS.but(token=7), NO_CHANGES),
    "times of the server": (RUNS, NO_CHANGES),
    "times of the server alone": (WAITS.but(granted_at=SERVER_TIME), NO_CHANGES),
    "a field more": (WAITS.but(token=7), changes(note="new")),
    "a field otherwise": (WAITS.but(token=7), changes(name="other", count=2)),
    "a field less": (WAITS.but(token=7), changes(name=None)),
    "a field less that was not there": (WAITS.but(token=7), changes(nothing=None)),
    "an attribute less": (WAITS.but(due=None), NO_CHANGES),
    "a field with an odd name": (WAITS.but(token=7), changes(**{"a b`\\": 1, "ä": 2})),
    "fields alone": (WAITS, changes(name="other")),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("whole", [True, False])
def test_document_is_known_after_a_commit(wire: Wire, name: str, whole: bool) -> None:
    """
    Whether it was put together in between or not.
    """
    created = committed(wire, MISSING, WAITS, changes(name="ann", count=1))
    if whole:
        assert same(wire, created)
    lock, fields = STEPS[name]
    changed = committed(wire, created, lock, fields)
    assert same(wire, changed)
    assert same(wire, committed(wire, changed, changed.lock and changed.lock.but(token=9), changes(last=True)))


@pytest.mark.parametrize("stamped", [True, False])
def test_document_that_is_made_with_its_record(wire: Wire, stamped: bool) -> None:
    created = committed(wire, MISSING, RUNS if stamped else WAITS, changes(name="ann"))
    assert same(wire, created)
    assert created.document is created.document, "it is put together once"


def test_document_that_gets_its_first_record_later(wire: Wire) -> None:
    """
    A map that was there in its place goes as a whole.
    """
    request = wire.request(PATH)
    put(request.writes[0].update.fields["name"], "ann")
    put(request.writes[0].update.fields["lock"], None)
    wire.commit(request)
    bare = snapshot_of(PATH, wire.get(PATH), None)
    assert bare.lock is None

    assert same(wire, committed(wire, bare, RUNS))


def test_document_without_a_record_stays_without_one(wire: Wire) -> None:
    created = committed(wire, MISSING, None, changes(name="ann"))
    assert created.lock is None
    assert same(wire, committed(wire, created, None, changes(name="bea")))


def test_commits_since_the_last_whole_document_are_put_together_in_time(wire: Wire) -> None:
    """
    An attempt that saves often keeps few of its writes.
    """
    known, depths = committed(wire, MISSING, WAITS, changes(name="ann")), []
    for number in range(30):
        assert isinstance(known.source, Update)
        depths.append(known.source.depth)
        known = committed(wire, known, WAITS.but(token=number + 1), changes(count=number))
    assert same(wire, known)
    most = snapshots._MAX_DEPTH
    assert depths == [1 + number % most for number in range(30)]


def test_commit_that_was_decided_on_an_older_document_is_refused(wire: Wire) -> None:
    created = committed(wire, MISSING, WAITS)
    committed(wire, created, WAITS.but(token=1))
    with pytest.raises(Exception, match=r"update_time|version|condition|match"):
        committed(wire, created, WAITS.but(token=2))
    with pytest.raises(Exception, match=r"exist"):
        committed(wire, MISSING, WAITS)


def test_write_inside_a_transaction_has_no_condition() -> None:
    for before in (MISSING, Snapshot(PATH, parse_version("1.2"), DocumentType(), WAITS)):
        message = WriteType()
        Update(message, before, WAITS.but(token=1), NO_CHANGES, precondition=False)
        assert not message.HasField("current_document")
        assert message.HasField("update_mask") is before.exists


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("name", "name"),
        ("a1_b", "a1_b"),
        ("1a", "`1a`"),
        ("ä", "`ä`"),
        ("a b", "`a b`"),
        ("a`b\\c", "`a\\`b\\\\c`"),
        ("", "``"),
    ],
)
def test_names_of_fields_are_quoted_where_firestore_asks_for_it(name: str, path: str) -> None:
    assert quoted(name) == path


def seen(**values: Any) -> dict[str, Any]:
    return {name: encode(value) for name, value in values.items()}


def stored(**values: Any) -> Snapshot:
    document = DocumentType()
    for name, value in values.items():
        put(document.fields[name], value)
    return Snapshot(PATH, parse_version("1.2"), document, None)


@pytest.mark.parametrize(
    ("snapshot", "values", "loaded", "clash"),
    [
        pytest.param(stored(a=1), seen(a=2), seen(a=1), [], id="as it was loaded"),
        pytest.param(stored(a=3), seen(a=2), seen(a=1), ["a"], id="changed by another writer"),
        pytest.param(stored(a=2), seen(a=2), seen(a=1), [], id="changed by another writer to the same"),
        pytest.param(stored(), seen(a=2), seen(a=1), ["a"], id="deleted by another writer"),
        pytest.param(stored(), {"a": None}, seen(a=1), [], id="deleted by both"),
        pytest.param(stored(a=3, b=3), seen(a=2, b=2), seen(a=1, b=1), ["a", "b"], id="two"),
        pytest.param(stored(a=3), seen(a=2), None, [], id="it was not loaded"),
        pytest.param(stored(a=3), {}, {}, [], id="nothing is written"),
        pytest.param(MISSING, seen(a=2), seen(a=1), [], id="the document is gone"),
    ],
)
def test_changes_of_other_writers_are_noticed(
    snapshot: Snapshot, values: dict[str, Any], loaded: dict[str, Any] | None, clash: list[str]
) -> None:
    change = Changes(values, loaded)
    if clash:
        with pytest.raises(ConflictError, match="changed while the handler ran") as raised:
            check_conflicts(snapshot, change)
        assert raised.value.facts == {"document": PATH, "fields": clash}
    else:
        check_conflicts(snapshot, change)
        assert change.conflicts(snapshot.fields) == [] or not snapshot.exists


def test_changes_with_more_fields() -> None:
    change = Changes(seen(a=1), seen(a=0))
    assert change.with_({}) is change
    assert change.with_(seen(b=2)) == Changes(seen(a=1, b=2), seen(a=0))


def test_contents_travel_in_a_delivery() -> None:
    """
    The fields alone: the name and the times of a document that was read stay behind.
    """
    document = DocumentType(name="projects/p/databases/d/documents/orders/1")
    document.update_time.FromSeconds(5)
    put(document.fields["name"], "ann")
    read = Snapshot(PATH, document.update_time, document, None)
    contents = contents_of(read)

    assert DocumentType.FromString(contents).fields == document.fields
    assert not DocumentType.FromString(contents).name
    found = trusted(PATH, version_of(read.version), contents)
    assert (found.path, found.version, found.lock) == (PATH, read.version, None)
    assert found.fields == read.fields
    assert contents_of(found) == contents
    for version, damaged in (("5", contents), ("a.b", contents), (version_of(read.version), b"\xff")):
        with pytest.raises(StoreError, match="damaged") as raised:
            trusted(PATH, version, damaged)
        assert raised.value.facts["unknown"] is False


def test_version_as_text() -> None:
    assert version_of(parse_version("12.34")) == "12.34"
    assert (parse_version("12.34").seconds, parse_version("12.34").nanos) == (12, 34)


def test_update_adds_the_features_of_the_form_that_is_written(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    To a record that is changed, and not to one whose user fields alone are saved.
    """
    monkeypatch.setattr(features, "WRITTEN", {"new": ("due",)})
    missing = Snapshot(PATH, None, None, None)
    first = committed(wire, missing, WAITS.but(due=None))
    assert first.lock is not None
    assert first.lock.needs == ()
    monkeypatch.setattr(features, "WRITTEN", {"new": ("due",), "more": ("sequence",)})
    saved = committed(wire, first, first.lock, changes(note="a"))
    assert saved.lock is not None
    assert saved.lock.needs == ()
    second = committed(wire, saved, saved.lock.but(due=WAITS.due))
    assert second.lock is not None
    assert second.lock.needs == ("new", "more")
    assert same(wire, second)
