"""
Sizes of documents as Firestore counts them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud.firestore import GeoPoint
from google.cloud.firestore_v1.types import write as _write

from gcp_emulator.firestore.values import check_size, value_size
from gcp_oncetask import UsageError
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.codec import DocumentType, encode
from gcp_oncetask.store.sizes import ROOM, apply, check_room, needs_room, size_of
from gcp_oncetask.store.snapshot import Snapshot

NAME = "projects/p/databases/(default)/documents/"
WriteType = _write.Write.pb()


def document(**fields: Any) -> Any:
    made = DocumentType()
    for name, value in fields.items():
        made.fields[name].CopyFrom(encode(value))
    return made


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        0.5,
        "",
        "é" * 10,
        b"\x00\x01",
        datetime(2026, 1, 1, tzinfo=UTC),
        GeoPoint(0, 0),
        [],
        [0] * 50,
        ["", None, False],
        {},
        {"é": {"": "x", "deep": [{}, {"a": 1}]}},
    ],
)
def test_every_type_takes_what_the_local_firestore_counts(value: Any) -> None:
    """
    The local Firestore counts by code of its own, after the same page; its limits are compared with Google's emulator.
    """
    made = document(a=value)
    assert size_of("c/é", made.fields) == 16 + 2 + 3 + 32 + 2 + value_size(made.fields["a"])


def test_example_of_the_documentation() -> None:
    """
    The task of the page "Understand storage size calculations": 147 bytes of fields and of the document, and its name.
    """
    made = document(type="Personal", done=False, priority=1, description="Learn Cloud Firestore")
    assert size_of("users/jeff/tasks/my_task_id", made.fields) == 147


@pytest.mark.parametrize("value", [{}, "", 0, 0.0, None, False, GeoPoint(0, 0), {"a": {}}, {"": []}, b""])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_message_tells_how_large_a_document_can_be(value: Any, count: int) -> None:
    """
    It takes no more than eight times the room of the message that writes it: whatever is let pass by that is not too large.
    """
    for fields in ({"a": [value] * count}, {f"{n:x}": value for n in range(count)}):
        made = write(whole=True, **fields)
        assert size_of("c/a", made.update.fields) <= 8 * made.ByteSize()


def write(*mask: str, whole: bool = False, **fields: Any) -> Any:
    made = WriteType()
    made.update.name = NAME + "c/a"
    for name, value in fields.items():
        made.update.fields[name].CopyFrom(encode(value))
    if not whole:
        made.update_mask.SetInParent()
        made.update_mask.field_paths.extend(mask)
    return made


@pytest.mark.parametrize(
    ("written", "after"),
    [
        (write(whole=True, b=1), {"b": 1}),
        (write(), {"a": {"x": 1, "y": 2}, "c d": 3}),
        (write("b", b=1), {"a": {"x": 1, "y": 2}, "c d": 3, "b": 1}),
        (write("a.y", "`c d`", a={"y": 5}), {"a": {"x": 1, "y": 5}}),
        (write("a.x", "e.f"), {"a": {"y": 2}, "c d": 3, "e": {}}),
        (write("a.x", "a.z.q", a={"z": {"q": 1}}), {"a": {"y": 2, "z": {"q": 1}}, "c d": 3}),
        (WriteType(delete=NAME + "c/a"), {}),
        (WriteType(transform={"document": NAME + "c/a"}), {"a": {"x": 1, "y": 2}, "c d": 3}),
    ],
)
def test_what_a_write_leaves(written: Any, after: dict[str, Any]) -> None:
    """
    With and without a mask, names inside and at the top, a deletion.
    """
    made, sent = document(**{"a": {"x": 1, "y": 2}, "c d": 3}), written.SerializeToString(deterministic=True)
    apply(made, written)
    assert made == document(**after)
    assert written.SerializeToString(deterministic=True) == sent, "it is sent later, as it is"


def test_reference_takes_the_size_of_the_name_of_its_document() -> None:
    """
    The name below the database, as Firestore's documentation counts names: 16 bytes, and a byte more for each part.
    """
    made = document()
    made.fields["r"].reference_value = NAME + "orders/42"
    assert size_of("c/a", made.fields) == size_of("c/a", {}) + len("r") + 1 + 16 + len("orders") + 1 + len("42") + 1


def test_limit_is_to_the_byte_and_names_what_is_known() -> None:
    """
    896 KiB are taken, and one byte more is not; what a write replaces does not count.
    """
    fixed = size_of("c/a", document(a="", b="").fields)
    fits = Snapshot("c/a", None, document(a="x" * 500_000), None)
    check_room(fits, [write("b", b="y" * (ROOM - fixed - 500_000))])
    check_room(fits, [write("a", a="y" * (ROOM - fixed))])
    with pytest.raises(UsageError, match=r"917,505 bytes .* 917,504") as refused:
        check_room(fits, [write("b", b="y" * (ROOM - fixed - 500_000 + 1))])
    assert (refused.value.document, refused.value.size, refused.value.limit) == ("c/a", ROOM + 1, ROOM)
    check_size(document(a="x" * (ROOM - fixed)))


def test_what_schedules() -> None:
    """
    A new sequence that is to be run, and a newer payload; nothing else.
    """
    lock = Lock(env="E", sequence=3, status=Status.SCHEDULED)
    leased = lock.but(status=Status.LEASED)
    assert needs_room(None, lock)
    assert needs_room(leased, lock.but(sequence=4))
    assert needs_room(lock, lock.but(wanted_by="n"))
    assert needs_room(leased, leased.but(wanted_by="n"))
    assert not needs_room(leased, lock)
    assert not needs_room(None, lock.but(status=Status.COMPLETED))
    assert not needs_room(leased, leased.but(status=Status.FAILED))
