"""
The RPCs on single documents, on lists of them, and on batches, on both servers.
"""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import empty_pb2

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
EXISTS, MISSING = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND
FAILED = grpc.StatusCode.FAILED_PRECONDITION


def call(wire, method, answer, **request):
    return wire.call(method, wire.pb(f"{method}Request")(**request), answer)


def document(wire, data, path=""):
    made = wire.pb("Document")(fields=wire.value(data).map_value.fields)
    made.name = wire.name(path) if path else ""
    return made


def create(wire, collection, id_="", data=None, **request):
    made = document(wire, data or {"x": 1})
    answer = wire.pb("Document")
    return call(
        wire,
        "CreateDocument",
        answer,
        parent=wire.root,
        collection_id=collection,
        document_id=id_,
        document=made,
        **request,
    )


def test_create(firestore_wire):
    """A given id is taken once; without one the server chooses; the answer has the masked fields."""
    w = firestore_wire
    made = create(w, "c", "a", {"x": 1, "y": 2}, mask={"field_paths": ["y"]})
    assert (made.name, dict(made.fields)) == (w.name("c/a"), {"y": w.value(2)})
    assert w.outcome(create, w, "c", "a") == EXISTS
    chosen = {create(w, "c").name for _ in range(2)}
    assert len(chosen) == 2
    assert all(len(name.rpartition("/")[2]) == 20 for name in chosen)


def test_update(firestore_wire):
    """Without a mask it replaces, with one it changes; it creates, unless the precondition says otherwise."""
    w = firestore_wire
    answer = w.pb("Document")
    call(w, "UpdateDocument", answer, document=document(w, {"x": 1, "y": 2}, "c/a"))
    call(w, "UpdateDocument", answer, document=document(w, {"x": 5}, "c/a"), update_mask={"field_paths": ["x"]})
    assert w.get("c/a").fields == w.value({"x": 5, "y": 2}).map_value.fields
    call(w, "UpdateDocument", answer, document=document(w, {"z": 1}, "c/a"))
    assert list(w.get("c/a").fields) == ["z"]
    only = {"document": document(w, {"x": 1}, "c/b"), "current_document": {"exists": True}}
    assert w.outcome(call, w, "UpdateDocument", answer, **only) == MISSING


def test_delete(firestore_wire):
    """A missing document is deleted as well, unless the precondition says otherwise."""
    w = firestore_wire
    w.commit(w.write("c/a", {"x": 1}))
    for _ in range(2):
        call(w, "DeleteDocument", empty_pb2.Empty, name=w.name("c/a"))
    assert w.outcome(w.get, "c/a") == MISSING
    only = {"name": w.name("c/a"), "current_document": {"exists": True}}
    assert w.outcome(call, w, "DeleteDocument", empty_pb2.Empty, **only) == MISSING


def test_batch_write_is_not_atomic(firestore_wire):
    """Each write has its own status and result; a document may be in it once."""
    w = firestore_wire
    w.commit(w.write("c/a", {"x": 1}))
    old = w.get("c/a").update_time
    w.commit(w.write("c/a", {"x": 2}))
    writes = [
        w.write("c/new", {"x": 1}, exists=False),
        w.write("c/a", {"x": 3}, update_time=old),
        w.delete("c/none", exists=True),
        w.transform("c/t", w.field_transform("n", "increment", 2)),
    ]
    answer = w.pb("BatchWriteResponse")
    done = call(w, "BatchWrite", answer, database=w.database, writes=writes)
    assert [status.code for status in done.status] == [0, FAILED.value[0], MISSING.value[0], 0]
    assert [result.HasField("update_time") for result in done.write_results] == [True, False, False, True]
    assert list(done.write_results[3].transform_results) == [w.value(2)]
    assert w.get("c/a").fields["x"] == w.value(2)
    twice = {"database": w.database, "writes": [w.write("c/a", {"x": 1}), w.delete("c/a")]}
    assert w.outcome(call, w, "BatchWrite", answer, **twice) == INVALID


def test_bulk_writer_of_the_client(firestore_client):
    """The ordinary client's bulk writer."""
    writer = firestore_client.bulk_writer()
    for number in range(30):
        writer.set(firestore_client.document(f"c/d{number:02d}"), {"n": number})
    writer.close()
    assert len(list(firestore_client.collection("c").stream())) == 30


def test_lists_in_pages(firestore_wire):
    """By name, page by page, with the masked fields."""
    w = firestore_wire
    w.commit(*[w.write(f"c/d{number}", {"x": number, "y": 0}) for number in range(5)], w.write("other/z", {"x": 1}))
    answer, names, token = w.pb("ListDocumentsResponse"), [], ""
    while True:
        page = call(
            w, "ListDocuments", answer, parent=w.root, collection_id="c", page_size=2, page_token=token,
            mask={"field_paths": ["x"]},
        )  # fmt: skip
        names.append([each.name.rpartition("/")[2] for each in page.documents])
        assert all(list(each.fields) == ["x"] for each in page.documents)
        token = page.next_page_token
        if not token:
            break
    assert [name for page in names for name in page] == ["d0", "d1", "d2", "d3", "d4"]
    assert [len(page) for page in names[:2]] == [2, 2]


def test_missing_parents_are_listed_on_demand(firestore_wire):
    """A document that only has something below it has a name and nothing else."""
    w = firestore_wire
    w.commit(w.write("c/a", {"x": 1}), w.write("c/ghost/sub/s", {"x": 1}), w.write("c/a/sub/s", {"x": 1}))
    answer = w.pb("ListDocumentsResponse")
    request = {"parent": w.root, "collection_id": "c", "mask": {"field_paths": []}}
    plain = call(w, "ListDocuments", answer, **request)
    assert [each.name for each in plain.documents] == [w.name("c/a")]
    shown = call(w, "ListDocuments", answer, show_missing=True, **request)
    assert [(each.name, each.HasField("create_time")) for each in shown.documents] == [
        (w.name("c/a"), True),
        (w.name("c/ghost"), False),
    ]


def test_deleted_parents_are_missing_too(firestore_wire, firestore_server):
    """A document that is deleted before what lies below it is listed as missing."""
    w = firestore_wire
    w.commit(w.write("c/gone", {"x": 1}), w.write("c/gone/sub/s", {"x": 1}))
    w.commit(w.delete("c/gone"))
    request = {"parent": w.root, "collection_id": "c", "show_missing": True}
    [shown] = call(w, "ListDocuments", w.pb("ListDocumentsResponse"), **request).documents
    assert (shown.name, shown.HasField("create_time"), dict(shown.fields)) == (w.name("c/gone"), False, {})
    has = firestore_server.expected("a deleted document that is listed as missing has an update_time")
    assert shown.HasField("update_time") is has


def test_collections_are_listed(firestore_client):
    """Of the root and of a document, existing or not."""
    client = firestore_client
    for path in ("b/x", "a/x/sub1/s", "a/x/sub2/s", "a/ghost/sub3/s"):
        client.document(path).set({"x": 1})
    assert [each.id for each in client.collections()] == ["a", "b"]
    assert [each.id for each in client.document("a/x").collections()] == ["sub1", "sub2"]
    assert [each.id for each in client.document("a/ghost").collections()] == ["sub3"]
    assert [each.id for each in client.collection("a").list_documents()] == ["ghost", "x"]


def listed(wire, collection="c", **request):
    """
    Paths in one page of a list.
    """
    request = {"parent": wire.root, "collection_id": collection, **request}
    page = call(wire, "ListDocuments", wire.pb("ListDocumentsResponse"), **request)
    return [each.name.removeprefix(wire.root + "/") for each in page.documents]


@pytest.fixture
def ranked(firestore_wire):
    """
    c/d0 to c/d5 with k, half of them with o; a missing c/ghost; a document elsewhere.
    """
    w = firestore_wire
    writes = [w.write(f"c/d{n}", {"k": n * 3 % 5, **({"o": n} if n % 2 else {})}) for n in range(6)]
    w.commit(*writes, w.write("c/ghost/s/1"), w.write("c/d1/s/1"), w.write("x/1"))
    return w


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("k", "052413"),
        ("k asc", "052413"),
        ("k  DESC", "314250"),
        ("`k`", "052413"),
        ("o", "135"),
        ("k, o desc", "513"),
        ("k desc, __name__", "314205"),
        ("__name__", "012345"),
    ],
)
def test_lists_by_fields(ranked, order, found):
    """In the order asked for; without the field, not at all."""
    assert listed(ranked, order_by=order) == [f"c/d{n}" for n in found]


@pytest.mark.parametrize("order", ["-k", "bad path!", " k", "k,", "k,k", "__name__,k", "k upwards"])
def test_ill_formed_orders_of_lists(ranked, order):
    """What is no order is refused."""
    assert ranked.outcome(listed, ranked, order_by=order) == INVALID
    assert ranked.outcome(listed, ranked, order_by="k", show_missing=True) == INVALID
    assert ranked.outcome(listed, ranked, "", show_missing=True) == INVALID
    assert ranked.outcome(listed, ranked, page_size=-1) == INVALID


def test_lists_of_all_collections(ranked):
    """Without a collection id, what lies right below the parent, in any collection."""
    w = ranked
    assert listed(w, "") == [*[f"c/d{n}" for n in range(6)], "x/1"]
    assert listed(w, "", parent=w.name("c/d1")) == ["c/d1/s/1"]


@pytest.mark.parametrize("how", [{}, {"order_by": "k desc"}, {"show_missing": True}])
def test_lists_of_the_past(ranked, how):
    """In a read-only transaction and at a past time, a list shows what was there."""
    w = ranked
    before = listed(w, **how)
    transaction, then = w.begin(read_only={}), w.batch_get("c/d0")[0].read_time
    listed(w, transaction=transaction)
    w.commit(w.write("c/new", {"k": 9}), w.delete("c/d0"), w.write("c/haunted/s/1"), w.delete("c/ghost/s/1"))
    assert listed(w, transaction=transaction, **how) == before
    assert listed(w, read_time=then, **how) == before
    assert listed(w, **how) != before
    answer = w.pb("ListCollectionIdsResponse")
    w.commit(w.write("fresh/a"))
    assert call(w, "ListCollectionIds", answer, parent=w.root, read_time=then).collection_ids == ["c", "x"]
    assert call(w, "ListCollectionIds", answer, parent=w.root).collection_ids == ["c", "fresh", "x"]


@pytest.mark.parametrize("path", ["c/d0", "c/phantom"])
def test_list_in_a_transaction_is_read(ranked, path):
    """A plain write to what was listed, or of what would be, and the transaction's commit: one of them is aborted."""
    w = ranked
    transaction = w.begin()
    listed(w, transaction=transaction)
    codes = {
        w.outcome(w.commit, w.write(path, {"k": 9})),
        w.outcome(w.commit, w.write("z/a"), transaction=transaction),
    }
    assert codes == {OK, grpc.StatusCode.ABORTED}
    assert w.outcome(listed, w, transaction=b"garbage") == INVALID


@pytest.mark.parametrize(("order", "found"), [("k", "052413"), ("k desc", "314250")])
def test_pages_by_a_field(ranked, firestore_server, order, found):
    """Page after page, none twice and none left out."""

    def pages():
        names, token = [], ""
        while True:
            page = call(
                ranked, "ListDocuments", ranked.pb("ListDocumentsResponse"),
                parent=ranked.root, collection_id="c", order_by=order, page_size=2, page_token=token,
            )  # fmt: skip
            names.append("".join(each.name[-1] for each in page.documents))
            token = page.next_page_token
            if not token:
                return names

    expected = firestore_server.expected("pages of a list by a field")
    assert ranked.outcome(pages) == expected
    if expected is OK:
        assert pages() == [found[at : at + 2] for at in (0, 2, 4)]


def test_missing_documents_come_in_pages(ranked):
    """Those that are there and those that are missing, each once."""
    w, names, token = ranked, [], ""
    while True:
        request = {"collection_id": "c", "page_size": 3, "page_token": token, "show_missing": True}
        page = call(w, "ListDocuments", w.pb("ListDocumentsResponse"), parent=w.root, **request)
        names.append([each.name.rpartition("/")[2] for each in page.documents])
        token = page.next_page_token
        if not token:
            break
    assert names == [["d0", "d1", "d2"], ["d3", "d4", "d5"], ["ghost"]]


def test_large_lists_come_in_pages(firestore_wire):
    """30 documents unless asked, 150 at most: who does not ask for the next page misses some."""
    w = firestore_wire
    w.commit(*[w.write(f"c/d{number:03}") for number in range(160)])
    assert len(listed(w)) == 30
    assert len(listed(w, page_size=1000)) == 150


def test_made_up_page_tokens_are_refused(ranked):
    """Only a token that was given out, for the same question."""
    w = ranked
    request = {"parent": w.root, "collection_id": "c", "page_size": 2}
    token = call(w, "ListDocuments", w.pb("ListDocumentsResponse"), **request).next_page_token
    assert listed(w, page_token=token, page_size=2) == ["c/d2", "c/d3"]
    assert w.outcome(listed, w, page_token="zzz") == INVALID
    collections = {"parent": w.root, "page_size": 1}
    answer = w.pb("ListCollectionIdsResponse")
    first = call(w, "ListCollectionIds", answer, **collections)
    second = call(w, "ListCollectionIds", answer, page_token=first.next_page_token, **collections)
    assert [*first.collection_ids, *second.collection_ids] == ["c", "x"]
    assert w.outcome(call, w, "ListCollectionIds", answer, parent=w.root, page_token="zzz") == INVALID
    assert w.outcome(call, w, "ListCollectionIds", answer, parent=w.root, page_size=-1) == INVALID


def test_page_token_of_another_list_is_refused(firestore_embedded_wire):
    """Another collection, order or parent: the token does not fit."""
    w = firestore_embedded_wire
    w.commit(*[w.write(f"{parent}c/d{n}", {"k": n}) for n in range(4) for parent in ("", "p/q/")])
    request = {"parent": w.root, "collection_id": "c", "page_size": 2}
    token = call(w, "ListDocuments", w.pb("ListDocumentsResponse"), **request).next_page_token
    assert w.outcome(listed, w, page_token="\u00fc") == INVALID
    for other in ({"collection": "d"}, {"order_by": "k"}, {"parent": w.name("p/q")}):
        assert w.outcome(listed, w, page_token=token, **other) == INVALID, other


@pytest.mark.parametrize("collection", ["a/b", "__x__"])
def test_bad_collection_ids_are_refused(firestore_wire, collection):
    """What can't be a collection's id is INVALID_ARGUMENT."""
    assert firestore_wire.outcome(create, firestore_wire, collection, "a") == INVALID
