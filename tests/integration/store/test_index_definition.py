"""
The index definition: every query of the library has what it needs in production, nothing more is written than that.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import FailedPrecondition
from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.types import Document

from gcp_emulator.firestore import IndexCheck
from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import Attempt, Config, Locker, StoreError, UsageError, sweep
from gcp_oncetask.cli import main
from gcp_oncetask.rules.record import STORED_NAMES
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.indexes import LIBRARY, definition, merged, to_text
from gcp_oncetask.store.names import named
from gcp_oncetask.store.queries import count_range, due_for_workers, first_in_range, parked
from gcp_oncetask.store.sessions import all_of, leaving_query
from gcp_oncetask.store.store import Store
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.tasks.reads import first_due
from gcp_oncetask.testing.cloud import TestClock
from tests.support.orders import Order, make_shop

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLLECTIONS = ("orders", "shops/berlin/orders", "customers/{customer_id}/invoices")
MOST = 6
"""Index entries that a document may have on the library's account."""


def made(cloud: InProcessCloud, *collections: str, database: str = "(default)") -> Locker:
    """
    A locker on *cloud* that sweeps *collections*.
    """
    config = Config(
        project=cloud.project,
        location="us-central1",
        base_url="https://orders.test",
        verify="off",
        collections=collections,
        database=database,
    )
    clock = TestClock(cloud.clock)
    return Locker(cloud.firestore_client(database), config=config, tasks=cloud.tasks_client(), clock=clock)


class Mail(TaskData, kind="mail", pull=True):
    number: int = 0

    def resource_key(self) -> str:
        return "ann"


def swept(*collections: str) -> Callable[[InProcessCloud], Any]:
    return lambda cloud: sweep(made(cloud), collections=collections)


def asked(query: Callable[[TaskManager], Any]) -> Callable[[InProcessCloud], Any]:
    return lambda cloud: query(TaskManager(made(cloud)))


def of_store(query: Callable[[Store], Any]) -> Callable[[InProcessCloud], Any]:
    return lambda cloud: query(made(cloud)._runtime.store)


# Query -> (how it is asked, the definition without what serves it)
def sought(*collections: str) -> Callable[[InProcessCloud], Any]:
    return lambda cloud: [made(cloud, *collections).find(collection=each) for each in collections or ("onceTasks",)]


QUERIES: dict[str, tuple[Callable[[InProcessCloud], Any], tuple[str, str]]] = {
    "what is due of the once-tasks": (swept("onceTasks"), ("onceTasks", "lock.due")),
    "what is due of the named locks": (swept("onceLocks"), ("onceLocks", "lock.due")),
    "once-tasks that need a person": (sought(), ("onceTasks", "lock.attention")),
    "documents of a collection that need a person": (sought("orders"), ("orders", "lock.attention")),
    "documents of a subcollection that need a person": (sought("shops/berlin/orders"), ("orders", "lock.attention")),
    "documents of a template that need a person": (
        sought("customers/{customer_id}/invoices"),
        ("invoices", "lock.attention"),
    ),
    "collections of the registry": (
        lambda cloud: made(cloud)._runtime.registry.all(),
        ("onceLocks", "registry"),
    ),
    "named locks and keys by name": (
        of_store(lambda s: list(named(s, "graph", page=1))),
        ("onceLocks", "name"),
    ),
    "what is due of a collection": (swept("orders"), ("orders", "lock.due")),
    "what is due of a subcollection": (swept("shops/berlin/orders"), ("orders", "lock.due")),
    "what is due of a template": (swept("customers/{customer_id}/invoices"), ("invoices", "lock.due")),
    "tasks of a resource key": (asked(lambda m: m.get_tasks_by_resource_key(Mail, "ann")), ("onceTasks", "resource")),
    "tasks of a key that have not ended": (
        asked(lambda m: m.cancel_tasks_by_resource_key(Mail, "ann")),
        ("onceTasks", "resource"),
    ),
    "tasks that wait for a resource key": (
        of_store(lambda s: parked(s, "E/ann", limit=2)),
        ("onceTasks", "lock.parked"),
    ),
    "whether a child is open": (
        of_store(lambda s: count_range(s, "parent", "a/open", "a/open", most=1)),
        ("onceTasks", "parent"),
    ),
    "open children": (
        of_store(lambda s: first_in_range(s, "parent", "a/open", "a/open", limit=2)),
        ("onceTasks", "parent"),
    ),
    "how many tasks have a status": (asked(lambda m: m.count(Mail)), ("onceTasks", "state")),
    "how many tasks are pending": (asked(lambda m: m.get_pending_count(Mail)), ("onceTasks", "state")),
    "all tasks of a kind": (asked(lambda m: m.clear(Mail)), ("onceTasks", "state")),
    "what is due for workers": (
        of_store(lambda s: due_for_workers(s, "E", "mail", range(20), 10)),
        ("onceTasks", "lock.due"),
    ),
    "what is due for workers first": (
        asked(lambda m: first_due(m._runtime, ["mail"], None)),
        ("onceTasks", "lock.due"),
    ),
    "sessions of the workers": (of_store(lambda s: all_of(s, "E")), ("onceSessions", "live")),
    "workers that leave": (
        of_store(lambda s: s.wire.run_query(leaving_query(s, "E"))),
        ("onceSessions", "left"),
    ),
}


def without(group: str, field: str) -> dict[str, Any]:
    """
    The definition less the index that has *field*.
    """
    data = definition(COLLECTIONS)
    for each in data["fieldOverrides"]:
        if (each["collectionGroup"], each["fieldPath"]) == (group, field):
            each["indexes"] = []
    return data


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_its_index(name: str) -> None:
    """
    The embedded server refuses what production would refuse; it refuses none of these.
    """
    QUERIES[name][0](InProcessCloud(indexes=to_text(definition(COLLECTIONS))))


@pytest.mark.parametrize("name", QUERIES)
def test_query_without_its_index_is_refused(name: str) -> None:
    """
    Each index of the definition is needed by a query.
    """
    ask, index = QUERIES[name]
    with pytest.raises((FailedPrecondition, StoreError, WireError), match="requires an index"):
        ask(InProcessCloud(indexes=to_text(without(*index))))


def test_every_index_of_the_definition_is_needed() -> None:
    """
    What is indexed appears among the queries above: nothing is kept that no query uses.
    """
    data = definition(COLLECTIONS)
    kept = {(each["collectionGroup"], each["fieldPath"]) for each in data["fieldOverrides"] if each["indexes"]}

    # The definition treats the library's collections alike, and a search leaves named locks and keys out.
    assert kept - {("onceLocks", "lock.attention")} == {index for _, index in QUERIES.values()}
    assert data["indexes"] == []


def test_a_whole_life_runs_on_the_definition() -> None:
    """
    Schedule, deliver, lose the dispatch, sweep, in another database as well: no query is refused.
    """
    for database in ("(default)", "orders-eu"):
        cloud = InProcessCloud(indexes=to_text(definition(["orders"])))
        locker = made(cloud, "orders", database=database)
        cloud.faults.fail("CreateTask", times=2)
        locker.schedule(Order(id="1"), "/tasks/order")
        cloud.clock.advance(120)
        assert sweep(locker, collections=("orders",)).dispatched == 1
        assert [task.name for task in cloud.tasks.tasks()]


# --- entries ----------------------------------------------------------------------------------------------------------


def stored(group: str = "onceTasks", /, **fields: Any) -> Any:
    """
    A document as stored.
    """
    document = Document(name=f"projects/p/databases/(default)/documents/{group}/x")
    document.fields = _helpers.encode_dict(fields)
    return Document.pb(document)


FULL_LOCK = {
    **dict.fromkeys(STORED_NAMES.values(), "x"),
    "errors": [{"at": NOW, "attempt": 1, "sequence": 1, "message": "x"}] * 10,
    "result": {"a": [1, 2, 3], "b": {"c": 1}},
    "params": {"list": list(range(100))},
    "headers": {"X-A": "1"},
}
TASK = {
    "id": "42",
    "kind": "mail",
    "env": "E",
    "data": {"order_id": "42", "amounts": [1, 2, 3], "nested": {"deep": [1]}},
    "dataHash": "abc",
    "resourceKey": "ann",
    "createdAt": NOW,
    "doneAt": NOW,
    "recurrence": {"rrule": "FREQ=DAILY", "exdates": [NOW]},
    "lastOccurrence": "onceTasks/x",
    "retentionSeconds": 60.0,
    "state": "E/mail/scheduled/0",
    "resource": "E/mail/ann/live/0",
    "parentPath": "onceTasks/y",
    "parentRecurrenceId": "7",
    "occurrenceAt": NOW,
    "expireAt": NOW,
    "schema": 1,
    "lock": {**FULL_LOCK, "parked": "E/ann/x"},
}


@pytest.fixture(scope="module")
def check() -> IndexCheck:
    """
    The index check with the definition.
    """
    return IndexCheck.from_json(to_text(definition(COLLECTIONS)))


def test_fullest_task_has_at_most_six_entries(check: IndexCheck) -> None:
    """
    A once-task with every field there is: due, attention, parked, its key's and its kind's index; payloads of any size cost none.
    """
    assert check.entries(stored(**TASK))[0] == 5 <= MOST


@pytest.mark.parametrize(
    ("gone", "entries"),
    [
        pytest.param({"lock.parked", "lock.attention"}, 3, id="scheduled"),
        pytest.param({"lock.parked", "lock.attention", "resource"}, 2, id="scheduled, without a resource key"),
        pytest.param({"lock.parked", "lock.attention", "lock.due"}, 2, id="finished"),
        pytest.param({"lock.parked", "lock.due"}, 3, id="failed"),
        pytest.param(
            {"lock.parked", "lock.attention", "lock.due", "resource"}, 1, id="finished, without a resource key"
        ),
    ],
)
def test_task_has_few_entries(check: IndexCheck, gone: set[str], entries: int) -> None:
    """
    ``due``, ``attention`` and ``parked`` are indexed while they stand for something; a task without a key has no entry for it.
    """
    lock = {key: value for key, value in TASK["lock"].items() if f"lock.{key}" not in gone}
    task = {key: value for key, value in {**TASK, "lock": lock}.items() if key not in gone}

    assert check.entries(stored(**task))[0] == entries


def test_lock_costs_a_users_document_one_entry(check: IndexCheck) -> None:
    """
    However much is in the lock, and one more while a person is needed; the user's own fields are indexed as they were.
    """
    plain = check.entries(stored("orders", amount=1, email="x"))[0]
    usual = {name: value for name, value in FULL_LOCK.items() if name != "attention"}

    assert check.entries(stored("orders", amount=1, email="x", lock=usual))[0] == plain + 1
    assert check.entries(stored("orders", amount=1, email="x", lock=FULL_LOCK))[0] == plain + 2


def test_child_has_one_entry_more(check: IndexCheck) -> None:
    """
    That of the text by which its parent asks whether a child is open.
    """
    plain = check.entries(stored("onceTasks", **TASK))[0]

    assert check.entries(stored("onceTasks", **TASK, parent="a/open"))[0] == plain + 1


def test_named_lock_has_one_entry_that_no_acquire_or_release_writes(check: IndexCheck) -> None:
    """
    That of its name; its environment, the lock's attributes and the time of its TTL cost none.
    """
    cloud = InProcessCloud(indexes=to_text(definition()))
    lock = made(cloud).lock("graph", ttl=60)
    entries = []
    for act in (lock.acquire, lock.refresh, lock.release, lock.acquire):
        act()
        found = cloud.firestore_client().document(lock.document).get().to_dict()
        entries.append((check.entries(stored("onceLocks", **found))[0], found["name"]))

    assert entries == [(1, "graph")] * 4


def test_a_life_writes_four_entries(check: IndexCheck) -> None:
    """
    Of a one-step task: one in with the schedule, one out and one in with the claim, one out with the end.
    """
    cloud = InProcessCloud(indexes=to_text(definition(["orders"])))
    shop = make_shop(locker=made(cloud, "orders"))
    cloud.mount("https://orders.test", shop.app)
    document = cloud.firestore_client().document("orders/1")
    dues: list[str | None] = [None]

    def at_charge(order: Order, attempt: Attempt) -> None:
        dues.append(document.get().get("lock.due"))

    shop.on_charge = at_charge
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    dues.append(document.get().get("lock.due"))
    cloud.run_until_idle()
    after = document.get().to_dict()
    dues.append(after["lock"].get("due"))

    assert after["lock"]["status"] == "completed"
    assert sum(len({old, new} - {None}) for old, new in itertools.pairwise(dues) if old != new) == 4 <= MOST
    plain = check.entries(stored("orders", **{name: value for name, value in after.items() if name != "lock"}))[0]
    assert check.entries(stored("orders", **after))[0] == plain


# --- the file ---------------------------------------------------------------------------------------------------------


def test_checked_in_file_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    ``python -m gcp_oncetask indexes write`` has nothing to change in it.
    """
    monkeypatch.chdir(ROOT)

    assert main(["indexes", "write"]) == 0
    assert capsys.readouterr().out == "firestore.indexes.json: up to date\n"
    assert (ROOT / "firestore.indexes.json").read_text() == to_text(definition())


def test_write_keeps_what_the_user_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Own indexes and overrides stay, ours are set once, however often it is run.
    """
    own_index = {
        "collectionGroup": "orders",
        "queryScope": "COLLECTION",
        "density": "SPARSE_ALL",
        "fields": [{"fieldPath": "email", "order": "ASCENDING"}, {"fieldPath": "amount", "order": "DESCENDING"}],
    }
    own_override = {"collectionGroup": "orders", "fieldPath": "note", "indexes": []}
    stale = {"collectionGroup": "orders", "fieldPath": "lock", "indexes": [{"order": "ASCENDING"}]}
    path = tmp_path / "firestore.indexes.json"
    path.write_text(json.dumps({"indexes": [own_index], "fieldOverrides": [own_override, stale]}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONCETASK_COLLECTIONS", "orders")
    assert main(["indexes", "write"]) == 0
    once = path.read_text()
    assert main(["indexes", "write"]) == 0

    data = json.loads(once)
    assert path.read_text() == once
    assert data["indexes"] == [own_index]
    assert data["fieldOverrides"] == [own_override, *definition(["orders"])["fieldOverrides"]]


@pytest.mark.parametrize("text", ["{", "[]", '{"indexes": [{}]}', '{"fieldOverrides": 3}'])
def test_damaged_file_is_left_as_it_is(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    An error that names the file; nothing is lost.
    """
    path = tmp_path / "firestore.indexes.json"
    path.write_text(text)

    assert main(["indexes", "write", "--file", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == text


def test_group_of_a_path_and_of_a_template_has_both_scopes() -> None:
    """
    The sweeper asks one collection of the first, and all of them for the second.
    """
    data = definition(["orders", "customers/{customer_id}/orders"])
    [due] = [o for o in data["fieldOverrides"] if (o["collectionGroup"], o["fieldPath"]) == ("orders", "lock.due")]

    assert [each["queryScope"] for each in due["indexes"]] == ["COLLECTION", "COLLECTION_GROUP"]


@pytest.mark.parametrize("path", ["", "orders/42", "orders/", "customers/{id}", "a/{b}/{c}"])
def test_what_is_no_collection_is_refused(path: str) -> None:
    """
    A sentence that shows how one looks.
    """
    with pytest.raises(UsageError, match="is not a collection"):
        definition([path])


def test_user_indexes_are_not_merged_into_nonsense() -> None:
    """
    What is no index file is refused, whatever it is.
    """
    with pytest.raises(UsageError):
        merged({"indexes": 3}, definition())


def test_only_finished_documents_can_expire() -> None:
    """
    One TTL field in each of the library's collections, none in a user's; it needs no index.
    """
    data = definition(COLLECTIONS)
    ttl = {each["collectionGroup"]: each for each in data["fieldOverrides"] if each.get("ttl")}

    assert set(ttl) == set(LIBRARY)
    assert {each["fieldPath"] for each in ttl.values()} == {"expireAt"}
    assert all(each["indexes"] == [] for each in ttl.values())
