"""
Python values as Firestore stores and returns them, and the sentences about values that it can't hold.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import grpc
import pytest
from google.cloud.firestore import GeoPoint
from google.rpc.status_pb2 import Status as RpcStatus
from pydantic import BaseModel

from gcp_emulator.testing import InProcessCloud
from gcp_oncetask.errors import ContentionError, StoreError, UsageError
from gcp_oncetask.rules.record import Event, PendingAlert, Status
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store import readers
from gcp_oncetask.store.codec import DocumentType, ValueType, as_loaded, decode, encode, pack, put, unpack
from gcp_oncetask.store.failures import WireError, gave_up, out_of_time, status_error
from gcp_oncetask.store.fields import encode_fields
from gcp_oncetask.store.lock_codec import decode_lock

HALF = "half \ud800"
NOON = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
EARLIEST, LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class Colour(Enum):
    RED = "red"
    TWO = 2


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Inner(BaseModel):
    name: str
    price: Decimal


class Unwilling:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


STORED: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (False, False),
    (0, 0),
    (7, 7),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (1.5, 1.5),
    ("", ""),
    ("text", "text"),
    (Text("text"), "text"),
    (b"bytes", b"bytes"),
    (NOON, NOON.astimezone(UTC)),
    (datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 12, tzinfo=UTC)),
    (EARLIEST, EARLIEST),
    (LATEST, LATEST),
    (date(2026, 7, 1), "2026-07-01"),
    (Decimal("1.50"), "1.50"),
    (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    (Colour.RED, "red"),
    (Colour.TWO, 2),
    (Word.YES, "yes"),
    (Level.HIGH, 3),
    (Status.LEASED, "leased"),
    ([1, "a", None], [1, "a", None]),
    ((1, 2), [1, 2]),
    ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
    (OrderedDict(b=1), {"b": 1}),
    ({}, {}),
    ([], []),
    (Inner(name="x", price=Decimal(2)), {"name": "x", "price": "2"}),
    (GeoPoint(1.5, -2.5), GeoPoint(1.5, -2.5)),
]


@pytest.mark.parametrize(("value", "loaded"), STORED, ids=lambda value: type(value).__name__)
def test_value_comes_back_as_the_table_says(value: Any, loaded: Any) -> None:
    """
    Without the messages too, and after it was packed for a log line.
    """
    for found in (decode(encode(value)), as_loaded(value), decode(unpack(pack(encode(value))))):
        assert found == loaded
        assert type(found) is type(loaded)


def test_time_without_a_zone_is_one_in_utc_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = as_loaded(datetime(2026, 7, 1, 12)), decode(encode(datetime(2026, 7, 1, 12)))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == (datetime(2026, 7, 1, 12, tzinfo=UTC),) * 2


def test_null_is_the_one_that_firestore_knows() -> None:
    stored = encode(None)
    assert (stored.WhichOneof("value_type"), stored.null_value) == ("null_value", 0)


@pytest.mark.parametrize("value", [{3, 1, 2}, frozenset({1, 2, 3})])
def test_sets_are_stored_in_one_order(value: Any) -> None:
    assert decode(encode(value)) == sorted(decode(encode({2, 3, 1})), key=lambda n: encode(n).SerializeToString())
    assert sorted(as_loaded(value)) == [1, 2, 3]
    assert encode({"b" * n for n in range(20)}) == encode({"b" * n for n in reversed(range(20))})


def test_reference_comes_back_by_its_maker_or_as_its_name() -> None:
    reference = InProcessCloud().firestore_client().document("orders/1")
    stored = encode(reference)
    name = stored.reference_value
    assert name.endswith("/documents/orders/1")
    assert decode(stored) == name
    assert decode(encode({"a": [reference]}), lambda found: ("made", found)) == {"a": [("made", name)]}
    assert as_loaded(reference) is reference


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (HALF, r"The text 'half \\ud800' holds half a surrogate pair; Firestore can't store it\."),
        (Text(HALF), "half a surrogate pair"),
        ({"a": HALF}, "half a surrogate pair"),
        ({HALF: 1}, r"The map key 'half \\ud800' holds half a surrogate pair"),
        ({1: "a"}, r"Map keys must be texts; 1 is not\."),
        (2**63, r"9223372036854775808 does not fit into 64 bits; store it as a text\."),
        (-(2**63) - 1, "does not fit into 64 bits"),
        (Unwilling(), "Firestore can't hold Unwilling values: "),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "is not in the years 1 to 9999 in UTC"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "is not in the years 1 to 9999 in UTC"),
    ],
)
def test_value_that_firestore_can_not_hold_is_refused(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        encode(value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "outside of the calendar in UTC"),
        (Unwilling(), "Firestore can't hold Unwilling values: "),
    ],
)
def test_value_that_could_not_be_loaded_is_refused(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        as_loaded([value])


@pytest.mark.parametrize("text", ["nonsense", "!!!!", "YWJj", "gA=="])
def test_text_that_was_not_packed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"packed|base64|character|padding|multiple"):
        unpack(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 70, repr("x" * 60)),
        ({"a": 1}, "a map"),
        ([1], "a list"),
        (b"x", "bytes"),
        (None, "null"),
        (7, "7"),
        (True, "True"),
        (1.5, "1.5"),
    ],
)
def test_damaged_value_is_shown_briefly(value: Any, shown: str) -> None:
    assert readers.shown(encode(value)) == shown
    assert readers.shown(ValueType()) == "null"


def test_alert_with_a_digest_is_stored_with_it() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for digest in (None, "d1"):
        owed = PendingAlert("1-1-failure", Event.FAILURE, at, at, 1, 1, "no", 2, ("line",), digest)
        document = DocumentType()
        put(document.fields["lock"], {"env": "E", "sequence": 1, "status": "failed", "owed": [owed]})
        lock = decode_lock(document)
        assert lock is not None
        assert lock.owed == (owed,)
        stored = document.fields["lock"].map_value.fields["owed"].array_value.values[0].map_value.fields
        assert ("digest" in stored) is (digest is not None)


# --- fields -----------------------------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    found: Any = "end"
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (HALF, r"^name of Order can't be stored: 'half .*' holds half a surrogate pair\.$"),
        ({"a": [1, HALF]}, r"^name\.a\[1\] of Order can't be stored: "),
        ({"a": {HALF: 1}}, r"^a key of name\.a of Order can't be stored: "),
        ((1, {"b": HALF}), r"^name\[1\]\.b of Order can't be stored: "),
        ({"a": 2**63}, r"^name\.a of Order can't be stored: 9223372036854775808 does not fit into 64 bits"),
        (Unwilling(), r"^name of Order can't be stored: Firestore can't hold Unwilling values: "),
        (deep(100_000), r"of Order can't be stored: it is nested too deeply, or holds itself\."),
    ],
)
def test_place_that_can_not_be_stored_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        encode_fields({"fine": 1, "name": value}, "Order")


def test_fields_are_encoded_by_name() -> None:
    assert encode_fields({"a": 1, "b": [None, "x"]}, "Order") == {"a": encode(1), "b": encode([None, "x"])}


# --- failures ---------------------------------------------------------------------------------------------------------

REFUSED, AMBIGUOUS, CONTENTION = FailureClass.REFUSED, FailureClass.AMBIGUOUS, FailureClass.CONTENTION
DENIED, INVALID = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("failure", "code", "unknown", "final", "contents", "sentence"),
    [
        (
            REFUSED,
            DENIED,
            False,
            True,
            False,
            "Firestore: writing x failed with PERMISSION_DENIED: no. Grant this service account roles/datastore.user.",
        ),
        (REFUSED, INVALID, False, True, True, "Firestore: writing x failed with INVALID_ARGUMENT: no."),
        (
            REFUSED,
            INVALID,
            True,
            False,
            False,
            "Firestore: writing x failed with INVALID_ARGUMENT: no. It may still be applied.",
        ),
        (AMBIGUOUS, INVALID, False, False, False, "Firestore: writing x failed with INVALID_ARGUMENT: no."),
    ],
)
def test_error_of_a_call_says_whether_it_may_be_applied(
    failure: FailureClass, code: grpc.StatusCode, unknown: bool, final: bool, contents: bool, sentence: str
) -> None:
    error = WireError(failure, code, "no")
    made = error.translated("writing x", unknown=unknown)
    assert (str(made), made.__cause__) == (sentence, error)
    assert made.facts == {"unknown": unknown, "final": final, "contents": contents, "code": code}


@pytest.mark.parametrize(
    ("failure", "unsure", "kind"),
    [
        (CONTENTION, False, ContentionError),
        (CONTENTION, True, StoreError),
        (AMBIGUOUS, False, StoreError),
        (AMBIGUOUS, True, StoreError),
    ],
)
def test_end_of_patience(failure: FailureClass, unsure: bool, kind: type[Exception]) -> None:
    found = gave_up("orders/1", WireError(failure, DENIED, "no"), 30.0, unsure=unsure)
    assert type(found) is kind
    assert "orders/1" in str(found)
    if kind is StoreError:
        assert getattr(found, "facts")["unknown"] is unsure  # noqa: B009 - the type is that of any error


@pytest.mark.parametrize(
    ("code", "message", "failure", "name", "told"),
    [
        (9, "it has moved", FailureClass.MOVED, "FAILED_PRECONDITION", "it has moved"),
        (13, "", AMBIGUOUS, "INTERNAL", "INTERNAL"),
        (10, "busy", CONTENTION, "ABORTED", "busy"),
        (99, "", AMBIGUOUS, "UNKNOWN", "UNKNOWN"),
    ],
)
def test_status_of_one_write(code: int, message: str, failure: FailureClass, name: str, told: str) -> None:
    error = status_error(RpcStatus(code=code, message=message))
    assert (error.failure, error.code.name, error.message, str(error)) == (failure, name, told, told)


def test_caller_that_waits_in_vain() -> None:
    error = out_of_time(CONTENTION, "too late")
    assert (error.failure, error.code, error.message) == (CONTENTION, grpc.StatusCode.DEADLINE_EXCEEDED, "too late")
