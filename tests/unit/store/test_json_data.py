"""
Results and parameters: what Firestore can hold, what JSON alone can say, what neither can; against the local Firestore.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_serializer

from gcp_emulator.testing import InProcessCloud
from gcp_oncetask.checks.values import storable_text
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import NO_RESULT, Lock, Note, Result, Status
from gcp_oncetask.store.codec import DocumentType, encode
from gcp_oncetask.store.json_data import MAX_RESULT, check_fields, given_result, parameters, result
from gcp_oncetask.store.lock_codec import decode_lock, encode_lock

CLIENT = InProcessCloud().firestore_client()


def nested(levels: int) -> Any:
    """
    So many maps in each other.
    """
    return {"a": nested(levels - 1)} if levels else 1


def accepted(value: Any) -> bool:
    """
    Whether the local Firestore stores *value* as a record's result.
    """
    from google.cloud.firestore_v1.types import Document, Write

    document = Document.pb()(name=f"projects/demo-local/databases/(default)/documents/c/{id(value)}")
    document.fields["lock"].map_value.fields["result"].CopyFrom(encode(value))
    api = CLIENT._firestore_api
    try:
        api.commit(request={"database": CLIENT._database_string, "writes": [Write(update=Document.wrap(document))]})
    except InvalidArgument:
        return False
    return True


class Told(BaseModel):
    """
    A model whose field is written by code of the user's.
    """

    amount: int

    @field_serializer("amount")
    def _amount(self, amount: int) -> int:
        if amount < 0:
            raise ZeroDivisionError("no such amount")
        return amount


BOTH = [
    None,
    True,
    0,
    2**63 - 1,
    -(2**63),
    1.5,
    "",
    "text\0",
    [],
    {},
    [1, "a", None],
    {"a": [{"b": [1]}]},
    {"_": 1, "__": 2, "__a": 3, "a__": 4, "a.b`": 5},
    {"x" * 1400: 1},
    nested(19),
]
ONLY_JSON = [
    {"rows": [[1, 2], [3, 4]]},
    [[]],
    {"": 1},
    {"__sum__": 3},
    {"a": {"____": 1}},
    2**63,
    -(2**63) - 1,
    {"x" * 1501: 1},
    {"x" * 800: {"y" * 800: 1}},
    nested(20),
    "\ud800",
    {"\ud800": 1},
]
NEITHER = [object(), "x" * MAX_RESULT, {1: object()}, Told(amount=-1), lambda: 1, b"\xff", [Told(amount=-1)]]


@pytest.mark.parametrize("value", BOTH)
def test_what_firestore_holds_is_stored_as_it_is(value: Any) -> None:
    """
    As data; and Firestore takes it.
    """
    assert result(value) == Result(value)
    assert parameters(value) == value
    assert accepted(value)


@pytest.mark.parametrize("value", ONLY_JSON)
def test_what_only_json_says_is_stored_as_text(value: Any) -> None:
    """
    Firestore refuses it. The text says the same. As parameters it is refused by their name, before anything is written.
    """
    made = result(value)
    assert (made.value, made.lost, made.data()) == (None, None, value)
    with pytest.raises(UsageError, match=r"^params can't be stored: "):
        parameters(value)
    # Of some the client itself can't make a message.
    with contextlib.suppress(UsageError):
        assert not accepted(value)


@pytest.mark.parametrize("value", NEITHER)
def test_what_neither_can_is_lost_with_its_reason(value: Any) -> None:
    """
    A reason, and never an error: the run is over. Where somebody states a result, an error before anything is written.
    """
    made = result(value)
    assert (made.value, made.text) == (None, None)
    assert made.lost
    with pytest.raises(UsageError, match=r"^result can't be stored: "):
        given_result(value)


def test_models_and_dates_are_stored_as_json() -> None:
    """
    As ever: the JSON form of what is no JSON data itself.
    """
    assert result(Told(amount=3)) == Result({"amount": 3})
    assert result({"at": datetime(2026, 1, 1, tzinfo=UTC), "d": Decimal("1.0")}) == Result(
        {"at": "2026-01-01T00:00:00Z", "d": "1.0"}
    )


class Tagged(BaseModel):
    tags: set[str] = Field(alias="labels")


def test_result_is_stored_by_the_names_of_its_fields_and_sets_in_order() -> None:
    tags = {f"tag {number}" for number in range(30)}
    assert result(Tagged(labels=tags)) == Result({"tags": sorted(tags)})


KEYS = st.text(max_size=3) | st.sampled_from(["__x__", "", "____", "__", "a" * 1480, "b" * 700])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**66), 2**66) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_any_json_data_comes_back(value: Any) -> None:
    """
    As data exactly where Firestore takes it, else as text; through a stored record and back.
    """
    made = result(value)
    assert made.lost is None
    if made.text is None:
        assert accepted(value)
    else:
        with pytest.raises((UsageError, AssertionError)):
            assert accepted(value)
    lock = Lock(env="E", sequence=2, token=7, status=Status.COMPLETED, result=made.value)
    stored = lock.but(result_json=lock.note(made.text))
    document = DocumentType()
    encode_lock(document.fields["lock"], stored)
    found = decode_lock(DocumentType.FromString(document.SerializeToString()))
    assert found is not None
    assert json.dumps(found.returned.data(), sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(("sequence", "token"), [(1, 7), (2, 6), (3, 7)])
def test_what_an_older_process_left_is_as_if_absent(sequence: int, token: int) -> None:
    """
    An older process goes on with the record and clears no field that it does not know.
    """
    lock = Lock(env="E", sequence=2, token=7, status=Status.COMPLETED, result=5)
    left = lock.but(result_json=Note(sequence, token, "[[1]]"), result_lost=Note(sequence, token, "why"))
    assert left.returned == Result(5)
    assert lock.returned == Result(5)
    assert NO_RESULT.data() is None


def test_text_of_an_error_is_always_storable() -> None:
    """
    Halves of surrogate pairs are replaced; the rest stays.
    """
    assert storable_text("a\ud800b \U0001f600") == "a?b \U0001f600"


LONG = "k" * (1500 - len("lock.result."))


@pytest.mark.parametrize(
    "value",
    [None, {LONG: 1}, {"a" * 700: {"b" * (1500 - len("lock.result.") - 701): 1}}, nested(19), {"a": [1, {"b": 2}]}],
)
def test_data_at_the_limits_of_firestore_is_stored(value: Any) -> None:
    assert parameters(value) == value
    assert result(value) == Result(value)
    assert given_result(value) == Result(value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({f"{LONG}k": 1}, r"^params can't be stored: the path of the key k{60}\.\.\. has more than 1500 bytes\.$"),
        ({"a": {f"{LONG}k": 1}}, r"the path of the key k{60}\.\.\. in a has more than 1500 bytes\.$"),
        ({"a" * 700: {"b" * (1500 - len("lock.result.") - 700): 1}}, "has more than 1500 bytes"),
        (nested(20), r"^params can't be stored: it is nested more than 19 levels deep\.$"),
        ({"a": {"": 1}}, r"a map in a has an empty key\.$"),
        ({"": 1}, r"a map has an empty key\.$"),
        ({"__a__": 1}, r"the key __a__ is reserved"),
        ({"a": [{"__b__": 1}]}, r"the key __b__ in a\[0\] is reserved"),
        ({"a": [1, [2]]}, r"a\[1\] is a list in a list; put a map between them\.$"),
        ({"a": {"b": 2**63}}, r"a\.b has more than 64 bits; hand it over as a text\.$"),
        (-(2**63) - 1, r"the number has more than 64 bits"),
        ("x" * MAX_RESULT, rf"it has {MAX_RESULT + 2} bytes as JSON; at most {MAX_RESULT} are kept"),
        (object(), r"a object is no JSON data \("),
    ],
)
def test_data_beyond_the_limits_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parameters(value)


def test_longest_text_is_stored() -> None:
    value = "x" * (MAX_RESULT - 2)
    assert parameters(value) == value
    assert result(value) == Result(value)
    lost = result(f"{value}x")
    assert (lost.value, lost.text) == (None, None)
    assert str(lost.lost).startswith(f"it has {MAX_RESULT + 1} bytes as JSON")


@pytest.mark.parametrize("value", [nested(20), {"a": [[1]]}, {f"{LONG}k": 1}, {"a": 2**63}])
def test_result_that_firestore_can_not_hold_is_kept_as_text(value: Any) -> None:
    assert result(value) == Result(text=json.dumps(value, separators=(",", ":")))


class Priced(BaseModel):
    name: str
    price: Decimal
    tags: set[str] = set()


def test_model_is_stored_by_the_names_of_its_fields() -> None:
    model = Priced(name="a", price=Decimal("1.50"), tags={"c", "b", "a"})
    assert parameters(model) == {"name": "a", "price": "1.50", "tags": ["a", "b", "c"]}
    assert parameters({"set": {"c", "b"}}) == {"set": ["b", "c"]}


@pytest.mark.parametrize("inside", ["", "data"])
def test_fields_are_checked_by_their_place_in_the_document(inside: str) -> None:
    """
    Fields of a document may be nested a level deeper, and have longer names, than those of a map in it.
    """
    inner = len(inside) + 1 if inside else 0
    fits = {"n" * (1500 - inner): 1, "deep": nested(19 if inside else 20)}
    check_fields(fits, "Order", inside)
    for wrong in ({"n" * (1501 - inner): 1}, {"deep": nested(20 if inside else 21)}, {"a": {"b": 2**63}}, {"": 1}):
        with pytest.raises(UsageError, match=r"^Order can't be stored: "):
            check_fields(wrong, "Order", inside)
    with pytest.raises(UsageError, match=r"^Order can't be stored: a\.b has more than 64 bits"):
        check_fields({"a": {"b": 2**63}}, "Order", inside)
    with pytest.raises(UsageError, match=r"a map has keys of int; declare them as texts\.$"):
        check_fields({1: 1}, "Order", inside)  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"a map in a has keys of int; declare them as texts\.$"):
        check_fields({"a": {1: 1}}, "Order", inside)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("half \ud800", "^params can't be stored: the text "),
        ({"a": "half \ud800"}, "^params can't be stored: a "),
        ({"a": {"b": ["half \ud800"]}}, r"^params can't be stored: a\.b\[0\] "),
    ],
)
def test_text_that_firestore_can_not_hold_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parameters(value)


def test_lists_count_as_levels() -> None:
    """
    Maps and lists in turn, each a level.
    """

    def turns(levels: int) -> Any:
        return 1 if not levels else {"a": turns(levels - 1)} if levels % 2 else [turns(levels - 1)]

    assert parameters(turns(19)) == turns(19)
    with pytest.raises(UsageError, match="nested more than 19 levels deep"):
        parameters(turns(20))
