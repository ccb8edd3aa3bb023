"""
The queries of sweeps and workers against the local Firestore: what they find, in which order, past damaged records, and by how
many calls.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from gcp_oncetask.checks.values import LATEST
from gcp_oncetask.errors import DamagedError, StoreError
from gcp_oncetask.rules.document_paths import parked_prefix
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store import queries
from gcp_oncetask.store.codec import DocumentType, put
from gcp_oncetask.store.lock_codec import encode_lock
from gcp_oncetask.store.snapshot import Snapshot, snapshot_of
from tests.support.base import NOW, Base

KEY = "k"


def names(found: list[Snapshot]) -> list[str]:
    return [each.path.rpartition("/")[2] for each in found]


# --- tasks that wait for a key ----------------------------------------------------------------------------------------


def wait(base: Base, name: str, number: int, key: str = KEY, *, sound: bool = True) -> None:
    place = f"{parked_prefix('E', key)}/{base.at(number)}/{base.at(0)}"
    base.set(f"onceTasks/{name}", sound=sound, parked=place)


def test_tasks_that_wait_come_in_their_order(base: Base) -> None:
    for name, number in (("c", 3), ("a", 1), ("b", 2)):
        wait(base, name, number)
    wait(base, "other", 0, key="k2")
    prefix = parked_prefix("E", KEY)
    assert names(queries.parked(base.store, prefix, limit=2)) == ["a", "b"]
    assert names(queries.parked(base.store, prefix, limit=3)) == ["a", "b", "c"]
    assert names(queries.parked(base.store, prefix, limit=9)) == ["a", "b", "c"]
    assert base.calls() == 3


def test_damaged_tasks_are_set_aside_and_do_not_hide_those_behind_them(base: Base) -> None:
    """
    Each once, however often the query is made larger.
    """
    for number in range(9):
        wait(base, f"d{number}", number, sound=False)
    for number in (20, 21, 22):
        wait(base, f"s{number}", number)
    prefix = parked_prefix("E", KEY)
    assert names(queries.parked(base.store, prefix, limit=2, aside=base.put_aside)) == ["s20", "s21"]
    assert sorted(base.aside) == [f"onceTasks/d{number}" for number in range(9)]
    assert base.calls() == 3, "2, 8 and 32 documents"
    with pytest.raises(DamagedError):
        queries.parked(base.store, prefix, limit=2)
    base.aside.clear()
    assert names(
        queries.first_in_range(base.store, "lock.parked", f"{prefix}/", f"{prefix}/~", limit=10, aside=base.put_aside)
    ) == ["s20"]
    assert len(base.aside) == 9


def test_keys_for_which_tasks_wait(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Page by page, past the tasks of a key that were seen, and past places that were written by hand.
    """
    monkeypatch.setattr(queries, "_WAITERS", 2)
    for number in range(5):
        wait(base, f"a{number}", number, key="a", sound=number != 0)
    wait(base, "b0", 0, key="b/c")
    base.set("onceTasks/h1", parked="E/by hand")
    base.set("onceTasks/h2", parked="E/by hand, too")
    wait(base, "z0", 0, key="z")
    base.set("onceTasks/f1", parked="F/x")
    pages = list(queries.waited_for(base.store, "E"))
    assert [key for page in pages for key in page] == ["a", "b/c", "z"]
    assert base.calls() == len(pages) == 4
    monkeypatch.setattr(queries, "_WAITERS", 100)
    assert list(queries.waited_for(base.store, "E")) == [["a", "b/c", "z"]]
    assert list(queries.waited_for(base.store, "G")) == [[]]
    base.cloud.faults.fail("RunQuery", code=grpc.StatusCode.INTERNAL)
    with pytest.raises(StoreError, match=r"looking at lock\.parked in onceTasks") as raised:
        list(queries.waited_for(base.store, "E"))
    assert raised.value.facts["unknown"] is False


# --- ranges -----------------------------------------------------------------------------------------------------------


def state(base: Base, name: str, text: str, *, sound: bool = True) -> None:
    request = base.wire.request(f"onceTasks/{name}")
    fields = request.writes[0].update.fields
    put(fields["lock"], {"env": "E", "sequence": 1, "status": "scheduled" if sound else "nonsense"})
    put(fields["state"], text)
    base.wire.commit(request)


def test_all_of_a_range_are_found_page_by_page(base: Base) -> None:
    """
    More than a page with one text too.
    """
    for number in range(7):
        state(base, f"s{number}", "E/b")
    state(base, "first", "E/a")
    state(base, "last", "E/c")
    state(base, "beyond", "E/d")
    for limit in (1, 2, 3, 8, 9, 10, 50):
        found = queries._all_in_range(base.store, "state", "E/a", "E/c", limit=limit)
        listed = [path.rpartition("/")[2] for path in found]
        assert (listed[0], listed[-1], len(listed)) == ("first", "last", 9)
        assert sorted(listed[1:-1]) == [f"s{number}" for number in range(7)]
    before = base.calls()
    assert queries.paths_in_range(base.store, "state", "E/d", "E/z") == ["onceTasks/beyond"]
    assert base.calls() == before + 1
    assert names(queries.in_range(base.store, "state", "E/a", "E/a")) == ["first"]
    assert queries.count_range(base.store, "state", "E/a", "E/c") == 9
    state(base, "damaged", "E/a", sound=False)
    with pytest.raises(DamagedError):
        queries.in_range(base.store, "state", "E/a", "E/a")
    assert len(queries.paths_in_range(base.store, "state", "E/a", "E/a")) == 2


# --- tasks for workers ------------------------------------------------------------------------------------------------


def pull(base: Base, name: str, shard: int, seconds: float, *, kind: str = "mail", sound: bool = True) -> None:
    base.set(f"onceTasks/{name}", sound=sound, due=f"E/pull.{kind}/{shard:03d}/{base.at(seconds)}")


def test_tasks_that_are_due_for_workers(base: Base) -> None:
    for name, shard, seconds in (("a", 0, -3), ("b", 0, -1), ("c", 1, -2), ("later", 1, 60), ("e", 2, -9)):
        pull(base, name, shard, seconds)
    pull(base, "other", 0, -5, kind="scan")
    find = queries.due_for_workers
    assert names(find(base.store, "E", "mail", [0], 9)) == ["a", "b"]
    assert sorted(names(find(base.store, "E", "mail", [0, 1], 9))) == ["a", "b", "c"]
    assert sorted(names(find(base.store, "E", "mail", [2, 1], 9))) == ["c", "e"]
    assert names(find(base.store, "E", "mail", [0], 1)) == ["a"]
    assert sorted(names(find(base.store, "E", "mail", [1], 9, by=base.now + timedelta(seconds=61)))) == ["c", "later"]
    assert names(find(base.store, "E", "mail", [0], 9, by=base.now - timedelta(seconds=2))) == ["a"]
    assert [queries.shard_of(each) for each in find(base.store, "E", "mail", [2], 9)] == [2]


def test_tasks_of_other_collections_of_that_name_are_none(base: Base) -> None:
    """
    A user may have a collection of the same name below a document.
    """
    due = f"E/pull.mail/000/{base.at(-1)}"
    for path in ("onceTasks/a", "orders/1/onceTasks/b"):
        base.set(path, due=due)
    found = queries.due_for_workers(base.store, "E", "mail", [0], 9) + queries.due_for_workers(
        base.store, "E", "mail", [0, 1], 9
    )
    assert [each.path for each in found] == ["onceTasks/a"] * 2
    assert [each.path for each in queries.first_in_range(base.store, "lock.due", due, due, limit=9)] == ["onceTasks/a"]
    assert queries.paths_in_range(base.store, "lock.due", due, due) == ["onceTasks/a"]


def test_many_shards_are_asked_for_together(base: Base) -> None:
    """
    As many by one query as Firestore allows, until enough are found.
    """
    for shard in range(32):
        pull(base, f"t{shard:02}", shard, -1)
    for limit, calls in ((1, 1), (15, 1), (16, 2), (30, 2), (31, 3), (99, 3)):
        before = base.calls()
        found = queries.due_for_workers(base.store, "E", "mail", range(32), limit)
        assert len(set(names(found))) == len(found) == min(limit, 32)
        assert base.calls() == before + calls


def test_damaged_tasks_do_not_hide_those_that_are_due_behind_them(base: Base) -> None:
    for number in range(4):
        pull(base, f"d{number}", 0, -20 + number, sound=False)
    pull(base, "s1", 0, -2)
    pull(base, "s2", 0, -1)
    find = queries.due_for_workers
    assert names(find(base.store, "E", "mail", [0], 2, base.put_aside)) == ["s1", "s2"]
    assert sorted(base.aside) == [f"onceTasks/d{number}" for number in range(4)]
    with pytest.raises(DamagedError):
        find(base.store, "E", "mail", [0], 9)


def test_first_task_of_a_shard(base: Base) -> None:
    first = queries.first_of_shard
    assert first(base.store, "E", "mail", 0) is None
    pull(base, "a", 0, 10)
    pull(base, "b", 0, 20)
    pull(base, "c", 1, 5)
    ten, twenty = (base.now + timedelta(seconds=seconds) for seconds in (10, 20))
    assert first(base.store, "E", "mail", 0) == ten
    assert first(base.store, "E", "mail", 0, ten) == twenty
    assert first(base.store, "E", "mail", 0, ten - timedelta(microseconds=1)) == ten
    assert first(base.store, "E", "mail", 0, twenty) is None


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (f"E/push/000/{instant(NOW)}", NOW),
        ("E/push/000/2025", NOW + timedelta(seconds=5)),
        ("by hand", LATEST),
        ("", NOW + timedelta(seconds=5)),
    ],
)
def test_due_time_of_a_document(due: str, expected: datetime) -> None:
    document = DocumentType()
    put(document.fields["lock"], {"due": due})
    document.update_time.FromDatetime((NOW + timedelta(seconds=5)).replace(tzinfo=None))
    assert queries.due_of(document) == expected


# --- sweeps -----------------------------------------------------------------------------------------------------------

TASKS = queries.Area("", "onceTasks")


def swept(base: Base, area: queries.Area = TASKS, **options: Any) -> list[str]:
    return [base.wire.path(each.name) for each, _ in queries.overdue(base.store, area, "E", **options)]


def test_overdue_documents_shard_by_shard(base: Base) -> None:
    """
    The longest overdue of a shard first; those of workers are skipped, and their kinds are named if they are asked for.
    """
    for name, place, seconds in (
        ("b", "push/000", -1),
        ("a", "push/000", -2),
        ("later", "push/000", 60),
        ("c", "push/001", -1),
        ("key", "key/000", -1),
        ("m1", "pull.mail/000", -1),
        ("m2", "pull.mail/003", 60),
        ("s1", "pull.scan/000", -1),
    ):
        base.set(f"onceTasks/{name}", due=f"E/{place}/{base.at(seconds)}")
    base.set("onceTasks/f", due=f"F/push/000/{base.at(-1)}")
    base.set("onceTasks/hand", due="E/by hand")
    base.set("onceTasks/hand2", due="E/push/zzz")
    expected = ["hand", "key", "a", "b", "c", "hand2"]
    assert swept(base) == [f"onceTasks/{name}" for name in expected]
    for page in (1, 2, 3):
        assert swept(base, page=page) == [f"onceTasks/{name}" for name in expected]
    kinds: set[str] = set()
    assert swept(base, pulled=kinds) == [f"onceTasks/{name}" for name in expected]
    assert kinds == {"mail", "scan"}
    times = [read for _, read in queries.overdue(base.store, TASKS, "E")]
    assert all(isinstance(read, datetime) and read >= base.now for read in times)


def test_documents_with_one_due_time_are_all_found(base: Base) -> None:
    for number in range(9):
        base.set(f"onceTasks/s{number}", due=f"E/push/000/{base.at(-1)}")
    for page in (1, 2, 3, 8, 9, 10):
        assert len(swept(base, page=page)) == len(set(swept(base, page=page))) == 9


def test_collections_and_groups(base: Base) -> None:
    areas = queries.areas_of(["orders", "a/{x}/jobs", "b/{y}/jobs", "c/1/notes", "orders"])
    assert [str(area) for area in areas] == ["c/1/notes", "orders", "a/{x}/jobs, b/{y}/jobs"]
    assert [area.where for area in areas] == [("c/1", "notes", False), ("", "orders", False), ("", "jobs", True)]
    for path in ("orders/1", "a/1/jobs/1", "b/2/jobs/2", "c/1/jobs/3", "jobs/4", "c/1/notes/5", "c/2/notes/6"):
        base.set(path, due=f"E/push/000/{base.at(-1)}")
    assert [sorted(swept(base, area)) for area in areas] == [
        ["c/1/notes/5"],
        ["orders/1"],
        ["a/1/jobs/1", "b/2/jobs/2"],
    ]
    assert queries.with_due(base.store, areas[2], "E") in ("a/1/jobs/1", "b/2/jobs/2")
    assert queries.with_due(base.store, areas[1], "E") == "orders/1"
    assert queries.with_due(base.store, areas[1], "F") is None
    base.set("orders/2", due=f"E/push/000/{base.at(-5)}")
    assert queries.with_due(base.store, areas[1], "E") == "orders/2"


def test_query_says_its_order_and_limit_only_if_it_has_one(base: Base) -> None:
    limited = queries.range_query("c", False, "state", "a", "b", 3)
    free = queries.range_query("c", True, "state", "a", "b", 0)
    assert (limited.limit.value, len(limited.order_by), limited.from_[0].all_descendants) == (3, 1, False)
    assert limited.order_by[0].direction == 1
    assert (free.HasField("limit"), len(free.order_by), free.from_[0].all_descendants) == (False, 0, True)
    texts = [one.field_filter.value.string_value for one in limited.where.composite_filter.filters]
    assert texts == ["a", "b"]


def test_snapshot_of_what_is_found_has_the_time_of_the_read(base: Base) -> None:
    pull(base, "a", 0, -1)
    [found] = queries.due_for_workers(base.store, "E", "mail", [0], 9)
    assert found.read is not None
    document = base.wire.get("onceTasks/a")
    assert found.lock == snapshot_of("onceTasks/a", document, None).lock
    value = DocumentType().fields["lock"]
    assert encode_lock(value, Lock.of({"env": "E", "sequence": 1, "status": Status.SCHEDULED})) is not None
