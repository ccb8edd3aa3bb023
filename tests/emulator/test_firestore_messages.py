"""
Queries, writes, transforms and values with each of their fields, through Google's client.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)
from google.cloud.firestore import GeoPoint
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.vector import Vector

from tests.support.calls import Calls, code, field, numbers

MIXED = {
    "null_value": None,
    "boolean_value": True,
    "integer_value": -3,
    "double_value": 2.5,
    "string_value": "é",
    "bytes_value": b"x",
    "timestamp_value": datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC),
    "array_value": [1, {"a": "b"}],
    "map_value": {"a": {"b": 1}},
}


def test_aggregations(calls, firestore_client):
    """Counts, also up to a number, sums and averages, each by its alias."""
    for number, name in enumerate("abcd"):
        calls.put(f"c/{name}", n=number)
    field = {"field": {"field_path": "n"}}
    aggregations = [
        {"count": {}},
        {"alias": "few", "count": {"up_to": 2}},
        {"alias": "s", "sum": field},
        {"alias": "a", "avg": field},
    ]
    query = {"from_": [{"collection_id": "c"}]}
    asked = {"structured_query": query, "aggregations": aggregations}
    [answer] = calls("run_aggregation_query", parent=calls.root, structured_aggregation_query=asked)
    found = answer.result.aggregate_fields
    assert {name: found[name].integer_value for name in ("field_1", "few", "s")} == {"field_1": 4, "few": 2, "s": 6}
    assert found["a"].double_value == 1.5


def test_structured_query(calls, firestore_client):
    """Collection or group, filters, orders, cursors, offset, limit, projection."""
    for name, n, m in (("a", 1, 5), ("b", 2, 5), ("d", 3, 6), ("e", 4, 6)):
        calls.put(f"c/{name}", n=n, m=m)
    calls.put("x/y/c/z", n=5, m=7)
    base: dict[str, Any] = {"from_": [{"collection_id": "c"}]}
    down = [{"field": field("n"), "direction": "DESCENDING"}]
    assert calls.ids(**base) == ["a", "b", "d", "e"]
    assert calls.ids(from_=[{"collection_id": "c", "all_descendants": True}], order_by=down) == [
        "z",
        "e",
        "d",
        "b",
        "a",
    ]
    assert calls.ids(**base, order_by=down, limit=2, offset=1) == ["d", "b"]
    cursor = {"values": [{"integer_value": 3}]}
    assert calls.ids(**base, order_by=down, start_at=cursor | {"before": True}) == ["d", "b", "a"]
    assert calls.ids(**base, order_by=down, start_at=cursor) == ["b", "a"]
    assert calls.ids(**base, order_by=down, end_at=cursor | {"before": True}) == ["e"]
    assert calls.ids(**base, order_by=down, end_at=cursor) == ["e", "d"]

    def compare(path: str, op: str, *values: int) -> dict[str, Any]:
        each = [{"integer_value": value} for value in values]
        value = {"array_value": {"values": each}} if op in ("IN", "NOT_IN") else each[0]
        return {"field_filter": {"field": field(path), "op": op, "value": value}}

    both = [compare("m", "EQUAL", 6), compare("n", "LESS_THAN", 4)]
    assert calls.ids(**base, where={"composite_filter": {"op": "AND", "filters": both}}) == ["d"]
    assert calls.ids(**base, where={"composite_filter": {"op": "OR", "filters": both}}) == ["a", "b", "d", "e"]
    assert calls.ids(**base, where=compare("n", "IN", 2, 4)) == ["b", "e"]
    assert calls.ids(**base, where=compare("n", "NOT_IN", 2, 4)) == ["a", "d"]
    assert calls.ids(**base, where={"unary_filter": {"field": field("n"), "op": "IS_NULL"}}) == []
    [answer] = calls(
        "run_query", parent=calls.root, structured_query=base | {"limit": 1, "select": {"fields": [field("m")]}}
    )
    assert numbers(answer.document) == {"m": 5}


def test_nearest_neighbours_are_refused(firestore_client, firestore_server):
    """The service finds them by a vector index, and only some of them."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator finds them")
    query = firestore_client.collection("c").find_nearest(
        "v", query_vector=Vector([1.0]), limit=1, distance_measure=DistanceMeasure.EUCLIDEAN
    )
    with pytest.raises(MethodNotImplemented, match="find_nearest is not implemented by this local server"):
        query.get()


def test_writes(calls, firestore_client):
    """Updates whole and by a mask, transforms with them and alone, deletes, each under a precondition."""
    name = calls.name("c/a")
    time = calls.put("c/a", n=1, m=2)

    def write(**asked: Any) -> Any:
        return calls("commit", database=calls.database, writes=[asked]).write_results[0]

    document = {"name": name, "fields": {"n": {"integer_value": 5}}}
    one_more = {"field_path": "n", "increment": {"integer_value": 1}}
    assert code(write, update=document, current_document={"exists": False}) is AlreadyExists
    done = write(
        update=document,
        update_mask={"field_paths": ["n"]},
        update_transforms=[one_more],
        current_document={"update_time": time},
    )
    assert [each.integer_value for each in done.transform_results] == [6]
    assert numbers(calls("get_document", name=name)) == {"n": 6, "m": 2}
    assert code(write, update=document, current_document={"update_time": time}) is FailedPrecondition
    write(transform={"document": name, "field_transforms": [one_more]}, current_document={"exists": True})
    assert numbers(calls("get_document", name=name)) == {"n": 7, "m": 2}
    write(update=document)
    assert numbers(calls("get_document", name=name)) == {"n": 5}
    write(delete=name, current_document={"exists": True})
    assert code(write, delete=name, current_document={"exists": True}) is NotFound


def test_transforms(calls, firestore_client):
    """Server time, sums, greatest and least, elements put in and taken out."""
    name = calls.name("c/a")
    calls.put("c/a", n=5)
    one, nine = {"integer_value": 1}, {"integer_value": 9}
    transforms = [
        {"field_path": "at", "set_to_server_value": "REQUEST_TIME"},
        {"field_path": "n", "increment": one},
        {"field_path": "top", "maximum": nine},
        {"field_path": "n", "minimum": one},
        {"field_path": "arr", "append_missing_elements": {"values": [one, nine, one]}},
        {"field_path": "arr", "remove_all_from_array": {"values": [one]}},
    ]
    write = {"transform": {"document": name, "field_transforms": transforms}}
    results = calls("commit", database=calls.database, writes=[write]).write_results[0].transform_results
    assert [each.integer_value for each in results[1:4]] == [6, 9, 1]
    fields = calls("get_document", name=name).fields
    assert (fields["n"].integer_value, fields["top"].integer_value) == (1, 9)
    assert [each.integer_value for each in fields["arr"].array_value.values] == [9]
    assert fields["at"].timestamp_value == results[0].timestamp_value


def test_values(firestore_client):
    """Each kind that can be stored comes back; a vector is a map."""
    document = firestore_client.document("c/a")
    stored = MIXED | {"reference_value": document, "geo_point_value": GeoPoint(1.5, -2), "vector": Vector([1.0, 2.5])}
    document.set(stored)
    assert document.get().to_dict() == stored


@pytest.mark.parametrize("kind", ["field_reference_value", "function_value", "pipeline_value"])
def test_values_of_pipelines_are_refused(firestore_client, kind):
    """They stand in pipelines, not in documents."""
    calls = Calls(firestore_client)
    value = (
        {kind: "a"} if kind == "field_reference_value" else {kind: {"name": "f"} if kind == "function_value" else {}}
    )
    document = {"name": calls.name("c/a"), "fields": {"x": value}}
    assert code(calls, "commit", database=calls.database, writes=[{"update": document}]) is InvalidArgument


def test_conflicting_transactions(firestore_client, firestore_server):
    """One that has read what another has changed meanwhile does not commit, or the other waits for it and gives up."""
    calls = Calls(firestore_client)
    calls.put("c/a", n=1)
    key = calls.begin(read_write={})
    calls("get_document", name=calls.name("c/a"), transaction=key)
    if firestore_server.name == "google":
        assert code(calls.put, "c/a", n=2) is Aborted
        return
    calls.put("c/a", n=2)
    write = {"update": {"name": calls.name("c/a")}}
    assert code(calls, "commit", database=calls.database, writes=[write], transaction=key) is Aborted


def test_fields_outside_of_a_mask_are_checked(calls, firestore_client):
    """A field that a mask leaves out is not written, but it must be one that can be."""
    fields: dict[str, Any] = {"n": {"integer_value": 1}, "m": {"integer_value": 2}}
    for wrong in (
        {"__x__": {"integer_value": 1}},
        {"x": {"array_value": {"values": [{"array_value": {}}]}}},
        {"x": {"map_value": {"fields": {"__x__": {"integer_value": 1}}}}},
    ):
        write = {"update": {"name": calls.name("c/a"), "fields": fields | wrong}, "update_mask": {"field_paths": ["n"]}}
        assert code(calls, "commit", database=calls.database, writes=[write]) is InvalidArgument
    write = {"update": {"name": calls.name("c/a"), "fields": fields}, "update_mask": {"field_paths": ["n"]}}
    calls("commit", database=calls.database, writes=[write])
    assert numbers(calls("get_document", name=calls.name("c/a"))) == {"n": 1}


def test_comparisons_with_null_or_nan_hold_never(calls, firestore_client):
    """Only the filters for them find them; unequal to NaN is all that is not null."""
    nan = {"double_value": float("nan")}
    null = {"null_value": 0}
    array = {"array_value": {"values": [nan, null]}}
    stored = {"array": array, "nan": nan, "null": null, "one": {"integer_value": 1}}
    for name, value in stored.items():
        document = {"name": calls.name(f"c/{name}"), "fields": {"v": value}}
        calls("commit", database=calls.database, writes=[{"update": document}])

    def ids(op: str, value: Any) -> list[str]:
        where = {"field_filter": {"field": field("v"), "op": op, "value": value}}
        return calls.ids(from_=[{"collection_id": "c"}], where=where)

    for value in (null, nan):
        for op in (
            "EQUAL",
            "LESS_THAN",
            "LESS_THAN_OR_EQUAL",
            "GREATER_THAN",
            "GREATER_THAN_OR_EQUAL",
            "ARRAY_CONTAINS",
        ):
            assert ids(op, value) == [], op
    assert ids("NOT_EQUAL", null) == ids("ARRAY_CONTAINS_ANY", array) == ids("IN", array) == []
    assert ids("NOT_EQUAL", nan) == ["nan", "one", "array"]
    assert ids("NOT_IN", {"array_value": {"values": [nan]}}) == ["nan", "one", "array"]


def test_lists_are_ordered_by_quoted_fields(calls, firestore_client):
    """A clause is split where a field's path ends, and not at the blanks and commas within quotes."""
    for name, number in (("a", 1), ("b", 3), ("d", 2)):
        document = {"name": calls.name(f"c/{name}"), "fields": {"x, y desc": {"integer_value": number}}}
        calls("commit", database=calls.database, writes=[{"update": document}])

    def ids(order: str) -> list[str]:
        found = calls("list_documents", parent=calls.root, collection_id="c", order_by=order).documents
        return [each.name.rpartition("/")[2] for each in found]

    assert ids("`x, y desc`") == ["a", "d", "b"]
    assert ids("`x, y desc`  DESC , __name__ desc") == ["b", "d", "a"]
    for wrong in (" n", "n,", "n,,m", "n asc desc", "a..b", "1a", "-n"):
        with pytest.raises(InvalidArgument, match="Invalid order by clause"):
            ids(wrong)
