"""
The verbs of people: which sort of record has which, as its page prints it, and how a document is recognised.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gcp_oncetask.rules.named import UNLIMITED
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.verbs import VERBS, Record, Sort, record_of, refusal_of
from tests.support.verbs import TABLE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATES = [
    Lock(env="E", sequence=1, status=status, lease_seconds=length, **more)  # type: ignore[arg-type]  # a table
    for status in Status
    for length in (60.0, UNLIMITED)
    for more in ({}, {"holder": "onceTasks/00:E:k:1", "instance": "vm/1", "granted_at": NOW, "leased_at": NOW})
    if more or status is not Status.LEASED
]


def test_the_readme_has_the_rules_table() -> None:
    """
    Rows and columns of the page's table are the verbs and sorts of the code, in order, cell by cell.
    """
    assert {verb: {sort: sort in having for sort in Sort} for verb, having in VERBS.items()} == TABLE


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_had_or_refused_with_a_way_out(verb: str, sort: Sort) -> None:
    """
    In whatever state the record is, a refusal names the document, its sort and the verb, and says more than no.
    """
    for lock in STATES:
        refused = refusal_of(verb, Record("onceLocks/x", sort, name="graph", key="7"), lock)
        if TABLE[verb][sort]:
            assert refused is None
            continue
        assert refused is not None
        told = refused.reason
        words = "@once function graph" if sort is Sort.ONCE_KEY else str(sort)
        assert told.startswith("onceLocks/x is ")
        assert words in told
        assert f"which has no {verb}. " in told
        assert told.endswith(" Nothing was written.")
        assert len(told.split(f"which has no {verb}. ")[1]) > 60, told


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ({"lease_seconds": 60.0, "leased_at": NOW}, "its ttl ends at 2026-03-01T12:01:00.000000Z"),
        ({"lease_seconds": UNLIMITED, "leased_at": NOW}, "it has no ttl and ends with its release alone"),
        ({"status": Status.SCHEDULED}, "It has no holder"),
    ],
)
def test_a_named_lock_tells_until_when_it_is_held(lock: dict[str, Any], words: str) -> None:
    """
    The end is that of the ttl by the server's clock; one without a ttl has none, a free one needs nothing.
    """
    values = {"env": "E", "sequence": 1, "status": Status.LEASED, "granted_at": NOW, "run_limit_seconds": UNLIMITED}
    refused = refusal_of("cancel", Record("onceLocks/x", Sort.NAMED_LOCK, name="g"), Lock.of({**values, **lock}))

    assert refused is not None
    assert words in refused.reason


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (Record("onceLocks/x", Sort.NAMED_LOCK, name="graph"), "locks release graph"),
        (Record("onceLocks/x", Sort.NAMED_LOCK, name="it's $HOME"), "locks release 'it'\"'\"'s $HOME'"),
        (Record("onceLocks/x", Sort.NAMED_LOCK, name="--yes"), "locks release -- --yes"),
        (Record("a/b c/l/x", Sort.NAMED_LOCK, name="g"), "locks release --collection 'a/b c/l' g"),
        (Record("onceLocks/x", Sort.NAMED_LOCK, name="a\nb"), "locks release NAME"),
        (Record("onceLocks/x", Sort.NAMED_LOCK, name="x" * 501), "locks release NAME"),
        (Record("onceLocks/x", Sort.NAMED_LOCK), "locks release NAME"),
        (Record("onceLocks/x", Sort.ONCE_KEY, name="f", key="a b"), "once forget f 'a b'"),
        (Record("onceLocks/x", Sort.ONCE_KEY, name="f"), "once forget f"),
        (Record("onceLocks/x", Sort.ONCE_KEY, name="f", key="\x1b"), "once forget f KEY"),
    ],
)
def test_a_refusal_names_the_command_that_is_meant(record: Record, command: str) -> None:
    """
    As a shell reads it; a name that can't be shown as it is stays to be filled in.
    """
    status = Status.LEASED if record.sort is Sort.NAMED_LOCK else Status.COMPLETED
    lock = Lock.of(
        {
            "env": "E",
            "sequence": 1,
            "status": status,
            "granted_at": NOW,
            "leased_at": NOW,
            "run_limit_seconds": UNLIMITED,
        }
    )
    refused = refusal_of("cancel", record, lock)

    assert refused is not None
    assert f" (python -m gcp_oncetask {command}). Nothing was written." in refused.reason


@pytest.mark.parametrize(
    ("path", "lock", "fields", "sort"),
    [
        ("orders/42", {"scheduled_by": "n"}, {}, Sort.CHAIN),
        ("orders/42", {}, {"name": "x", "recurrence": {}}, Sort.CHAIN),
        ("orders/00:E:lock:x", {"scheduled_by": "n"}, {"name": "x"}, Sort.CHAIN),
        ("orders/00:E:locks:x", {}, {"name": "x"}, Sort.CHAIN),
        ("onceLocks/anything", {}, {}, Sort.CHAIN),
        ("onceTasks/00:E:key:x", {"scheduled_by": "n"}, {}, Sort.ONCE_TASK),
        ("onceTasks/00:E:key:x", {"scheduled_by": "n"}, {"recurrence": {}}, Sort.RECURRING),
        ("onceLocks/0f:E-1_x:lock:a%3Ab", {}, {"name": "a:b"}, Sort.NAMED_LOCK),
        ("customers/7/locks/0f:E:lock:x", {}, {"name": "x"}, Sort.NAMED_LOCK),
        ("onceLocks/0f:E:once:f:k", {}, {"name": "f", "key": "k"}, Sort.ONCE_KEY),
        ("mine/0f:E:once:sha256=00", {}, {"name": "f", "key": None}, Sort.ONCE_KEY),
        ("onceLocks/0f:E:key:a b\n", {"scheduled_by": "n"}, {"key": "a b\n"}, Sort.RESOURCE_KEY),
        ("onceLocks/0f:E:key:x", None, {}, Sort.RESOURCE_KEY),
    ],
)
def test_a_document_is_recognised(path: str, lock: dict[str, Any] | None, fields: dict[str, Any], sort: Sort) -> None:
    """
    By its path and fields; what was ever scheduled in a collection of the user's is a chain, however odd its id.
    """
    record = record_of(path, None if lock is None else Lock(env="E", sequence=1, status=Status.LEASED, **lock), fields)

    assert record.sort is sort
    expected = fields.get("key") if sort is Sort.RESOURCE_KEY else fields.get("name")
    assert record.name == (expected if sort in (Sort.NAMED_LOCK, Sort.ONCE_KEY, Sort.RESOURCE_KEY) else None)
