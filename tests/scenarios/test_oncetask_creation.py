"""
oncetask: creation, model and reads. One test per row of its behaviour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gcp_oncetask import RecurrenceError, Status, UsageError
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.tasks import Hashed, Other, Repeat, Service, Work

IMMEDIATE = "no sentinel: what may run at once has no waitUntil"
START = datetime(2026, 2, 1, tzinfo=UTC)
RULE = {"rrule": "FREQ=DAILY", "dtstart": "2026-02-01T00:00:00Z"}


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment without handlers.
    """
    return Service(oncetask_cloud)


def nothing_is_stored(service: Service) -> bool:
    """
    Whether no task was created.
    """
    return not list(service.manager.locker.client.collection("onceTasks").stream()) and service.bodies() == []


@row("OT-001", "waitUntil = immediate sentinel, no recurrence", IMMEDIATE)
def test_ot_001_plain_data_is_due_at_once(service: Service) -> None:
    service.create("a")
    assert service.lock("a").wait_until is None
    assert "recurrence" not in service.stored("a")
    assert service.status("a") == "pending"


@row("OT-002", "waitUntil = that time, UTC")
def test_ot_002_scheduled_data_waits_for_its_time(service: Service) -> None:
    at = datetime(2026, 3, 1, 9, tzinfo=UTC)
    service.create("a", at=at.astimezone(datetime.fromisoformat("2026-03-01T11:00:00+05:00").tzinfo))
    assert service.lock("a").wait_until == at
    assert service.stored("a")["lock"]["waitUntil"] == at


@row("OT-003", "scheduled data with zero time: immediate", f"None is no time; {IMMEDIATE}")
def test_ot_003_no_time_is_at_once(service: Service) -> None:
    service.create("a", at=None)
    assert service.lock("a").wait_until is None


@row("OT-004", "waitUntil = DTSTART, recurrence stored")
def test_ot_004_a_rule_waits_for_its_start(service: Service) -> None:
    assert service.manager.create_task(Repeat(rule=RULE))
    assert service.lock("r", Repeat).wait_until == START
    stored = service.stored("r", Repeat)["recurrence"]
    assert (stored["rrule"], stored["dtstart"]) == (RULE["rrule"], RULE["dtstart"])


@row("OT-005", "rule + zero scheduled time: accepted, DTSTART used")
def test_ot_005_a_rule_without_a_time(service: Service) -> None:
    assert service.manager.create_task(Repeat(rule=RULE, at=None))
    assert service.lock("r", Repeat).wait_until == START


@row("OT-006", "daily rule, DTSTART excluded: waitUntil = next day")
def test_ot_006_an_excluded_start_is_no_run(service: Service) -> None:
    assert service.manager.create_task(Repeat(rule=RULE | {"exdates": ["2026-02-01T00:00:00Z"]}))
    assert service.lock("r", Repeat).wait_until == START + timedelta(days=1)


def refused_rule(service: Service, rule: dict[str, object], says: str) -> None:
    """
    A rule that can't be creates nothing.
    """
    with pytest.raises(RecurrenceError, match=says):
        service.manager.create_task(Repeat(rule=rule))
    assert nothing_is_stored(service)


@row("OT-007", "rule without DTSTART: error naming DTSTART")
def test_ot_007_rule_without_start(service: Service) -> None:
    refused_rule(service, RULE | {"dtstart": ""}, "(?i)dtstart")


@row("OT-008", "DTSTART without rule: error naming the rule")
def test_ot_008_start_without_rule(service: Service) -> None:
    refused_rule(service, RULE | {"rrule": ""}, "rrule")


@row("OT-009", "unparsable DTSTART: error")
def test_ot_009_unreadable_start(service: Service) -> None:
    refused_rule(service, RULE | {"dtstart": "tomorrow"}, "dtstart")


@row("OT-010", "unparsable rule: error")
def test_ot_010_unreadable_rule(service: Service) -> None:
    refused_rule(service, RULE | {"rrule": "FREQ=SOMETIMES"}, "SOMETIMES")


@row("OT-011", "rule and non-zero scheduled time: error, nothing stored")
def test_ot_011_rule_and_time(service: Service) -> None:
    with pytest.raises(UsageError, match=r"scheduled_at\(\) or recurrence\(\), not both"):
        service.manager.create_task(Repeat(rule=RULE, at=START))
    assert nothing_is_stored(service)


@row(
    "OT-012",
    "id as given; lease, done empty; attempts 0; no errors; no result; createdAt valid; env non-empty",
    "the id is a field; the document's name also tells environment and kind",
)
def test_ot_012_a_new_task_is_blank(service: Service) -> None:
    service.create("a")
    task, lock = service.get("a"), service.lock("a")
    assert (task.id, task.env, task.done_at, task.errors, task.result) == ("a", "DEFAULT", None, (), None)
    assert (lock.status, lock.attempts, lock.leased_at, lock.holder) == (Status.SCHEDULED, 0, None, None)
    assert abs(task.created_at - service.cloud.clock_now()) < timedelta(seconds=1)


@row("OT-013", "type and data filled")
def test_ot_013_kind_and_payload_are_stored(service: Service) -> None:
    service.create("a", note="n")
    assert (service.get("a").kind, service.get("a").data) == ("work", Work(name="a", note="n"))
    assert service.stored("a")["data"] == {"name": "a", "note": "n", "key": None, "at": None}


@row("OT-014", "data with resource key: key stored")
def test_ot_014_resource_key_is_stored(service: Service) -> None:
    service.create("a", key="K")
    assert (service.get("a").resource_key, service.lock("a").key) == ("K", "K")


@row("OT-015", "rule with two exclusions: rule and both exclusions stored")
def test_ot_015_exclusions_are_stored(service: Service) -> None:
    exdates = ["2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z"]
    assert service.manager.create_task(Repeat(rule=RULE | {"exdates": exdates}))
    stored = service.get("r", Repeat).recurrence
    assert stored is not None
    assert (stored["rrule"], stored["exdates"]) == ("FREQ=DAILY", exdates)


@row("OT-016", "new id: true")
def test_ot_016_new_id(service: Service) -> None:
    made = service.manager.create_task(Work(name="a"))
    assert (bool(made), made.id, made.dispatched) == (True, "a", True)


@row("OT-017", "existing id, other payload: false, no error; stored payload and env are the first ones")
def test_ot_017_existing_id(service: Service) -> None:
    service.create("a", note="first")
    made = service.manager.create_task(Work(name="a", note="second"))
    assert (bool(made), made.dispatched, made.differences) == (False, False, ('note: "first" -> "second"',))
    assert (service.get("a").data.note, service.get("a").env) == ("first", "DEFAULT")
    assert len(service.bodies()) == 1


@row("OT-018", "no explicit id: id computed from content; true")
def test_ot_018_id_from_content(service: Service) -> None:
    one, same, other = (service.manager.create_task(Hashed(number=number)) for number in (1, 1, 2))
    assert (bool(one), bool(same), bool(other)) == (True, False, True)
    assert one.id == same.id == Hashed(number=1).payload_hash()[:40] != other.id


@row("OT-019", "bulk create of 3 new: 3; all readable")
def test_ot_019_bulk_create(service: Service) -> None:
    made = service.manager.create_tasks([Work(name=name) for name in "abc"])
    assert (made.created, made.errors) == (3, ())
    assert [task.id for task in service.manager.get_tasks_by_ids(Work, "abc")] == ["a", "b", "c"]
    assert len(service.bodies()) == 3


@row("OT-020", "bulk create of 2 existing + 2 new: 2, no error")
def test_ot_020_bulk_create_of_some_that_exist(service: Service) -> None:
    service.create("a", "b")
    made = service.manager.create_tasks([Work(name=name) for name in "abcd"])
    assert (made.created, made.errors, [bool(item) for item in made]) == (2, (), [False, False, True, True])


@row("OT-021", "bulk create of nothing: 0, no error")
def test_ot_021_bulk_create_of_nothing(service: Service) -> None:
    made = service.manager.create_tasks([])
    assert (made.created, made.errors, len(made)) == (0, (), 0)


@row("OT-022", "same id twice in one bulk call: should be 1 created, no error (the ancestor reports one)")
def test_ot_022_bulk_create_of_duplicates(service: Service) -> None:
    made = service.manager.create_tasks([Work(name="a", note="first"), Work(name="a", note="second")])
    assert (made.created, made.errors) == (1, ())
    assert [bool(item) for item in made] == [True, False]
    assert service.get("a").data.note == "first"


class Misread(TaskData, kind="work"):
    number: int


@row("OT-023", "typed read-back into another type: error")
def test_ot_023_read_into_another_type(service: Service) -> None:
    service.create("a")
    with pytest.raises(UsageError, match=r"does not fit Misread: .*number"):
        service.manager.get_task(Misread, "a")


# --- reads ------------------------------------------------------------------------------------------------------------


@row("OT-024", "3 with key K, 2 with another: exactly the 3", "ordered by creation, as the ancestor's page promises")
def test_ot_024_by_resource_key(service: Service) -> None:
    for name in ("c", "a", "b"):
        service.create(name, key="K")
        service.cloud.advance(seconds=1)
    service.create("d", "e", key="L")
    service.create("f", key="K", model=Other)
    assert [task.id for task in service.manager.get_tasks_by_resource_key(Work, "K")] == ["c", "a", "b"]


@row("OT-025", "unknown key: empty, no error")
def test_ot_025_by_unknown_resource_key(service: Service) -> None:
    service.create("a", key="K")
    assert service.manager.get_tasks_by_resource_key(Work, "nobody's") == []


@row("OT-026", "3 tasks by 3 ids: all 3 (any order)", "in the order asked for")
def test_ot_026_by_ids(service: Service) -> None:
    service.create("a", "b", "c")
    assert [task.id for task in service.manager.get_tasks_by_ids(Work, ["c", "a", "b", "a"])] == ["c", "a", "b"]


@row("OT-027", "1 known, 1 unknown id: 1, no error")
def test_ot_027_by_ids_some_unknown(service: Service) -> None:
    service.create("a")
    assert [task.id for task in service.manager.get_tasks_by_ids(Work, ["a", "b"])] == ["a"]
    assert service.manager.get_task(Work, "b") is None


@row("OT-028", "no ids: empty, no error")
def test_ot_028_by_no_ids(service: Service) -> None:
    assert service.manager.get_tasks_by_ids(Work, []) == []


@row("OT-029", "no tasks: pending count 0")
def test_ot_029_pending_count_of_none(service: Service) -> None:
    assert service.manager.get_pending_count(Work) == 0


@row("OT-030", "4 of the type, 1 of another: 4")
def test_ot_030_pending_count_of_a_kind(service: Service) -> None:
    service.create(*"abcd")
    service.create("e", model=Other)
    assert (service.manager.get_pending_count(Work), service.manager.get_pending_count(Other)) == (4, 1)


@row("OT-031", "plus one due in 1 h: still 4")
def test_ot_031_pending_count_without_what_waits(service: Service) -> None:
    service.create(*"abcd")
    service.create("e", at=service.cloud.clock_now() + timedelta(hours=1))
    assert service.manager.get_pending_count(Work) == 4
    service.cloud.clock.advance(3600)
    service.create("f", model=Other)
    assert service.manager.get_pending_count(Work) == 5
