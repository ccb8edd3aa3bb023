"""
oncetask: recurrence, options and shutdown. One test per row of its behaviour.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import ExponentialBackoff, FixedDelay, NoRetry, RecurrenceError, Status, UsageError
from gcp_oncetask.tasks import Recurrence
from gcp_oncetask.tasks.manager import CANCEL_RETRY
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.tasks import DAILY, Repeat, Service, Work

JAN = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 32)]


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles recurring tasks.
    """
    return Service(oncetask_cloud).handle(Repeat)


@row("OT-106", "daily from Jan 1, reference Jan 1, inclusive / exclusive: Jan 1 / Jan 2")
def test_ot_106_next_from_the_start() -> None:
    rule = Recurrence(**DAILY)
    assert (rule.first(JAN[0]), rule.next_after(JAN[0])) == (JAN[0], JAN[1])


@row("OT-107", "Jan 1 excluded, inclusive: Jan 2")
def test_ot_107_next_without_the_excluded() -> None:
    assert Recurrence(**DAILY, exdates=["2026-01-01T00:00:00Z"]).first(JAN[0]) == JAN[1]


@row("OT-108", "COUNT=3, reference Jan 10: exhausted")
def test_ot_108_next_of_an_ended_rule() -> None:
    assert Recurrence("FREQ=DAILY;COUNT=3", DAILY["dtstart"]).first(JAN[9]) is None


@row("OT-109", "bad rule / bad DTSTART / none / no rule: error")
@pytest.mark.parametrize(
    ("rrule", "dtstart"),
    [("FREQ=NEVER", DAILY["dtstart"]), ("FREQ=DAILY", "soon"), ("", ""), ("", DAILY["dtstart"])],
)
def test_ot_109_not_a_recurrence(rrule: str, dtstart: str) -> None:
    with pytest.raises(RecurrenceError):
        Recurrence(rrule, dtstart)


@row("OT-110", "daily, after Jan 1 / after Jan 5: Jan 2 / Jan 6")
def test_ot_110_next_after() -> None:
    rule = Recurrence(**DAILY)
    assert (rule.next_after(JAN[0]), rule.next_after(JAN[4])) == (JAN[1], JAN[5])


@row("OT-111", "COUNT=3, after Jan 3: exhausted")
def test_ot_111_next_after_the_last() -> None:
    rule = Recurrence("FREQ=DAILY;COUNT=3", DAILY["dtstart"])
    assert (rule.next_after(JAN[1]), rule.next_after(JAN[2])) == (JAN[2], None)


def occurrence(nominal: datetime, name: str = "r") -> str:
    """
    Id of an occurrence.
    """
    return f"{name}_occ_{nominal:%Y-%m-%dT%H:%M:%SZ}"


@row("OT-112", "daily rule, DTSTART 2 s ago: occurrence runs; id = parent id + _occ_ + time; parent goes on, rule kept")
def test_ot_112_an_occurrence_runs(service: Service) -> None:
    service.cloud.clock.advance(2)
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.run_until_idle()
    assert service.ran == [occurrence(JAN[0])]
    parent = service.get("r", Repeat)
    assert (parent.lock.status, parent.lock.wait_until) == (Status.SCHEDULED, JAN[1])
    assert parent.recurrence is not None
    assert parent.recurrence["rrule"] == "FREQ=DAILY"


@row("OT-113", "daily; weekly Monday; COUNT=3; excluded DTSTART; monthly on the 1st: stored verbatim; parent not done")
@pytest.mark.parametrize(
    "rule",
    [
        DAILY,
        {"rrule": "FREQ=WEEKLY;BYDAY=MO", "dtstart": "2026-02-02T09:00:00Z"},
        {"rrule": "FREQ=DAILY;COUNT=3", "dtstart": "2026-02-01T00:00:00Z"},
        {"rrule": "FREQ=DAILY", "dtstart": "2026-02-01T00:00:00Z", "exdates": ["2026-02-01T00:00:00Z"]},
        {"rrule": "FREQ=MONTHLY;BYMONTHDAY=1", "dtstart": "2026-02-01T00:00:00Z"},
    ],
    ids=["daily", "weekly", "counted", "excluded", "monthly"],
)
def test_ot_113_a_rule_is_stored(service: Service, rule: dict[str, Any]) -> None:
    assert service.manager.create_task(Repeat(rule=rule))
    parent = service.get("r", Repeat)
    assert parent.recurrence is not None
    assert {name: parent.recurrence[name] for name in rule} == rule
    assert (parent.done_at, parent.parent_id, parent.lock.finished) == (None, None, False)


@row("OT-114", "every second, COUNT=20, one ran, cancel parent: parent done; at most one more occurrence runs")
def test_ot_114_cancel_the_parent(service: Service) -> None:
    service.manager.create_task(Repeat(rule={"rrule": "FREQ=SECONDLY;COUNT=20", "dtstart": "2026-01-01T00:00:01Z"}))
    service.cloud.advance(seconds=1.5)
    assert len(service.ran) == 1
    assert service.manager.cancel_task(Repeat, "r")
    service.cloud.advance(minutes=1)
    assert (len(service.ran), service.lock("r", Repeat).status) == (1, Status.CANCELLED)


@row("OT-115", "rule + schedule: refused")
def test_ot_115_rule_and_schedule(service: Service) -> None:
    with pytest.raises(UsageError, match="not both"):
        service.manager.create_task(Repeat(rule=DAILY, at=JAN[4]))
    assert service.manager.get_task(Repeat, "r") is None


@row("OT-116", "last occurrence spawned: parent done")
def test_ot_116_the_last_occurrence(service: Service) -> None:
    service.manager.create_task(Repeat(rule={"rrule": "FREQ=DAILY;COUNT=2", "dtstart": DAILY["dtstart"]}))
    service.cloud.advance(hours=1)
    assert service.lock("r", Repeat).status is Status.SCHEDULED
    service.cloud.advance(days=1)
    assert service.ran == [occurrence(JAN[0]), occurrence(JAN[1])]
    assert (service.lock("r", Repeat).status, service.lock("r", Repeat).due) == (Status.COMPLETED, None)


@row(
    "OT-117",
    "generator spawned, crashed before reschedule, lease over: same id, not created twice; parent moves on",
    "spawning and moving on are one commit; an occurrence that is there already is left alone",
)
def test_ot_117_the_occurrence_is_there_already(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    path = service.path(occurrence(JAN[0]), Repeat)
    service.manager.create_task(Repeat(name=occurrence(JAN[0])))
    there = service.stored(occurrence(JAN[0]), Repeat)
    assert service.post(service.body("r", Repeat)).json["outcome"] == "continued"
    assert service.manager.locker.client.document(path).get().to_dict() == there
    assert service.lock("r", Repeat).wait_until == JAN[1]


@row(
    "OT-118",
    "3 daily times missed, worker returns: one occurrence (the oldest), then the next future time",
    "the newest of them (misfire='latest'); skip and all are there too",
)
def test_ot_118_after_an_outage(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.clock.advance(timedelta(days=2, hours=1).total_seconds())
    service.cloud.run_until_idle()
    assert service.ran == [occurrence(JAN[2])]
    assert service.lock("r", Repeat).wait_until == JAN[3]


@row("OT-119", "parent cancelled: spawned occurrences go on")
def test_ot_119_occurrences_of_a_cancelled_parent(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    assert service.post(service.body("r", Repeat)).json["outcome"] == "continued"
    assert service.manager.cancel_task(Repeat, "r")
    service.cloud.advance(days=3)
    assert (service.ran, service.status(occurrence(JAN[0]), Repeat)) == ([occurrence(JAN[0])], "completed")


@row("OT-120", "occurrence: own attempts/errors/result; parent link and scheduled time set; data, key, env as parent")
def test_ot_120_an_occurrence(service: Service) -> None:
    service.act = lambda task, attempt: {"number": attempt.number}
    service.manager.create_task(Repeat(rule=DAILY, key="K"))
    service.cloud.run_until_idle()
    made, parent = service.get(occurrence(JAN[0]), Repeat), service.get("r", Repeat)
    assert (made.parent_id, made.occurrence_at, made.recurrence) == ("r", JAN[0], None)
    assert (made.payload, made.resource_key, made.env) == (parent.payload, "K", parent.env)
    assert (made.lock.attempts, made.errors, made.result) == (1, (), {"number": 1})
    assert (parent.lock.attempts, parent.result) == (0, None)


# --- options ----------------------------------------------------------------------------------------------------------


@row(
    "OT-134",
    "no options: lease 10 min, concurrency 1, poll 1 min, no cancellation handler, both policies exponential",
    "the ancestor's three and five attempts, 1 s, x2, cap 5 and 10 min; concurrency and polling are the worker's",
)
def test_ot_134_defaults(service: Service) -> None:
    handler = service.manager._registry.get("repeat")
    assert handler is not None
    spec = handler.spec
    assert (spec.policy.lease, spec.cleanup, spec.retry) == (600, None, ExponentialBackoff(max_attempts=3))
    assert ExponentialBackoff(max_attempts=5, maximum=timedelta(minutes=10)) == CANCEL_RETRY
    service.handle(Work, on_cancel=lambda task, attempt: None)
    handler = service.manager._registry.get("work")
    assert handler is not None
    assert handler.spec.cleanup is not None
    assert handler.spec.cleanup.retry == CANCEL_RETRY


@row("OT-135", "each option (policy, no-retry, lease, cancel handler, cancel policy), set: taken over")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retry", FixedDelay(delay=timedelta(seconds=7))),
        ("retry", NoRetry()),
        ("lease_duration", timedelta(minutes=2)),
        ("on_cancel", lambda task, attempt: None),
        ("cancel_retry", NoRetry()),
    ],
)
def test_ot_135_options(service: Service, option: str, value: Any) -> None:
    options = {"on_cancel": lambda task, attempt: None} | {option: value}
    service.handle(Work, **options)
    handler = service.manager._registry.get("work")
    assert handler is not None
    spec, cleanup = handler.spec, handler.spec.cleanup
    assert cleanup is not None
    found = {
        "retry": spec.retry,
        "lease_duration": timedelta(seconds=spec.policy.lease),
        "on_cancel": inspect.unwrap(cleanup.run),
        "cancel_retry": cleanup.retry,
    }
    assert found[option] == value
