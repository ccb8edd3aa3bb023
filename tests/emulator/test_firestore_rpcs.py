"""
Each RPC of Firestore with each field of its request, through Google's client; the rows of ``conformance_firestore.py`` name these
tests.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)

from tests.support.calls import Calls, code, numbers


def test_get_document(calls, firestore_client):
    """By name; some fields; in a transaction; in the past."""
    first = calls.put("c/a", n=1, m=2)
    calls.put("c/a", n=3)
    name = calls.name("c/a")
    assert numbers(calls("get_document", name=name)) == {"n": 3}
    assert numbers(calls("get_document", name=name, read_time=first)) == {"n": 1, "m": 2}
    assert numbers(calls("get_document", name=name, read_time=first, mask={"field_paths": ["m", "x"]})) == {"m": 2}
    assert numbers(calls("get_document", name=name, transaction=calls.begin(read_only={"read_time": first}))) == {
        "n": 1,
        "m": 2,
    }
    assert code(calls, "get_document", name=calls.name("c/none")) is NotFound


def test_list_documents(calls, firestore_client):
    """Below a parent, in pages, ordered, with some fields; missing parents if asked; in a transaction and in the past."""
    first = calls.put("c/b", n=1, m=0)
    for path, n in (("c/a", 2), ("c/d", 3), ("c/ghost/sub/x", 4), ("other/a", 5)):
        calls.put(path, n=n)

    def ids(**request: Any) -> list[str]:
        found = calls("list_documents", **{"parent": calls.root, "collection_id": "c"} | request).documents
        return [each.name.rpartition("/")[2] for each in found]

    assert ids() == ["a", "b", "d"]
    assert ids(parent=calls.name("c/ghost"), collection_id="sub") == ["x"]
    assert ids(order_by="n desc") == ["d", "a", "b"]
    assert ids(show_missing=True) == ["a", "b", "d", "ghost"]
    assert ids(read_time=first) == ids(transaction=calls.begin(read_only={"read_time": first})) == ["b"]
    page = calls("list_documents", parent=calls.root, collection_id="c", page_size=2)
    assert ids(page_size=2, page_token=page.next_page_token) == ["d"]
    [shown] = calls(
        "list_documents", parent=calls.root, collection_id="c", read_time=first, mask={"field_paths": ["m"]}
    ).documents
    assert numbers(shown) == {"m": 0}


def test_create_document(calls, firestore_client):
    """With an id, or one that is made; once; the answer has some fields."""
    asked = {"parent": calls.root, "collection_id": "c", "document": {"fields": {"n": {"integer_value": 1}}}}
    made = calls("create_document", **asked, document_id="a", mask={"field_paths": ["x"]})
    assert (made.name, numbers(made)) == (calls.name("c/a"), {})
    assert len(calls("create_document", **asked).name.rpartition("/")[2]) == 20
    assert code(calls, "create_document", **asked, document_id="a") is AlreadyExists


def test_update_document(calls, firestore_client):
    """Whole or by a mask, under a precondition; the answer has some fields."""
    fields = {"n": {"integer_value": 1}, "m": {"integer_value": 2}}
    document = {"name": calls.name("c/a"), "fields": fields}
    condition = {"exists": True}
    assert code(calls, "update_document", document=document, current_document=condition) is NotFound
    assert numbers(calls("update_document", document=document)) == {"n": 1, "m": 2}
    change = {"name": calls.name("c/a"), "fields": {"n": {"integer_value": 3}, "m": {"integer_value": 4}}}
    shown = calls(
        "update_document",
        document=change,
        update_mask={"field_paths": ["n"]},
        mask={"field_paths": ["n"]},
        current_document=condition,
    )
    assert numbers(shown) == {"n": 3}
    assert numbers(calls("get_document", name=calls.name("c/a"))) == {"n": 3, "m": 2}


def test_delete_document(calls, firestore_client):
    """Under a precondition, or whether it exists or not."""
    time = calls.put("c/a", n=1)
    name = calls.name("c/a")
    later = calls.put("c/b", n=1)
    assert code(calls, "delete_document", name=name, current_document={"update_time": later}) is InvalidArgument
    calls("delete_document", name=name, current_document={"update_time": time})
    assert code(calls, "delete_document", name=name, current_document={"exists": True}) is NotFound
    calls("delete_document", name=name)


def test_batch_get_documents(calls, firestore_client):
    """Found and missing ones, some fields, in a transaction that exists or begins, in the past."""
    first = calls.put("c/a", n=1, m=2)
    calls.put("c/a", n=3)
    calls.put("c/b", n=4)
    documents = [calls.name("c/a"), calls.name("c/b")]

    def read(**request: Any) -> list[Any]:
        found = calls("batch_get_documents", database=calls.database, documents=documents, **request)
        return [each.missing or numbers(each.found) for each in found if each.missing or each.found.name]

    assert read() == [{"n": 3}, {"n": 4}]
    assert read(read_time=first) == [{"n": 1, "m": 2}, documents[1]]
    assert read(read_time=first, mask={"field_paths": ["m"]})[0] == {"m": 2}
    assert read(transaction=calls.begin(read_only={"read_time": first})) == [{"n": 1, "m": 2}, documents[1]]
    begun = calls(
        "batch_get_documents", database=calls.database, documents=documents, new_transaction={"read_write": {}}
    )
    calls("commit", database=calls.database, transaction=begun[0].transaction)


def test_begin_transaction(calls, firestore_client):
    """To read, now or in the past, or to write, perhaps in place of one that failed."""
    first = calls.put("c/a", n=1)
    calls.put("c/a", n=2)
    past = calls.begin(read_only={"read_time": first})
    assert numbers(calls("get_document", name=calls.name("c/a"), transaction=past)) == {"n": 1}
    write = {"update": {"name": calls.name("c/a")}}
    assert (
        code(calls, "commit", database=calls.database, writes=[write], transaction=calls.begin(read_only={}))
        is InvalidArgument
    )
    failed = calls.begin(read_write={})
    calls("rollback", database=calls.database, transaction=failed)
    again = calls.begin(read_write={"retry_transaction": failed})
    calls("commit", database=calls.database, writes=[write], transaction=again)
    assert numbers(calls("get_document", name=calls.name("c/a"))) == {}


@pytest.mark.parametrize("mode", ["OPTIMISTIC", "PESSIMISTIC"])
def test_concurrency_mode_of_a_transaction_is_not_heeded(firestore_client, mode):
    """The option of the server decides for all."""
    calls = Calls(firestore_client)
    calls.put("c/a", n=1)
    key = calls.begin(read_write={"concurrency_mode": mode})
    assert numbers(calls("get_document", name=calls.name("c/a"), transaction=key)) == {"n": 1}
    calls("commit", database=calls.database, transaction=key)


def test_commit(calls, firestore_client):
    """All writes or none, at one time; those of a transaction only once."""
    writes = [{"update": {"name": calls.name(f"c/{name}")}} for name in "ab"]
    key = calls.begin(read_write={})
    done = calls("commit", database=calls.database, writes=writes, transaction=key)
    assert {each.update_time for each in done.write_results} == {done.commit_time}
    assert code(calls, "commit", database=calls.database, writes=writes, transaction=key) is InvalidArgument
    bad = {"delete": calls.name("c/none"), "current_document": {"exists": True}}
    assert code(calls, "commit", database=calls.database, writes=[{"delete": calls.name("c/a")}, bad]) is NotFound
    assert calls("get_document", name=calls.name("c/a")).name


def test_rollback(calls, firestore_client):
    """A transaction that is rolled back is over."""
    key = calls.begin(read_write={})
    calls("rollback", database=calls.database, transaction=key)
    assert code(calls, "commit", database=calls.database, transaction=key) is InvalidArgument


def test_run_query(calls, firestore_client):
    """Below a parent, in a transaction that exists or begins, in the past."""
    first = calls.put("c/a", n=1)
    calls.put("c/b", n=2)
    calls.put("c/a/sub/x", n=3)
    query = {"from_": [{"collection_id": "c"}]}
    assert calls.ids(**query) == ["a", "b"]
    assert calls.ids(parent="/c/a", from_=[{"collection_id": "sub"}]) == ["x"]
    assert calls.ids(**query, request={"read_time": first}) == ["a"]
    assert calls.ids(**query, request={"transaction": calls.begin(read_only={"read_time": first})}) == ["a"]
    answers = calls("run_query", parent=calls.root, structured_query=query, new_transaction={"read_only": {}})
    assert answers[0].transaction
    assert answers[-1].read_time


def test_run_aggregation_query(calls, firestore_client):
    """Below a parent, in a transaction that exists or begins, in the past."""
    first = calls.put("c/a", n=1)
    calls.put("c/b", n=2)
    calls.put("c/a/c/x", n=3)

    def run(parent: str = "", **request: Any) -> list[Any]:
        asked = {"structured_query": {"from_": [{"collection_id": "c"}]}, "aggregations": [{"alias": "n", "count": {}}]}
        found: list[Any] = calls(
            "run_aggregation_query", parent=calls.root + parent, structured_aggregation_query=asked, **request
        )
        return found

    def count(*args: Any, **request: Any) -> int:
        return int(run(*args, **request)[-1].result.aggregate_fields["n"].integer_value)

    assert (count(), count("/c/a")) == (2, 1)
    assert count(read_time=first) == count(transaction=calls.begin(read_only={"read_time": first})) == 1
    assert run(new_transaction={"read_only": {}})[0].transaction


@pytest.mark.parametrize("kind", ["run_query", "run_aggregation_query"])
def test_explanations_are_refused(firestore_embedded, firestore_client, firestore_server, kind):
    """The plans of this server are not those of the service."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator answers without an explanation")
    calls = Calls(firestore_client)
    query: Any = {"from_": [{"collection_id": "c"}]}
    asked = {"structured_query": query}
    if kind == "run_aggregation_query":
        asked = {"structured_aggregation_query": {"structured_query": query, "aggregations": [{"count": {}}]}}
    with pytest.raises(MethodNotImplemented, match="Query explain is not implemented by this local server"):
        calls(kind, parent=calls.root, explain_options={"analyze": True}, **asked)


def test_partition_query(firestore_client, firestore_server):
    """Places in a group, in pages, also of the past; other queries are refused."""
    calls = Calls(firestore_client)
    query = {
        "from_": [{"collection_id": "c", "all_descendants": True}],
        "order_by": [{"field": {"field_path": "__name__"}, "direction": 1}],
    }
    asked = {"parent": calls.root, "structured_query": query, "partition_count": 3}
    if firestore_server.name == "google":
        assert code(calls, "partition_query", **asked) is MethodNotImplemented
        return
    for name in "abcdefg":
        time = calls.put(f"c/{name}", n=1)
    calls.put("c/h", n=1)

    def places(**more: Any) -> list[str]:
        return [each.values[0].reference_value[-1] for each in calls("partition_query", **asked | more)]

    assert places() == ["c", "e", "g"]
    assert places(page_size=2) == ["c", "e", "g"]
    first = calls("partition_query", **asked, page_size=2).next_page_token
    assert places(page_token=first) == ["g"]
    assert places(read_time=time) == ["b", "d", "f"]
    for wrong in (
        {"partition_count": 0},
        {"page_size": -1},
        {"page_token": "after:x"},
        {"parent": calls.name("c/a")},
        {"structured_query": query | {"limit": 1}},
        {"structured_query": query | {"offset": 1}},
        {"structured_query": query | {"order_by": []}},
        {"structured_query": query | {"from_": [{"collection_id": "c"}]}},
    ):
        assert code(calls, "partition_query", **asked | wrong) is InvalidArgument, wrong


def test_list_collection_ids(calls, firestore_client):
    """Of the root or a document, in pages, also of the past."""
    first = calls.put("b/x/sub/y", n=1)
    calls.put("a/x", n=1)
    calls.put("d/x", n=1)
    asked = {"parent": calls.root}
    assert list(calls("list_collection_ids", **asked)) == ["a", "b", "d"]
    assert list(calls("list_collection_ids", parent=calls.name("b/x"))) == ["sub"]
    page = calls("list_collection_ids", **asked, page_size=2)
    assert list(calls("list_collection_ids", **asked, page_token=page.next_page_token)) == ["d"]
    assert list(calls("list_collection_ids", **asked, read_time=first)) == ["b"]


def test_batch_write(calls, firestore_client):
    """Each write for itself; labels are taken; a write that is wrong in itself refuses them all."""
    calls.put("c/a", n=1)
    writes = [
        {"update": {"name": calls.name("c/a")}, "current_document": {"exists": False}},
        {"update": {"name": calls.name("c/b")}},
    ]
    done = calls("batch_write", database=calls.database, writes=writes, labels={"from": "test"})
    assert [each.code for each in done.status] == [6, 0]
    assert [bool(each.update_time) for each in done.write_results] == [False, True]
    for wrong in (
        {"update": {"name": calls.name("c/__x__")}},
        {"update": {"name": calls.name("c/d"), "fields": {"__x__": {"integer_value": 1}}}},
        writes[1],
    ):
        request = [{"update": {"name": calls.name("c/d")}}, writes[1], wrong]
        assert code(calls, "batch_write", database=calls.database, writes=request) is InvalidArgument
    assert code(calls, "get_document", name=calls.name("c/d")) is NotFound


def test_pipelines_are_refused(firestore_client, firestore_server):
    """They belong to the Enterprise edition."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator of this version knows no pipelines")
    calls = Calls(firestore_client)
    asked = {"pipeline": {"stages": [{"name": "collection", "args": [{"reference_value": "/c"}]}]}}
    with pytest.raises(MethodNotImplemented, match="ExecutePipeline is not implemented by this local server"):
        list(calls("execute_pipeline", database=calls.database, structured_pipeline=asked))


def test_request_options_are_not_heeded(firestore_client):
    """Tags of requests show in the service's statistics; here is none."""
    calls = Calls(firestore_client)
    options = {"request_tags": ["from:test"]}
    calls("commit", database=calls.database, writes=[{"update": {"name": calls.name("c/a")}}], request_options=options)
    assert calls("get_document", name=calls.name("c/a"), request_options=options).name
    assert calls.ids(from_=[{"collection_id": "c"}], request={"request_options": options}) == ["a"]
