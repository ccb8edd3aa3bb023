"""
The registry of collections and origins against the local Firestore: how often it is read, and what a forgotten entry means.
"""

from __future__ import annotations

import logging

import pytest
from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask.rules.document_paths import TASKS
from gcp_oncetask.store.registry import LINGERS, Origin, Registered, Registry, _LookedUp
from gcp_oncetask.testing.cloud import TestClock
from tests.support.base import Base, mark

HERE = Origin("https://orders.example", "https://orders.example")
THERE = Origin("https://bills.example", "bills")


def registry_of(base: Base) -> Registry:
    return Registry(base.store, TestClock(base.cloud.clock), "E")


def reads(base: Base) -> int:
    counts = base.cloud.firestore.counts
    return int(counts["BatchGetDocuments"] + counts["RunQuery"])


# --- a part that is read again ------------------------------------------------------------------------------------------


def test_part_is_read_again_only_when_it_is_old() -> None:
    stored = {"a": 1}
    looked: list[dict[str, int]] = []

    def read() -> dict[str, int]:
        looked.append(dict(stored))
        return looked[-1]

    part = _LookedUp[dict[str, int]]()

    def find(at: float, name: str) -> int | None:
        return part.find(mark(at), read, lambda known: known.get(name))

    assert (find(0, "a"), len(looked)) == (1, 1)
    assert (find(3599, "a"), len(looked)) == (1, 1), "an entry that is known holds for an hour"
    stored["b"] = 2
    assert (find(3600, "a"), len(looked)) == (1, 2)
    stored["c"] = 3
    assert (find(3609, "c"), len(looked)) == (None, 2), "another read within ten seconds would be no news"
    assert (find(3610, "c"), len(looked)) == (3, 3)
    assert (find(3611, "d"), len(looked)) == (None, 3)
    assert (find(3620, "d"), len(looked)) == (None, 4)


# --- collections ----------------------------------------------------------------------------------------------------------


def test_registration_costs_one_read_an_hour(base: Base) -> None:
    registry = registry_of(base)
    before = reads(base)
    registry.register("orders", HERE)
    registry.register("orders", HERE)
    assert reads(base) - before == 1
    base.cloud.clock.advance(3600)
    registry.register("orders")
    assert reads(base) - before == 2
    registry.register(TASKS)
    registry.register(None)
    assert reads(base) - before == 2, "once-tasks need no collection"
    assert [each.collection for each in registry.all()[0]] == ["orders"]
    assert registry.origins() == {HERE.origin: HERE.audience}


def test_collection_of_a_path(base: Base) -> None:
    registry_of(base).register("customers/{customer}/orders")
    registry = registry_of(base)
    assert registry.template_of(f"{TASKS}/x") == TASKS
    assert registry.template_of("bills/1", ["bills"]) == "bills"
    assert registry.template_of("customers/ann/orders/1") == "customers/{customer}/orders"
    assert registry.template_of("customers/1") is None


def test_forgotten_collection_counts_for_a_day(base: Base) -> None:
    registry_of(base).register("orders")
    registry_of(base).forget("orders")
    [known] = registry_of(base).all()[0]
    assert known.forgotten_at is not None
    assert known.swept_until == known.forgotten_at + LINGERS
    assert registry_of(base).template_of("orders/1") == "orders"
    base.cloud.clock.advance(LINGERS.total_seconds())
    assert registry_of(base).template_of("orders/1") is None
    assert registry_of(base).template_of("orders/1", forgotten=True) == "orders"
    registry_of(base).remember("orders")
    assert registry_of(base).template_of("orders/1") == "orders"
    assert registry_of(base).all()[0][0].swept_until is None


def test_collection_that_this_process_forgot_is_registered_again_by_its_next_schedule(base: Base) -> None:
    registry = registry_of(base)
    registry.register("orders")
    registry.forget("orders")
    registry.register("orders")
    assert registry.all()[0][0].forgotten_at is None


def test_entry_of_a_release_with_another_schema_stays(base: Base) -> None:
    """
    Two releases at once do not write it in turns; one without a schema is completed.
    """
    registry_of(base).register("orders", HERE)
    documents = list(base.wire.client.collection("onceLocks").stream())
    for document in documents:
        document.reference.update({"schema": 2})
    writes = base.cloud.firestore.writes
    registry_of(base).register("orders", HERE)
    assert base.cloud.firestore.writes == writes
    for document in documents:
        document.reference.update({"schema": DELETE_FIELD})
    registry_of(base).register("orders", HERE)
    assert {one.get("schema") for one in base.wire.client.collection("onceLocks").stream()} == {1}
    assert len(documents) == 2


def test_only_registered_collections_are_forgotten(base: Base) -> None:
    registry_of(base).forget("bills")
    assert registry_of(base).all()[0] == []


def test_time_that_was_written_by_hand_forgets_nothing(base: Base) -> None:
    registry_of(base).register("orders")
    [document] = base.wire.client.collection("onceLocks").stream()
    document.reference.update({"forgottenAt": "yesterday"})
    assert registry_of(base).all()[0] == [Registered("orders")]


def test_entry_is_changed_only_as_it_was_read(base: Base) -> None:
    """
    Another process may forget or remember it at the same time.
    """
    registry = registry_of(base)
    registry.register("orders")
    path = registry._path("orders")
    seen = base.store.read_all([path])
    forgets = registry._forgotten(seen)
    assert forgets.writes[0].current_document.update_time == seen[path].version
    registry.forget("orders")
    seen = base.store.read_all([path])
    remembers = registry._remembered({path: "orders"}, seen)
    assert remembers.writes[0].current_document.update_time == seen[path].version


# --- origins ---------------------------------------------------------------------------------------------------------------


def test_audience_of_an_origin(base: Base) -> None:
    registry_of(base).register(None, THERE)
    registry = registry_of(base)
    assert registry.audience(THERE.origin) == "bills"
    assert registry.audience("https://else.example") is None


def test_origin_that_is_forgotten(base: Base) -> None:
    registry = registry_of(base)
    registry.register("orders", HERE)
    registry.register(None, THERE)
    registry.forget_origin(THERE.origin)
    assert registry.origins() == {HERE.origin: HERE.audience}
    registry.forget_origin(THERE.origin)
    assert registry.origins() == {HERE.origin: HERE.audience}, "a second time does nothing"
    before = reads(base)
    registry.register("orders", HERE)
    assert reads(base) == before, "the others are still known as registered"
    registry.register(None, THERE)
    assert registry.origins() == {HERE.origin: HERE.audience, THERE.origin: THERE.audience}


def test_document_that_registers_nothing_is_logged(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    registry = registry_of(base)
    registry.register("orders", HERE)
    locks = base.wire.client.collection("onceLocks")
    for document in list(locks.stream()):
        field = "origin" if "origin" in document.to_dict() else "collection"
        document.reference.update({field: 5})
    caplog.set_level(logging.ERROR, "gcp_oncetask")
    assert registry.origins() == {}
    assert registry.all()[0] == []
    assert [record.getMessage().split(" ", 1)[1] for record in caplog.records] == [
        "registers no origin",
        "registers no collection",
    ]
