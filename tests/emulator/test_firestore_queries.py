"""
Filters and aggregations by example, on both servers; what they cost, on the embedded one.
"""

from __future__ import annotations

import grpc
import pytest

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def fruit(firestore_wire):
    """
    Five documents with a number, a colour, tags, and holes.
    """
    w = firestore_wire
    w.commit(
        w.write("f/a", {"n": 1, "c": "red", "t": ["x", "y"]}),
        w.write("f/b", {"n": 2.5, "c": "green", "t": ["y"]}),
        w.write("f/c", {"n": None, "c": "red", "t": []}),
        w.write("f/d", {"n": float("nan"), "c": "blue"}),
        w.write("f/e", {"c": "blue", "t": "x"}),
    )
    return w


@pytest.mark.parametrize(
    ("field", "operator", "operand", "ids"),
    [
        ("n", "NOT_EQUAL", 1, "db"),
        ("n", "IN", [1, 2.5, 7], "ab"),
        ("n", "NOT_IN", [1, 7], "db"),
        ("n", "NOT_IN", [None], ""),
        ("n", "IN", [None, 1], "a"),
        ("t", "ARRAY_CONTAINS", "y", "ab"),
        ("t", "ARRAY_CONTAINS_ANY", ["x", "z"], "a"),
        ("c", "NOT_EQUAL", "red", "deb"),
    ],
)
def test_operators(fruit, field, operator, operand, ids):
    """Null is unequal to nothing, NaN to everything but itself, and inequalities order by their field."""
    assert "".join(fruit.ids("f", where=fruit.filter(field, operator, operand))) == ids


@pytest.mark.parametrize(
    ("operator", "ids"), [("IS_NULL", "c"), ("IS_NAN", "d"), ("IS_NOT_NULL", "dab"), ("IS_NOT_NAN", "ab")]
)
def test_unary_operators(fruit, operator, ids):
    """Each of the four; a missing field matches none of them."""
    assert "".join(fruit.ids("f", where=fruit.unary("n", operator))) == ids


def test_either_of_several(fruit):
    """OR gives each document once, in the query's order, with limit and offset over the whole."""
    w = fruit
    either = w.both(w.filter("c", "EQUAL", "red"), w.filter("t", "ARRAY_CONTAINS", "y"), w.filter("n", "EQUAL", 1))
    either.composite_filter.op = 2
    assert w.ids("f", where=either) == ["a", "b", "c"]
    assert w.ids("f", where=either, order_by=w.order("-__name__"), limit={"value": 2}) == ["c", "b"]
    assert w.ids("f", where=either, offset=1) == ["b", "c"]


def test_inequalities_on_several_fields(fruit):
    """They order by the explicit orders first, then by their own fields."""
    w = fruit
    two = w.both(w.filter("n", "GREATER_THAN", 0), w.filter("c", "GREATER_THAN", "a"))
    assert w.ids("f", where=two) == ["b", "a"]
    assert w.ids("f", where=two, order_by=w.order("n")) == ["a", "b"]


@pytest.mark.parametrize(
    ("operator", "operand"),
    [("IN", []), ("IN", 1), ("NOT_IN", list(range(11))), ("IN", list(range(31))), ("ARRAY_CONTAINS_ANY", [])],
)
def test_wrong_operands(fruit, operator, operand):
    """Empty, too long, or no list at all: INVALID_ARGUMENT."""
    assert fruit.outcome(fruit.query, "f", where=fruit.filter("n", operator, operand)) == INVALID


def test_two_negations_are_refused(fruit):
    """One of != , not-in, is-not-null, is-not-nan per query."""
    w = fruit
    two = w.both(w.filter("n", "NOT_EQUAL", 1), w.unary("c", "IS_NOT_NULL"))
    assert w.outcome(w.query, "f", where=two) == INVALID


def test_numbers(fruit):
    """Sums and averages leave out what is no number; NaN spoils them; nothing to average is null."""
    w = fruit
    n = {"field": {"field_path": "n"}}
    found = w.aggregate(
        "f", {"alias": "s", "sum": n}, {"alias": "a", "avg": n}, where=w.filter("c", "IN", ["red", "green"])
    )
    assert (found["s"], found["a"]) == (w.value(3.5), w.value(1.75))
    whole = w.aggregate("f", {"alias": "s", "sum": n}, where=w.filter("c", "EQUAL", "red"))
    assert whole["s"] == w.value(1)
    spoilt = w.aggregate("f", {"alias": "s", "sum": n})
    assert spoilt["s"].double_value != spoilt["s"].double_value
    nothing = w.aggregate("f", {"alias": "a", "avg": n}, where=w.filter("c", "EQUAL", "none"))
    assert nothing["a"] == w.value(None)


def test_sum_under_a_limit_needs_an_order(firestore_embedded, firestore_wire_to, firestore_project):
    """Which documents a limit leaves is documented only with an order: without one the embedded server refuses."""
    with grpc.insecure_channel(firestore_embedded.address) as channel:
        w = firestore_wire_to(channel, firestore_project)
        total = {"alias": "s", "sum": {"field": {"field_path": "n"}}}
        code = w.outcome(w.aggregate, "f", total, limit={"value": 1})
        assert code == grpc.StatusCode.UNIMPLEMENTED
        assert w.aggregate("f", total, limit={"value": 1}, order_by=w.order("n"))["s"] == w.value(0)


def test_large_sums_become_doubles(firestore_wire):
    """Beyond 64 bits a sum of whole numbers is a double."""
    w = firestore_wire
    w.commit(*[w.write(f"g/{name}", {"n": 2**62}) for name in "abc"])
    found = w.aggregate("g", {"alias": "s", "sum": {"field": {"field_path": "n"}}})
    assert found["s"] == w.value(3.0 * 2**62)


def test_queries_look_at_little_more_than_they_return():
    """Indexes, not scans: of 5,000 documents a limited query examines about as many as its limit."""
    server = FirestoreServer()
    client = firestore_client(InProcessChannel([server.service]), "p")
    things = client.collection("things")
    batch = client.batch()
    for number in range(5000):
        batch.set(things.document(f"d{number:05d}"), {"k": number % 10, "t": [number % 7, "all"], "n": number})
        if number % 500 == 499:
            batch.commit()
            batch = client.batch()
    queries = {
        "in": things.where(filter=_field("k", "in", [1, 2, 3])).limit(10),
        "array-contains": things.where(filter=_field("t", "array_contains", "all")).limit(10),
        "not-equal": things.where(filter=_field("n", "!=", 17)).limit(10),
        "range": things.where(filter=_field("n", ">", 4000)).order_by("n", direction="DESCENDING").limit(10),
    }
    for name, query in queries.items():
        list(query.stream())
        before = server.examined
        assert len(list(query.stream())) == 10, name
        assert server.examined - before <= (30 if name == "in" else 12), (name, server.examined - before)


def _field(path, operator, value):
    from google.cloud.firestore import FieldFilter

    return FieldFilter(path, operator, value)
