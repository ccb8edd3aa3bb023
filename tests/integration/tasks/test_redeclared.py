"""
Recurring tasks that are declared again: kept and told, refused, or replaced from the next run on.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from gcp_oncetask import Status, TaskConflictError
from gcp_oncetask.tasks import Recurrence, TaskData, cron
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Service

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Declared(TaskData):
    """
    A payload whose schedule and resource key the code says, as code does; they are class variables here.
    """

    line: ClassVar[str] = "0 9 * * *"
    more: ClassVar[dict[str, Any]] = {}
    rule: ClassVar[Recurrence | None] = None
    key: ClassVar[str | None] = None
    plain: ClassVar[bool] = False
    note: str = ""

    def task_id(self) -> str:
        return "g"

    def resource_key(self) -> str | None:
        return Declared.key

    def recurrence(self) -> Recurrence | None:
        if Declared.plain:
            return None
        return Declared.rule or cron(Declared.line, **Declared.more)


class Kept(Declared, kind="declared-kept"):
    pass


class Strict(Declared, kind="declared-strict", on_conflict="raise"):
    pass


class Latest(Declared, kind="declared-latest", on_conflict="replace"):
    pass


class OneQueued(Declared, kind="declared-queued", unique="queued"):
    pass


class OneRunning(Declared, kind="declared-running", unique="running"):
    pass


KINDS: tuple[type[Declared], ...] = (Kept, Strict, Latest, OneQueued, OneRunning)


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """
    What the code of this deployment says: ``declared(line="...")`` is the next version of it.
    """

    def say(**attributes: Any) -> None:
        for name, value in attributes.items():
            monkeypatch.setattr(Declared, name, value)

    say(line="0 9 * * *", more={}, rule=None, key=None, plain=False)
    return say


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles all kinds; its clock begins with the year 2026.
    """
    service = Service(oncetask_cloud)
    for kind in KINDS:
        service.handle(kind)
    return service


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """
    An instant in January.
    """
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def hours(service: Service) -> list[str]:
    """
    Day and time of the occurrences that ran.
    """
    return [id_.split("_occ_2026-01-")[1][:8] for id_ in service.ran]


CHANGES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("the line", {"line": "30 10 * * *"}, ["recurrence.rrule"]),
    ("the zone", {"more": {"tz": "Asia/Tokyo"}}, ["recurrence.tz"]),
    ("the misfire policy", {"more": {"misfire": "all"}}, ["recurrence.misfire"]),
    ("how many are made up for", {"more": {"misfire_limit": 7}}, ["recurrence.misfireLimit"]),
    ("what overlaps", {"more": {"overlap": "skip"}}, ["recurrence.overlap"]),
    ("what is left out", {"more": {"exdates": ["2026-01-03T09:00:00"]}}, ["recurrence.exdates"]),
    ("what comes in addition", {"more": {"rdates": ["2026-01-03T19:00:00"]}}, ["recurrence.rdates"]),
    (
        "the start",
        {"rule": Recurrence("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "2026-01-01T09:00:00Z")},
        ["recurrence.dtstart", "recurrence.sinceCreation", "recurrence.tz"],
    ),
    ("the resource key", {"key": "K"}, ["resource_key"]),
]


@pytest.mark.parametrize(("attributes", "fields"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_each_part_of_a_declaration_is_a_difference(
    service: Service, declared: Any, caplog: pytest.LogCaptureFixture, attributes: dict[str, Any], fields: list[str]
) -> None:
    """
    Kept and told by the fields' names, refused with them, replaced; and once it is as declared, nothing is written.
    """
    for kind in (Kept, Strict, Latest):
        assert service.manager.create_task(kind())
    before = {kind: service.stored("g", kind) for kind in (Kept, Strict, Latest)}
    declared(**attributes)

    with caplog.at_level(logging.INFO):
        kept = service.manager.create_task(Kept())
    assert [each.partition(":")[0] for each in kept.differences] == fields
    [line] = [one.message for one in caplog.records if "which was kept" in one.message]
    assert line.endswith("; ".join(fields))
    with pytest.raises(TaskConflictError) as caught:
        service.manager.create_task(Strict())
    assert caught.value.differences == list(kept.differences)
    assert {kind: service.stored("g", kind) for kind in (Kept, Strict)} == {
        kind: before[kind] for kind in (Kept, Strict)
    }

    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert service.manager.create_task(Latest()).replaced
    [line] = [one.message for one in caplog.records if "from its next run on" in one.message]
    assert line.endswith("; ".join(fields))
    stored = service.stored("g", Latest)
    recurrence = Latest().recurrence()
    assert recurrence is not None
    assert stored["recurrence"] == recurrence.to_data()
    assert stored.get("resourceKey") == Declared.key
    service.firestore()
    again = service.manager.create_task(Latest())
    assert (again.created, again.replaced, again.differences) == (False, False, ())
    assert service.stored("g", Latest) == stored


def test_replaced_schedule_holds_from_the_next_run_on(service: Service, declared: Any) -> None:
    """
    What was made stays, the delivery for the old time does nothing, and the new times run: earlier ones and later ones.
    """
    service.manager.create_task(Latest())
    service.cloud.advance(hours=10)
    declared(line="0 8,20 * * *")
    assert service.manager.create_task(Latest()).replaced
    assert service.lock("g", Latest).wait_until == at(1, 20)
    service.cloud.advance(days=1)
    declared(line="0 23 * * *")
    service.manager.create_task(Latest())
    service.cloud.advance(days=1)
    assert hours(service) == ["01T09:00", "01T20:00", "02T08:00", "02T23:00"]
    assert {delivery.status for delivery in service.cloud.deliveries} == {200}


def test_zone_moves_the_next_run(service: Service, declared: Any) -> None:
    """
    Nine o'clock elsewhere.
    """
    service.manager.create_task(Latest())
    declared(more={"tz": "America/New_York"})
    service.manager.create_task(Latest())
    service.cloud.advance(days=1)
    assert hours(service) == ["01T14:00"]


def test_newer_payload_reaches_the_next_occurrences(service: Service, declared: Any) -> None:
    """
    The schedule stays, and so does the next time: also that of a run which is due already.
    """
    service.manager.create_task(Latest(note="old"))
    service.cloud.advance(hours=10)
    before = service.lock("g", Latest)
    assert service.manager.create_task(Latest(note="new")).replaced
    after = service.lock("g", Latest)
    assert (after.wait_until, after.dispatches, after.sequence) == (
        before.wait_until,
        before.dispatches,
        before.sequence,
    )
    service.cloud.clock.advance(timedelta(days=1).total_seconds())
    service.manager.create_task(Latest(note="newest"))
    service.cloud.run_until_idle()
    assert [task.data.note for task in service.tasks] == ["old", "newest"]
    assert service.manager.create_task(Kept(note="old"))
    assert service.manager.create_task(Kept(note="new")).differences == ('note: "old" -> "new"',)


def test_newer_resource_key_is_that_of_the_next_occurrences(service: Service, declared: Any) -> None:
    """
    Given, exchanged, and taken away.
    """
    keys = []
    service.manager.create_task(Latest())
    for key in ("K", "L", None):
        declared(key=key)
        assert service.manager.create_task(Latest()).replaced
        service.cloud.advance(days=1)
        keys.append(service.tasks[-1].resource_key)
    assert keys == ["K", "L", None]


@pytest.mark.parametrize("misfire", ["latest", "all"])
def test_what_the_old_schedule_owes_is_made_first(service: Service, declared: Any, misfire: str) -> None:
    """
    An outage, and the next version of the code starts before anything is delivered: the missed runs are those of the old
    schedule by its own policy; none of them is lost, none runs twice.
    """
    declared(more={"misfire": misfire})
    service.manager.create_task(Latest(note="old"))
    service.cloud.clock.advance(timedelta(days=2, hours=10).total_seconds())
    declared(line="0 12 * * *")
    assert service.manager.create_task(Latest(note="new")).replaced
    assert service.lock("g", Latest).wait_until == at(3, 12)
    service.cloud.advance(hours=3)
    missed = ["01T09:00", "02T09:00", "03T09:00"] if misfire == "all" else ["03T09:00"]
    assert hours(service) == [*missed, "03T12:00"]
    assert [task.data.note for task in service.tasks] == ["old"] * len(missed) + ["new"]


def test_time_that_both_schedules_have_runs_once(service: Service, declared: Any) -> None:
    """
    Replaced at the very instant of a run, before its delivery and after it.
    """
    service.manager.create_task(Latest())
    service.cloud.clock.advance(timedelta(hours=9).total_seconds())
    declared(line="0 9,10 * * *")
    service.manager.create_task(Latest())
    service.cloud.run_until_idle()
    declared(line="0 9,11 * * *")
    service.manager.create_task(Latest())
    service.cloud.advance(hours=4)
    assert hours(service) == ["01T09:00", "01T11:00"]


def test_paused_generator_stays_paused(service: Service, declared: Any) -> None:
    """
    Nothing is due, nothing is dispatched; once resumed, what fell due meanwhile is the newer schedule's.
    """
    service.manager.create_task(Latest())
    service.manager.pause(Latest, "g")
    service.cloud.advance(days=2, hours=12)
    declared(line="0 11 * * *")
    assert not service.manager.create_task(Latest()).dispatched
    lock = service.lock("g", Latest)
    assert (lock.paused, lock.due, lock.wait_until) == (True, None, at(1, 11))
    service.cloud.sweep()
    service.cloud.run_until_idle()
    assert service.ran == []
    service.manager.resume(Latest, "g")
    service.cloud.advance(days=1)
    assert hours(service) == ["03T11:00", "04T11:00"]


@pytest.mark.parametrize("end", ["completed", "cancelled", "failed"])
def test_ended_generator_recurs_again_with_a_newer_schedule(service: Service, declared: Any, end: str) -> None:
    """
    Its COUNT was reached, a person cancelled it, or its stored schedule could not be read. The same declaration wakes nothing.
    """
    declared(rule=Recurrence("FREQ=DAILY;COUNT=1", "2026-01-01T09:00:00Z"))
    service.manager.create_task(Latest())
    if end == "cancelled":
        service.manager.cancel_task(Latest, "g")
    if end == "failed":
        client = service.manager.locker.client
        client.document(service.path("g", Latest)).update({"recurrence.rrule": "FREQ=NEVER"})
    service.cloud.advance(hours=10)
    assert service.lock("g", Latest).status == end
    ran = len(service.ran)
    if end != "failed":
        assert not service.manager.create_task(Latest()).replaced
        assert service.lock("g", Latest).status == end
    declared(rule=None, line="0 15 * * *")
    assert service.manager.create_task(Latest()).replaced
    service.cloud.advance(days=1)
    assert hours(service)[ran:] == ["01T15:00"]


def test_schedule_that_is_over_ends_the_generator(service: Service, declared: Any) -> None:
    """
    Its last run was before now: there is none to come, and a past one is not made up for.
    """
    service.manager.create_task(Latest())
    service.cloud.advance(days=3)
    over = Recurrence("FREQ=DAILY;COUNT=2", "2026-01-01T08:00:00Z")
    declared(rule=over)
    assert service.manager.create_task(Latest()).replaced
    assert service.lock("g", Latest).status is Status.COMPLETED
    declared(rule=Recurrence("FREQ=DAILY;COUNT=2", "2026-01-01T08:30:00Z"))
    kept = service.manager.create_task(Latest())
    assert (kept.replaced, [each.partition(":")[0] for each in kept.differences]) == (False, ["recurrence.dtstart"])
    service.settle(4)
    assert hours(service) == ["01T09:00", "02T09:00", "03T09:00"]


@pytest.mark.parametrize("late", [False, True])
def test_of_ten_processes_one_replaces(service: Service, declared: Any, late: bool) -> None:
    """
    All start at the same time with the next version; also while a run of the old schedule is owed.
    """
    service.manager.create_task(Latest())
    if late:
        service.cloud.clock.advance(timedelta(hours=9, minutes=1).total_seconds())
    declared(line="0 12 * * *")
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda _: service.manager.create_task(Latest()), range(10)))
    assert sorted(one.replaced for one in results) == [False] * 9 + [True]
    service.cloud.advance(days=1)
    assert hours(service) == (["01T09:00"] if late else []) + ["01T12:00"]


def test_two_versions_that_flap_run_what_is_in_force(service: Service, declared: Any) -> None:
    """
    Two deployments with different schedules, each of which restarts again and again.
    """
    lines = ["0 * * * *", "30 * * * *"]
    service.manager.create_task(Latest())
    for turn in range(6):
        declared(line=lines[turn % 2])
        service.manager.create_task(Latest())
        service.cloud.advance(minutes=40)
    assert hours(service) == ["01T02:00", "01T02:30", "01T03:00", "01T03:30"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("commit", range(4))
@pytest.mark.parametrize("late", [False, True])
def test_lost_answers_of_a_replacement(service: Service, declared: Any, when: Any, commit: int, late: bool) -> None:
    """
    Of each of its commits: the schedule is replaced once, nothing is lost or doubled.
    """
    service.manager.create_task(Latest())
    if late:
        service.cloud.clock.advance(timedelta(hours=9, minutes=1).total_seconds())
    declared(line="0 12 * * *")
    service.cloud.faults.fail("Commit", when=when, skip=commit)
    service.manager.create_task(Latest())
    service.cloud.faults.clear()
    assert service.lock("g", Latest).wait_until == at(1, 12)
    service.cloud.advance(hours=15)
    assert hours(service) == ["01T09:00"] * late + ["01T12:00"]


def test_crash_after_the_commit_is_swept_up(service: Service, declared: Any) -> None:
    """
    The new time is earlier than the old one, and its delivery was never made.
    """
    service.manager.create_task(Latest())
    declared(line="0 5 * * *")
    service.cloud.faults.fail("CreateTask", times=4)
    assert not service.manager.create_task(Latest()).dispatched
    service.cloud.faults.clear()
    for _ in range(4):
        service.cloud.advance(hours=2)
        service.cloud.sweep()
        service.cloud.run_until_idle()
    assert hours(service) == ["01T05:00"]


def test_transactions_and_bulk_treat_generators_alike(service: Service, declared: Any) -> None:
    """
    In a transaction of the caller's, and among many: replaced, owed runs first; kept; refused.
    """
    from google.cloud import firestore

    client = service.manager.locker.client
    for kind in (Kept, Strict, Latest):
        service.manager.create_task(kind())
    service.cloud.clock.advance(timedelta(hours=9, minutes=1).total_seconds())
    declared(line="0 12 * * *")

    @firestore.transactional
    def run(transaction: Any) -> Any:
        return service.manager.create_task(Latest(), transaction=transaction)

    created = run(client.transaction())
    assert created.replaced
    assert created.dispatch()
    assert service.lock("g", Latest).wait_until == at(1, 12)
    declared(line="0 13 * * *")
    kept, strict, latest = service.manager.create_tasks([Kept(), Strict(), Latest()])
    assert not isinstance(kept, Exception)
    assert [each.partition(":")[0] for each in kept.differences] == ["recurrence.rrule"]
    assert isinstance(strict, TaskConflictError)
    assert not isinstance(latest, Exception)
    assert latest.replaced
    service.cloud.advance(hours=5)
    assert sorted(hours(service)) == ["01T09:00", "01T09:00", "01T09:00", "01T13:00"]


def test_two_schedules_for_one_id_in_one_call(service: Service, declared: Any) -> None:
    """
    As if one came after the other.
    """

    class Said(TaskData, kind="said-strict", on_conflict="raise"):
        line: ClassVar[list[str]] = ["0 9 * * *", "0 10 * * *"]

        def task_id(self) -> str:
            return "g"

        def recurrence(self) -> Recurrence:
            return cron(Said.line.pop(0))

    first, second = service.manager.create_tasks([Said(), Said()])
    assert first
    assert isinstance(second, TaskConflictError)
    assert "another schedule (recurrence.rrule)" in str(second)
    assert any("->" in each for each in second.differences)


def test_unique_kinds_replace_what_they_do_not_refuse(service: Service, declared: Any) -> None:
    """
    A generator that waits is queued. One that has ended may be had again.
    """
    for kind in (OneQueued, OneRunning):
        service.manager.create_task(kind())
    declared(line="0 12 * * *")
    assert service.manager.create_task(OneQueued()).refused
    assert service.manager.create_task(OneRunning()).replaced
    service.cloud.advance(hours=13)
    assert hours(service) == ["01T09:00", "01T12:00"]
    service.manager.cancel_task(OneRunning, "g")
    assert service.manager.create_task(OneRunning()).replaced
    service.cloud.advance(days=1)
    assert "02T12:00" in hours(service)


@pytest.mark.parametrize("recurs", [True, False])
def test_task_that_begins_or_stops_to_recur_is_another_task(service: Service, declared: Any, recurs: bool) -> None:
    """
    Told, refused, and not replaced: what is stored of the two has nothing in common.
    """
    declared(plain=recurs)
    for kind in (Kept, Strict, Latest):
        service.manager.create_task(kind())
    before = service.stored("g", Latest)
    declared(plain=not recurs)
    [difference] = service.manager.create_task(Kept()).differences[:1]
    assert difference.startswith("recurrence: ")
    with pytest.raises(TaskConflictError, match="exists with another schedule"):
        service.manager.create_task(Strict())
    with pytest.raises(TaskConflictError, match="delete the stored one first"):
        service.manager.create_task(Latest())
    assert service.stored("g", Latest) == before
    service.manager.delete_task(Latest, "g")
    assert service.manager.create_task(Latest())
