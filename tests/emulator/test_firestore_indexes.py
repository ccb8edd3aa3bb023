"""
Queries that production would refuse for want of an index, as its documentation says.
"""

from __future__ import annotations

import json

import pytest
from google.api_core.exceptions import FailedPrecondition
from google.cloud import firestore
from google.cloud.firestore import And, FieldFilter, Or
from google.cloud.firestore_v1.types import Document

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer, IndexCheck
from gcp_emulator.firestore.indexes import AUTOMATIC

FILE = {
    "indexes": [
        {
            "collectionGroup": "c",
            "queryScope": "COLLECTION",
            "fields": [{"fieldPath": "kind", "order": "ASCENDING"}, {"fieldPath": "due", "order": "ASCENDING"}],
        },
        {
            "collectionGroup": "c",
            "queryScope": "COLLECTION",
            "fields": [{"fieldPath": "env", "order": "ASCENDING"}, {"fieldPath": "due", "order": "ASCENDING"}],
        },
        {
            "collectionGroup": "c",
            "fields": [{"fieldPath": "tags", "arrayConfig": "CONTAINS"}, {"fieldPath": "due", "order": "DESCENDING"}],
        },
    ],
    "fieldOverrides": [
        {"collectionGroup": "c", "fieldPath": "lock", "indexes": []},
        {
            "collectionGroup": "c",
            "fieldPath": "lock.due",
            "indexes": [{"order": "ASCENDING", "queryScope": "COLLECTION"}],
        },
        {
            "collectionGroup": "c",
            "fieldPath": "wide",
            "indexes": [{"order": "ASCENDING", "queryScope": "COLLECTION_GROUP"}],
        },
    ],
}


@pytest.fixture(scope="module")
def client() -> firestore.Client:
    """
    A client of a server that knows the file.
    """
    check = IndexCheck.from_json(json.dumps(FILE))
    return firestore_client(InProcessChannel([FirestoreServer(indexes=check).service]), "p")


def f(path, operator, value=1):
    return FieldFilter(path, operator, value)


SERVED = {
    "one equality": lambda c: c.where(filter=f("x", "==")),
    "one range": lambda c: c.where(filter=f("x", ">")),
    "one order, either way": lambda c: c.order_by("x", direction="DESCENDING"),
    "equalities, merged": lambda c: c.where(filter=And([f("x", "=="), f("y", "=="), f("z", "==")])),
    "in, as equalities": lambda c: c.where(filter=f("x", "in", [1, 2])),
    "array-contains": lambda c: c.where(filter=f("tags", "array_contains")),
    "either of two equalities": lambda c: c.where(filter=Or([f("x", "=="), f("y", "==")])),
    "by name": lambda c: c.order_by("__name__"),
    "equality and range with its composite": lambda c: c.where(filter=And([f("kind", "=="), f("due", ">")])),
    "the same, backwards": lambda c: c.where(filter=f("kind", "==")).order_by("due", direction="DESCENDING"),
    "two composites, merged": lambda c: c.where(filter=And([f("kind", "=="), f("env", "=="), f("due", ">")])),
    "array-contains with its composite": lambda c: c.where(filter=f("tags", "array_contains")).order_by("due"),
    "a field kept out of an exempted map's exemption": lambda c: c.where(filter=f("lock.due", "<")).order_by(
        "lock.due"
    ),
}
REFUSED = {
    "equality and range": lambda c: c.where(filter=And([f("x", "=="), f("y", ">")])),
    "equality and another order": lambda c: c.where(filter=f("x", "==")).order_by("y"),
    "ranges on two fields": lambda c: c.where(filter=And([f("x", ">"), f("y", ">")])),
    "two orders": lambda c: c.order_by("x").order_by("y"),
    "two orders, one composite the wrong way": lambda c: c.order_by("kind").order_by("due", direction="DESCENDING"),
    "array-contains and an order": lambda c: c.where(filter=f("labels", "array_contains")).order_by("due"),
    "one disjunct without": lambda c: c.where(filter=Or([f("x", "=="), And([f("x", "=="), f("y", ">")])])),
    "an exempted field": lambda c: c.where(filter=f("lock", "==")),
    "a field in an exempted map": lambda c: c.where(filter=f("lock.status", "==")),
    "an order by a field kept in ascending order only, and an equality": lambda c: c.where(
        filter=f("x", "==")
    ).order_by("lock.due"),
    "a field indexed for the group only": lambda c: c.where(filter=f("wide", "==")),
}


@pytest.mark.parametrize("name", SERVED)
def test_served(client, name):
    """An automatic index, a composite, or a merge of them is there."""
    assert list(SERVED[name](client.collection("c")).stream()) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_add(client, name):
    """FAILED_PRECONDITION, and the sentence is the index to be added."""
    with pytest.raises(FailedPrecondition, match="requires an index") as caught:
        list(REFUSED[name](client.collection("c")).stream())
    wanted = json.loads(str(caught.value).partition("Add: ")[2])
    assert wanted["collectionGroup"] == "c"
    assert wanted["fields"]


def test_what_the_refusal_says_to_add_is_enough(client):
    """A file with the index that the sentence names serves the query."""
    query = REFUSED["array-contains and an order"]
    with pytest.raises(FailedPrecondition) as caught:
        list(query(client.collection("c")).stream())
    mended = {**FILE, "indexes": [*FILE["indexes"], json.loads(str(caught.value).partition("Add: ")[2])]}
    server = FirestoreServer(indexes=IndexCheck.from_json(json.dumps(mended)))
    again = firestore_client(InProcessChannel([server.service]), "p")
    assert list(query(again.collection("c")).stream()) == []


def test_groups_need_indexes_of_their_own(client):
    """No field is indexed for a collection group by itself; all documents of one are found without."""
    group = client.collection_group("c")
    assert list(group.stream()) == []
    assert list(group.where(filter=f("wide", "==")).stream()) == []
    with pytest.raises(FailedPrecondition):
        list(group.where(filter=f("x", "==")).stream())


def test_aggregations_are_checked_too(client):
    """A sum under an equality on another field needs a composite."""
    with pytest.raises(FailedPrecondition):
        client.collection("c").where(filter=f("x", "==")).sum("n").get()
    assert client.collection("c").sum("n").get()


def test_entries_of_a_document():
    """
    Two for each field, one more for each element of an array, none for exempted ones; one for each composite, or for
    each element of the array in it; and their bytes by the documented calculation.
    """
    check = IndexCheck.from_json(json.dumps(FILE))
    fields = {"x": 1, "tags": ["a", "b"], "lock": {"due": "d", "status": "s", "token": 4}, "kind": "k", "due": "t"}

    def entries(path):
        made = Document.pb()(name=f"projects/p/databases/(default)/documents/{path}")
        for name, field in fields.items():
            made.fields[name].CopyFrom(_value(field))
        return check.entries(made)

    plain = 2 + 2 + 2  # x, kind, due
    assert entries("c/a")[0] == plain + (2 + 2) + 1 + 1 + 2  # tags, lock.due, (kind, due) and (tags, due)
    assert entries("other/a")[0] == plain + (2 + 2) + 3 * 2
    # Each entry: the document's name (16 + 2 + 2), 32, and for a single field its name (2) and its value (8 or 2).
    made = Document.pb()(name="projects/p/databases/(default)/documents/z/a")
    made.fields["x"].CopyFrom(_value(1))
    assert AUTOMATIC.entries(made) == (2, 2 * (20 + 32 + 2 + 8))
    made.fields["y"].CopyFrom(_value("t" * 5000))
    assert AUTOMATIC.entries(made) == (4, 2 * (20 + 32 + 2 + 8) + 2 * (20 + 32 + 2 + 1500))


def test_file_that_is_none_is_named():
    """What is no index file is a ValueError."""
    with pytest.raises(ValueError, match=r"firestore\.indexes\.json"):
        IndexCheck.from_json('{"indexes": [{"fields": []}]}')


def _value(data):
    from google.cloud.firestore_v1._helpers import encode_value

    made = encode_value(data)
    return type(made).pb(made)
