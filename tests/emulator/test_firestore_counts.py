"""
Counts by the entries of an index alone, and the same by a look at each document.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.firestore import FieldFilter, Or

from gcp_emulator.firestore import execution
from gcp_emulator.testing import InProcessCloud

Queried = Callable[[Any], Any]
BY_INDEX: dict[str, Queried] = {
    "all": lambda things: things,
    "equality": lambda things: things.where(filter=FieldFilter("n", "==", 3)),
    "range": lambda things: things.where(filter=FieldFilter("n", ">=", 2)).where(filter=FieldFilter("n", "<", 7)),
    "nothing": lambda things: things.where(filter=FieldFilter("n", ">", 100)),
    "those with a field": lambda things: things.order_by("odd"),
    "range, descending": lambda things: things.where(filter=FieldFilter("n", ">", 2)).order_by(
        "n", direction="DESCENDING"
    ),
}
BY_DOCUMENT: dict[str, Queried] = {
    "limit": lambda things: things.where(filter=FieldFilter("n", ">=", 2)).limit(3),
    "offset": lambda things: things.order_by("n").offset(4),
    "two fields": lambda things: things.where(filter=FieldFilter("n", ">=", 2)).where(
        filter=FieldFilter("odd", "==", True)
    ),
    "another order": lambda things: things.where(filter=FieldFilter("n", "==", 3)).order_by("odd"),
    "either": lambda things: things.where(filter=Or([FieldFilter("n", "==", 1), FieldFilter("n", ">", 6)])),
    "exclusion": lambda things: things.where(filter=FieldFilter("n", "!=", 3)),
    "array": lambda things: things.where(filter=FieldFilter("tags", "array_contains", "a")),
    "cursor": lambda things: things.order_by("n").start_at({"n": 4}),
}


@pytest.fixture
def things(gcp_emulator: InProcessCloud) -> Any:
    """
    A collection of ten documents with numbers, some with ``odd`` and ``tags``; beside it another one, and one below it.
    """
    client = gcp_emulator.firestore_client()
    for number in range(10):
        fields = {"n": number} | ({"odd": True, "tags": ["a", "b", "a"]} if number % 2 else {})
        client.document(f"things/{number}").set(fields)
        client.document(f"others/{number}").set(fields)
    client.document("things/1/things/1").set({"n": 1})
    return client.collection("things")


def counted(query: Any) -> int:
    """
    The answer of the aggregation.
    """
    return int(query.count().get()[0][0].value)


@pytest.mark.parametrize("name", BY_INDEX)
def test_count_of_one_range_looks_at_no_document(things: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    query = BY_INDEX[name](things)
    found = len(query.get())

    def looks(*_: object) -> None:
        pytest.fail("it looks at documents")

    monkeypatch.setattr(execution, "_rows", looks)
    assert counted(query) == found


@pytest.mark.parametrize("name", BY_DOCUMENT)
def test_other_counts_are_those_of_the_results(things: Any, name: str) -> None:
    query = BY_DOCUMENT[name](things)
    assert counted(query) == len(query.get()) > 0


def test_count_is_billed_by_the_entries(gcp_emulator: InProcessCloud, things: Any) -> None:
    """
    A read for each thousand index entries, and one for none.
    """
    batch = things._client.bulk_writer()
    for number in range(1500):
        batch.create(things.document(f"x{number}"), {"m": number})
    batch.close()
    before = gcp_emulator.firestore.reads
    assert counted(things.where(filter=FieldFilter("m", ">=", 0))) == 1500
    assert gcp_emulator.firestore.reads - before == 2
    assert counted(things.where(filter=FieldFilter("m", ">", 1500))) == 0
    assert gcp_emulator.firestore.reads - before == 3
