"""
Filters and aggregations by example, on both servers; what they cost, on the embedded one.
"""

from __future__ import annotations

import grpc
import pytest

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT


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


PLACES = ["a/1", "a/1/sub/x", "a/1/sub/x/sub/deep", "a/2/sub/y", "a!/1/sub/w", "b/z", "b/z/c/q", "ghost/g/s/1"]


@pytest.fixture
def places(firestore_wire):
    """
    Documents in several collections, at several depths.
    """
    w = firestore_wire
    w.commit(*[w.write(path, {"k": number}) for number, path in enumerate(PLACES)])
    return w


def everything(w, parent="", *, descendants=True, request=None, **query):
    """
    Paths found by a query without a collection id.
    """
    found = w.query("", group=descendants, parent=parent, request=request, **query)
    return [each.document.name.removeprefix(w.root + "/") for each in found if each.HasField("document")]


def reference(w, path):
    return w.pb("Value")(reference_value=w.name(path))


def test_everything_is_found_without_a_collection(places):
    """All descendants of the root or of a document, existing or not; or only what lies right below; by name."""
    w = places
    assert everything(w) == PLACES
    assert everything(w, limit={"value": 3}, offset=1) == PLACES[1:4]
    assert everything(w, "a/1") == PLACES[1:3]
    assert everything(w, "ghost/g") == ["ghost/g/s/1"]
    assert everything(w, descendants=False) == ["a/1", "b/z"]
    assert everything(w, "a/1", descendants=False) == ["a/1/sub/x"]
    request = w.pb("RunQueryRequest")(parent=w.root, structured_query={})
    assert len(w.call("RunQuery", request, w.pb("RunQueryResponse"), stream=True)) == 2
    assert w.count("", group=True) == len(PLACES)


def test_everything_between_names(places):
    """Filters and cursors by name, with the least numbered id as clients name a beginning; in the past as well."""
    w = places
    behind = w.filter("__name__", "GREATER_THAN_OR_EQUAL", reference(w, "a/2"))
    assert everything(w, where=behind) == PLACES[3:]
    assert everything(w, "a/1", where=w.filter("__name__", "GREATER_THAN", reference(w, "a/1/sub/x"))) == PLACES[2:3]
    assert everything(w, where=w.filter("__name__", "NOT_EQUAL", reference(w, "b/z"))) == PLACES[:5] + PLACES[6:]
    least = "__id-9223372036854775808__"
    start = {"before": True, "values": [reference(w, f"a/{least}")]}
    end = {"values": [reference(w, f"a\0/{least}")]}
    ordered = w.order("__name__")
    then = w.batch_get("b/z")[0].read_time
    w.commit(w.delete("a/1"), w.write("a/3", {"k": 1}), w.write("a/!", {"k": 1}))
    assert everything(w, order_by=ordered, start_at=start, end_at=end) == ["a/!", *PLACES[1:4], "a/3"]
    past = {"read_time": then}
    assert everything(w, order_by=ordered, start_at=start, end_at=end, request=past) == PLACES[:4]


def test_fields_need_a_collection(places):
    """Without a collection nothing but the name can be asked for, upwards; nor in a group below a document."""
    w = places
    for query in (
        {"where": w.filter("k", "EQUAL", 1)},
        {"order_by": w.order("k")},
        {"order_by": w.order("-__name__")},
        {"where": w.filter("__name__", "GREATER_THAN", reference(w, "a/1")), "order_by": w.order("-__name__")},
    ):
        assert w.outcome(everything, w, **query) == INVALID
        assert w.outcome(everything, w, "a/1", descendants=False, **query) == INVALID
    below = {"group": True, "parent": "a/1"}
    assert w.outcome(w.ids, "sub", where=w.filter("k", "EQUAL", 1), **below) == INVALID
    assert w.outcome(w.ids, "sub", order_by=w.order("k"), **below) == INVALID
    twice = w.query_message("a")
    twice.from_.add(collection_id="b")
    request = w.pb("RunQueryRequest")(parent=w.root, structured_query=twice)
    assert w.outcome(w.call, "RunQuery", request, w.pb("RunQueryResponse"), stream=True) == INVALID


def test_group_below_a_document_of_the_group(places):
    """The document that a group is asked for below is not below itself."""
    assert places.ids("sub", group=True, parent="a/1/sub/x") == ["a/1/sub/x/sub/deep"]


def test_cursors_without_values(places):
    """Nothing comes before all, and nothing behind."""
    w = places
    for name, before, found in (
        ("start_at", True, 1),
        ("start_at", False, 0),
        ("end_at", True, 0),
        ("end_at", False, 1),
    ):
        assert len(w.ids("b", order_by=w.order("k"), **{name: {"before": before}})) == found


def test_new_documents_anywhere_abort(firestore_embedded, firestore_wire_to, firestore_project):
    """A query of everything in a transaction sees phantoms in every collection."""
    with grpc.insecure_channel(firestore_embedded.address) as channel:
        w = firestore_wire_to(channel, firestore_project)
        for path, code in (("any/where", grpc.StatusCode.ABORTED), ("", OK)):
            transaction = w.begin()
            everything(w, request={"transaction": transaction})
            if path:
                w.commit(w.write(path, {"x": 1}))
            assert w.outcome(w.commit, w.write("c/a", {"x": 1}), transaction=transaction) == code


def test_client_s_recursive_calls(firestore_client):
    """``recursive()`` and ``recursive_delete()`` of the ordinary client, which ask without a collection."""
    client = firestore_client
    for path in PLACES:
        client.document(path).set({"k": 1})
    assert [each.reference.path for each in client.collection("a").recursive().get()] == PLACES[:4]
    assert client.recursive_delete(client.collection("a")) == 4
    assert client.recursive_delete(client.document("b/z")) == 2
    assert sorted(each.path for each in client.collection("ghost/g/s").list_documents()) == ["ghost/g/s/1"]
    assert client.document("a!/1/sub/w").get().exists
    assert client.collection("a").count().get()[0][0].value == 0


def test_names_below_a_document_are_a_range(firestore_wire_to):
    """What lies below a document is found without looking at what lies elsewhere, and a page without looking further."""
    server = FirestoreServer()
    with grpc.insecure_channel(server.start()) as channel:
        w = firestore_wire_to(channel, "p")
        w.commit(*[w.write(f"c/d{n:03}/sub/x", {"n": n}) for n in range(300)], w.write("c/d150/other/y", {"n": 1}))
        for found, query in (
            (["c/d150/other/y", "c/d150/sub/x"], {"parent": "c/d150"}),
            (["c/d000/sub/x", "c/d001/sub/x"], {"limit": {"value": 2}}),
        ):
            before = server.examined
            assert everything(w, **query) == found
            assert server.examined - before == 2
        before = server.examined
        assert w.ids("sub", group=True, parent="c/d150") == ["c/d150/sub/x"]
        assert server.examined - before == 1
    server.stop()
