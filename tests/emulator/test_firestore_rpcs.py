"""
Each RPC of Firestore with each field of its request, through Google's client; the rows of ``conformance_firestore.py`` name these
tests.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)
from google.cloud.firestore_v1 import types

pytestmark = pytest.mark.usefixtures("firestore_client")
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


class Calls:
    """
    The RPCs of the client, with the names of its project.
    """

    def __init__(self, client: Any) -> None:
        self.api = client._firestore_api
        self.database = client._database_string
        self.root = f"{self.database}/documents"
        self.headers = client._rpc_metadata

    def __call__(self, rpc: str, **request: Any) -> Any:
        answer = getattr(self.api, rpc)(request=request, metadata=self.headers)
        return list(answer) if rpc in ("batch_get_documents", "run_query", "run_aggregation_query") else answer

    def name(self, path: str) -> str:
        return f"{self.root}/{path}"

    def put(self, path: str, **numbers: int) -> datetime:
        """
        Write a document of whole numbers; returns the time.
        """
        document = {"name": self.name(path), "fields": {name: {"integer_value": n} for name, n in numbers.items()}}
        time: datetime = self("commit", database=self.database, writes=[{"update": document}]).commit_time
        return time

    def begin(self, **options: Any) -> bytes:
        return bytes(self("begin_transaction", database=self.database, options=options).transaction)

    def ids(self, *, parent: str = "", request: dict[str, Any] | None = None, **query: Any) -> list[str]:
        found = self("run_query", parent=self.root + parent, structured_query=query, **(request or {}))
        return [each.document.name.rpartition("/")[2] for each in found if each.document.name]


@pytest.fixture
def calls(firestore_client) -> Calls:
    return Calls(firestore_client)


def code(call: Callable[..., Any], *args: Any, **kwargs: Any) -> type[GoogleAPICallError]:
    with pytest.raises(GoogleAPICallError) as error:
        call(*args, **kwargs)
    return error.type


def numbers(document: Any) -> dict[str, int]:
    return {name: value.integer_value for name, value in document.fields.items()}


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


class Stream:
    """
    Requests of a call with two streams, put one by one.
    """

    def __init__(self, calls: Calls, rpc: str, first: Any) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        # The client waits for the first answer at once.
        self.put(first)
        self.answers = getattr(calls.api, rpc)(requests=self._all(), metadata=calls.headers, timeout=30)

    def _all(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            yield request

    def put(self, request: Any) -> None:
        self._requests.put(request)

    def close(self) -> None:
        self._requests.put(None)
        self.answers.cancel()

    def until(self, found: Callable[[Any], bool]) -> list[Any]:
        """
        The answers up to the first for which *found* holds.
        """
        seen = []
        for answer in self.answers:
            seen.append(answer)
            if found(answer):
                return seen
        raise AssertionError(seen)


def test_write(calls, firestore_client):
    """Commits on one stream, each with the token of the answer before; labels are taken."""
    stream = Stream(calls, "write", types.WriteRequest(database=calls.database, labels={"from": "test"}))
    try:
        begun = next(stream.answers)
        token = begun.stream_token
        assert begun.stream_id
        for n in range(3):
            document = {"name": calls.name("c/a"), "fields": {"n": {"integer_value": n}}}
            stream.put(types.WriteRequest(stream_token=token, writes=[{"update": document}]))
            answer = next(stream.answers)
            assert answer.write_results[0].update_time == answer.commit_time
            assert answer.stream_token != token
            token = answer.stream_token
    finally:
        stream.close()
    assert numbers(calls("get_document", name=calls.name("c/a"))) == {"n": 2}


CURRENT = types.TargetChange.TargetChangeType.CURRENT
REMOVED = types.TargetChange.TargetChangeType.REMOVE


def target(calls: Calls, **more: Any) -> Any:
    query = {"parent": calls.root, "structured_query": {"from_": [{"collection_id": "c"}]}}
    made = {"target_id": 7} | more
    if "documents" not in made:
        made["query"] = query
    return types.ListenRequest(database=calls.database, labels={"from": "test"}, add_target=made)


def test_listen(calls, firestore_client):
    """A query or documents, under an id, until they are removed."""
    calls.put("c/a", n=1)
    stream = Stream(calls, "listen", target(calls))
    try:
        seen = stream.until(lambda each: each.target_change.target_change_type == CURRENT)
        assert [numbers(each.document_change.document) for each in seen if each.document_change.document.name] == [
            {"n": 1}
        ]
        stream.put(target(calls, target_id=8, documents={"documents": [calls.name("d/b")]}))
        calls.put("d/b", n=2)
        stream.until(
            lambda each: 8 in each.document_change.target_ids and numbers(each.document_change.document) == {"n": 2}
        )
        stream.put(types.ListenRequest(database=calls.database, remove_target=8))
        [*_, last] = stream.until(lambda each: each.target_change.target_change_type == REMOVED)
        assert list(last.target_change.target_ids) == [8]
    finally:
        stream.close()


@pytest.mark.parametrize("by", ["resume_token", "read_time"])
def test_listen_goes_on(firestore_client, firestore_server, by):
    """From a token, or a time: only what has changed since is told."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator tells everything again")
    calls = Calls(firestore_client)
    calls.put("c/a", n=1)
    stream = Stream(calls, "listen", target(calls))
    try:
        [*_, last] = stream.until(lambda each: bool(each.target_change.resume_token and each.target_change.read_time))
    finally:
        stream.close()
    calls.put("c/b", n=2)
    stream = Stream(calls, "listen", target(calls, **{by: getattr(last.target_change, by)}, expected_count=1))
    try:
        seen = stream.until(lambda each: each.target_change.target_change_type == CURRENT)
    finally:
        stream.close()
    assert [numbers(each.document_change.document) for each in seen if each.document_change.document.name] == [{"n": 2}]


def test_listen_once(firestore_client, firestore_server):
    """A target that is asked once is removed when its results have been told."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator does not remove it")
    calls = Calls(firestore_client)
    calls.put("c/a", n=1)
    stream = Stream(calls, "listen", target(calls, once=True))
    try:
        seen = stream.until(lambda each: each.target_change.target_change_type == REMOVED)
    finally:
        stream.close()
    assert [numbers(each.document_change.document) for each in seen if each.document_change.document.name] == [{"n": 1}]


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


def field(path: str) -> dict[str, str]:
    return {"field_path": path}


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
    from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
    from google.cloud.firestore_v1.vector import Vector

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
    from google.cloud.firestore import GeoPoint
    from google.cloud.firestore_v1.vector import Vector

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
