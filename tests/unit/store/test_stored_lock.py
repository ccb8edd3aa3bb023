"""
A lock as it is stored: what a rule made of a record is what the next reader finds, though only the difference was written.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules.journal import EntrySort, JournalEntry
from gcp_oncetask.rules.record import (
    DEFAULTS,
    SERVER_TIME,
    STORED_NAMES,
    Acknowledgement,
    Act,
    Chunk,
    Event,
    Failure,
    Fingerprint,
    HandlerWait,
    Intent,
    Lock,
    Note,
    PendingAlert,
    Since,
    Status,
    WaitFor,
    Woken,
)
from gcp_oncetask.rules.retry_policy import ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy, to_data
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.waits import SentEvent
from gcp_oncetask.store.codec import DocumentType, ValueType, put
from gcp_oncetask.store.forms import LONGEST
from gcp_oncetask.store.lock_codec import decode_lock, encode_lock
from gcp_oncetask.store.snapshot import NO_CHANGES, Snapshot, Update, WriteType

TEXTS = st.text(max_size=6)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC, fold=0))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
COUNTS = st.integers(0, 2**62 - 1)
OWED = st.builds(
    PendingAlert,
    TEXTS,
    st.sampled_from(Event),
    INSTANTS,
    INSTANTS,
    COUNTS,
    COUNTS,
    TEXTS,
    COUNTS,
    st.tuples(TEXTS, TEXTS),
)
POLICIES: list[RetryPolicy] = [
    NoRetry(),
    FixedDelay(delay=5),
    ExponentialBackoff(jitter=0),
    ExponentialBackoff(multiplier=3),
]
BY_TYPE = {
    "str": TEXTS,
    "int": COUNTS,
    "bool": st.booleans(),
    "float": st.floats(0, LONGEST),
    "datetime": INSTANTS,
    "Any": JSON,
    "dict[str, Any]": st.sampled_from(POLICIES).map(to_data),
    "dict[str, str]": st.dictionaries(TEXTS, TEXTS, max_size=3),
    "tuple[str, ...]": st.lists(TEXTS, max_size=3).map(tuple),
    "tuple[Failure, ...]": st.lists(st.builds(Failure, INSTANTS, COUNTS, COUNTS, TEXTS), max_size=2).map(tuple),
    "tuple[PendingAlert, ...]": st.lists(OWED, max_size=2).map(tuple),
    "Note": st.builds(Note, COUNTS, COUNTS, TEXTS),
    "Since": st.builds(Since, COUNTS, COUNTS, INSTANTS),
    "Fingerprint": st.builds(Fingerprint, TEXTS, TEXTS),
    "tuple[Act, ...]": st.lists(
        st.builds(Act, INSTANTS, TEXTS, TEXTS, st.booleans(), st.none() | TEXTS, TEXTS, COUNTS, st.none() | TEXTS),
        max_size=2,
    ).map(tuple),
    "bytes": st.binary(max_size=24),
    "tuple[bytes, ...]": st.lists(st.binary(max_size=24), max_size=3).map(tuple),
    "tuple[Chunk, ...]": st.lists(st.builds(Chunk, TEXTS, COUNTS, COUNTS, COUNTS), max_size=2).map(tuple),
    "tuple[Intent, ...]": st.lists(st.builds(Intent, TEXTS, COUNTS, INSTANTS, INSTANTS), max_size=2).map(tuple),
    "HandlerWait": st.builds(
        HandlerWait,
        TEXTS,
        st.sampled_from(WaitFor),
        COUNTS,
        INSTANTS,
        st.none() | INSTANTS,
        st.lists(TEXTS, max_size=2).map(tuple),
        st.none() | TEXTS,
        st.none() | st.sampled_from(Woken),
        st.none() | TEXTS,
    ),
    "Acknowledgement": st.builds(Acknowledgement, COUNTS, COUNTS, TEXTS, INSTANTS),
    "Status": st.sampled_from(Status),
}
STAMPS = INSTANTS.map(instant)
AT = datetime(2026, 3, 1, tzinfo=UTC)
ENTRIES = [JournalEntry(name, EntrySort.RUN, 1, 2, AT, value={"a": [1]}).to_bytes() for name in ("", "x\x00")]
EVENTS = [SentEvent(name, "n", AT, None).to_bytes() for name in ("a", "b")]
FORMS = {
    "journal": st.sampled_from([(), tuple(ENTRIES), tuple(ENTRIES[:1])]),
    "mailbox": st.sampled_from([(), tuple(EVENTS), tuple(EVENTS[:1])]),
    "due": st.builds(
        "E/{}/{:03d}/{}".format, st.sampled_from(["push", "pull.a.b", "key"]), st.integers(0, 1200), STAMPS
    ),
    "parked": st.builds("E/a%20key/{}/{}".format, STAMPS, STAMPS),
    "url": st.sampled_from(["https://a.test", "http://[::1]:8080/x?y=z"]),
    "queue": st.sampled_from(["projects/p/locations/l/queues/q", "projects/d:p/locations/l/queues/q-2"]),
    "on_unknown": st.sampled_from(["takeover", "quarantine"]),
    "holder": st.text(min_size=1, max_size=6),
    "trace": st.text(min_size=1, max_size=6),
}
ATTRIBUTES: dict[str, st.SearchStrategy[Any]] = {
    field.name: FORMS.get(field.name, BY_TYPE[str(field.type).removesuffix(" | None")])
    | (st.none() if str(field.type).endswith("None") else st.nothing())
    for field in fields(Lock)
}
REQUIRED = ("env", "sequence", "status")
CHANGES = st.fixed_dictionaries({}, optional=ATTRIBUTES)


def fitting(values: dict[str, Any], before: Lock | None = None) -> dict[str, Any]:
    """
    *values*, so that they fit together, and to what is not changed of *before*.
    """
    now = Lock.of(values) if before is None else before.but(**values)
    fits: dict[str, Any] = {
        "env": "E",
        "base": min(now.base, max(now.sequence, 1) - 1),
        "sequence": max(now.sequence, 1),
        "scheduled_token": min(now.scheduled_token, now.token),
        "granted": min(now.granted, now.wanted),
        "url": now.url if now.queue is None else now.url or "https://a.test",
        "queue": now.queue if now.url is None else now.queue or "projects/p/locations/l/queues/q",
    }
    if now.status in (Status.LEASED, Status.QUARANTINED):
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        fits |= {
            "holder": now.holder or "h",
            "granted_at": now.granted_at or long_ago,
            "leased_at": now.leased_at or long_ago,
        }
    return values | {name: value for name, value in fits.items() if getattr(now, name) != value}


LOCKS = st.fixed_dictionaries(
    {name: ATTRIBUTES[name] for name in REQUIRED},
    optional={name: values for name, values in ATTRIBUTES.items() if name not in REQUIRED},
).map(lambda values: Lock.of(fitting(values)))


def stored(lock: Lock) -> Any:
    """
    A document with all of *lock*.
    """
    document = DocumentType()
    encode_lock(document.fields["lock"], lock)
    return document


@given(LOCKS)
def test_record_comes_back_as_it_was(lock: Lock) -> None:
    """
    Any record, stored whole: every attribute has its value.
    """
    assert decode_lock(stored(lock)) == lock


@given(LOCKS, CHANGES)
def test_difference_makes_the_record(before: Lock, changes: dict[str, Any]) -> None:
    """
    What is written of a change, and deleted, on top of what is stored: the record after it; and nothing else is written.
    """
    changes = fitting(changes, before)
    after = before.but(**changes)
    document, written = stored(before), ValueType()
    changed, stamped = encode_lock(written, after, before)

    inner = document.fields["lock"].map_value.fields
    for name in changed:
        if name in written.map_value.fields:
            inner[name].CopyFrom(written.map_value.fields[name])
        else:
            inner.pop(name, None)
    assert decode_lock(document) == after
    assert stamped == ()
    assert set(changed) == {STORED_NAMES[name] for name in changes if getattr(before, name) != getattr(after, name)}


def test_value_that_equals_its_default_is_not_stored() -> None:
    """
    It is deleted: a missing field has its default.
    """
    usual = DEFAULTS["lease_seconds"]
    lock = Lock(env="E", sequence=1, status=Status.SCHEDULED, lease_seconds=usual / 2)
    written = ValueType()
    changed, _ = encode_lock(written, lock.but(lease_seconds=float(repr(usual))), lock)
    assert changed == ("leaseSeconds",)
    assert "leaseSeconds" not in written.map_value.fields


def test_write_that_is_stamped_alone_has_a_mask() -> None:
    """
    A refresh writes nothing but the server's time: without a mask it would replace the whole document by nothing.
    """
    lock = Lock(env="E", sequence=1, status=Status.LEASED, leased_at=datetime(2026, 1, 1, tzinfo=UTC))
    before = Snapshot("locks/a", DocumentType().update_time, stored(lock), lock)
    write = Update(WriteType(), before, lock.but(leased_at=SERVER_TIME), NO_CHANGES).message

    assert write.HasField("update_mask")
    assert list(write.update_mask.field_paths) == []
    assert [transform.field_path for transform in write.update_transforms] == ["lock.leasedAt"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sequence", "one", r"sequence: it is 'one'"),
        ("sequence", 1.0, r"sequence: it is 1\.0"),
        ("env", 7, r"env: it is 7"),
        ("status", "asleep", r"status: 'asleep' is not a valid Status"),
        ("leasedAt", "noon", r"leasedAt: it is 'noon'"),
        ("leaseSeconds", "long", r"leaseSeconds: it is 'long'"),
        ("errors", "many", r"errors: "),
    ],
)
def test_foreign_record_is_named(name: str, value: Any, said: str) -> None:
    """
    A field of another type, in a map that is called lock: the error says which, and what is there.
    """
    document = stored(Lock(env="E", sequence=1, status=Status.SCHEDULED))
    document.fields["lock"].map_value.fields[name].Clear()
    put(document.fields["lock"].map_value.fields[name], value)

    with pytest.raises(DamagedError, match=said):
        decode_lock(document)


@pytest.mark.parametrize("name", REQUIRED)
def test_record_without_what_it_must_have_is_none_of_ours(name: str) -> None:
    """
    A map without environment, sequence or status is somebody else's.
    """
    document = stored(Lock(env="E", sequence=1, status=Status.SCHEDULED))
    del document.fields["lock"].map_value.fields[name]

    with pytest.raises(DamagedError, match=f"{name}: it is missing"):
        decode_lock(document)
