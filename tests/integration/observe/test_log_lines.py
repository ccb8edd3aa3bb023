"""
Every line for people about a delivery, an attempt or a takeover names document, sequence, step and attempt, and carries them.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore import DELETE_FIELD

import gcp_oncetask
from gcp_oncetask import FixedDelay, NoRetry, Retry
from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.observe.log_context import LOGGER, LogContext, context_at
from gcp_oncetask.rules.decisions import Settlement, SettlementKind
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Killed, Order, Shop
from tests.support.tasks import Other, Service, Work

NAMED = re.compile(
    r"(?P<document>\S+) \(sequence (?P<sequence>\d+)(?:, step (?P<step>\d+))?(?:, attempt (?P<attempt>\d+))?\): (?=\S)"
)
LIBRARY = Path(gcp_oncetask.__file__).parent


class Pulled(TaskData, kind="pulled-line", pull=True):
    pass


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """
    All lines of the library, down to DEBUG, as Cloud Logging would get them.
    """
    found: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    handler, before = Keep(), LOGGER.level
    handler.setFormatter(CloudFormatter())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    yield found
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(before)


class Tee:
    """
    Where attempts write their own lines, and a copy of what they wrote.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.lines: list[dict[str, Any]] = []
        self.to = runtime.events.trail._stream
        runtime.trail_to(self)

    def write(self, text: str) -> None:
        self.lines.append(json.loads(text))
        self.to.write(text)

    def flush(self) -> None:
        self.to.flush()


def checked(lines: list[dict[str, Any]]) -> set[str]:
    """
    Events of *lines*, each of which says in words what its fields say.
    """
    events = set()
    for line in lines:
        text, own = line["message"].split("\n")[0], line.get("oncetask", {})
        if own.get("event", "").startswith("alert."):
            assert f"{own['document']}, sequence {own['sequence']}, step {own['step']}" in text, text
            continue
        found = NAMED.match(text)
        assert found is not None, line
        said = {name: value for name, value in found.groupdict().items() if value is not None}
        assert said == {name: own[name] for name in said}, line
        assert "step" in said, line
        assert own.get("attempt", "0") in ("0", said.get("attempt")), line
        assert f"{said['document']}: " not in text, text
        events.add(own.get("event", "-"))
    return events


def test_lines_of_a_chain(oncetask_cloud: OncetaskCloud, shop: Shop, lines: list[dict[str, Any]]) -> None:
    """
    Of a chain that was reset, so that step and sequence differ: failed, killed, taken over, swept, duplicated, cancelled.
    """

    def trouble(order: Order, attempt: Any) -> Any:
        match attempt.number:
            case 1:
                raise ValueError("no")
            case 2:
                return Retry("later", after=timedelta(seconds=5))
            case 3:
                raise Killed
        return "paid"

    written = Tee(shop.locker._runtime)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.cancel(Order, "42")
    oncetask_cloud.run_until_idle()
    shop.on_charge = trouble
    shop.locker.reset(Order, "42")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=14)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    oncetask_cloud.duplicate_last()
    oncetask_cloud.faults.fail("CreateTask", times=None)
    shop.locker.reset(Order, "42")
    oncetask_cloud.faults.clear()
    oncetask_cloud.advance(minutes=3)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()

    events = checked(lines)
    assert {
        "delivery.duplicate", "delivery.failed-attempt", "delivery.retrying", "lease.taken_over", "delivery.completed",
        "task.undispatched", "task.redispatched", "-",
    } <= events  # fmt: skip
    assert {"started", "returned", "settled"} <= checked(written.lines)
    assert written.lines[0]["message"] == "orders/42 (sequence 2, step 1, attempt 1): started"


def test_lines_of_once_tasks(oncetask_cloud: OncetaskCloud, lines: list[dict[str, Any]]) -> None:
    """
    In batches, with a resource key whose holder died, pulled, kept although another payload came, lost, handed over.
    """
    service = Service(oncetask_cloud)
    manager = service.manager
    written = Tee(manager.locker._runtime)
    manager.on_error = lambda task, error: 1 // 0
    service.handle_keys(Other, retry=FixedDelay(delay=timedelta(seconds=1), max_attempts=2)).handle(Work)
    manager.register_task_handler(Pulled, lambda task, attempt: 1 // 0, retry=NoRetry())
    oncetask_cloud.work(Worker(manager, listen=False))
    service.die_once()
    service.create("a", "b", model=Other, key="k")
    manager.create_task(Other(name="a", note="another"))
    manager.create_task(Pulled())
    oncetask_cloud.run_until_idle()

    def fail(tasks: Any, attempts: Any) -> Any:
        raise ValueError("no")

    service.act = fail
    service.create("c", model=Other, key="k")
    oncetask_cloud.advance(minutes=15)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()

    def lose(task: Any, attempt: Any) -> None:
        manager.locker.client.document(attempt._running.context.document).update({"lock": DELETE_FIELD})

    service.act = lose
    service.create("lost")
    oncetask_cloud.run_until_idle()

    def after(task: Any, attempt: Any) -> None:
        attempt._running.settle(Settlement(kind=SettlementKind.COMPLETE, nonce=attempt._running.runtime.clock.nonce()))
        raise ValueError("afterwards")

    service.act = after
    service.create("settled")
    oncetask_cloud.run_until_idle()
    told = oncetask_cloud.alerts.sent[-1]
    assert ("after it had settled" in told.reason, told.attempt) == (True, 1)

    events = checked(lines)
    assert {
        "task.kept",
        "lease.taken_over",
        "delivery.failed",
        "delivery.lost-to-later",
        "delivery.settled",
        "-",
    } <= events
    said = "\n".join(line["message"] for line in lines)
    for words in (
        "the error callback failed",
        "the attempt failed",
        "after it had settled",
        "Stop; nothing more can be written",
    ):
        assert words in said, words
    assert {"started", "returned", "settled"} <= checked(written.lines)
    assert any(line["message"].endswith("attempt 1): started, in a batch") for line in written.lines)


@pytest.mark.parametrize(
    ("log_contents", "said"), [(False, "key; note"), (True, 'key: null -> "k"; note: "" -> "secret"')]
)
def test_a_kept_payload_is_logged_only_with_leave(
    oncetask_cloud: OncetaskCloud, lines: list[dict[str, Any]], log_contents: bool, said: str
) -> None:
    """
    That another payload was given for an id is told with the fields' names, and their values if ONCETASK_LOG_CONTENTS says so.
    """
    service = Service(oncetask_cloud, log_contents=log_contents)
    service.create("a")
    assert len(service.manager.create_task(Work(name="a", note="secret", key="k")).differences) == 2

    [kept] = [line for line in lines if line["oncetask"]["event"] == "task.kept"]
    assert kept["message"].endswith(f"another payload, which was kept: {said}")


def test_lines_of_deliveries_without_a_document(
    oncetask_cloud: OncetaskCloud, shop: Shop, lines: list[dict[str, Any]]
) -> None:
    """
    Of one that is gone the sequence is named; the step nobody knows.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.client.document("orders/42").delete()
    oncetask_cloud.run_until_idle()

    [gone] = [line for line in lines if line["oncetask"]["event"] == "delivery.gone"]
    assert gone["message"].startswith("orders/42 (sequence 1): ")
    assert (gone["oncetask"]["sequence"], "step" in gone["oncetask"]) == ("1", False)


def test_an_entity_without_its_lock_is_told_of_by_a_line_alone(
    oncetask_cloud: OncetaskCloud, shop: Shop, lines: list[dict[str, Any]]
) -> None:
    """
    Its owner may have made the document anew: no mail, and nothing is run.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.client.document("orders/42").update({"lock": DELETE_FIELD})
    oncetask_cloud.run_until_idle()

    [told] = [line for line in lines if "has no field 'lock'" in line["message"]]
    assert (told["severity"], told["message"].startswith("orders/42 (sequence 1): ")) == ("WARNING", True)
    assert (shop.seen, oncetask_cloud.alerts.sent) == ([], [])


@pytest.mark.parametrize(
    ("sequence", "attempt", "said"),
    [
        (None, None, "orders/42 (sequence 7, step 2, attempt 3)"),
        (7, 0, "orders/42 (sequence 7, step 2)"),
        (6, None, "orders/42 (sequence 6, step 1)"),
        (5, None, "orders/42 (sequence 5)"),
        (8, None, "orders/42 (sequence 8)"),
    ],
)
def test_a_line_is_of_one_sequence(sequence: int | None, attempt: int | None, said: str) -> None:
    """
    The step is counted within the present chain, of others it is not known; the attempt is that of the present sequence.
    """
    lock = Lock(env="E", sequence=7, base=5, attempts=3, status=Status.LEASED, holder="n")
    assert str(context_at("orders/42", "E", lock, sequence, attempt)) == said


def test_a_named_lock_has_neither_sequence_nor_step() -> None:
    """
    Its lines name its document alone, and their fields have no step.
    """
    context = LogContext("onceLocks/x", 4, 1, 9, "n", "E")
    assert (str(context), "step" in context.fields, json.loads(context.said + '"')) == (
        "onceLocks/x",
        False,
        "onceLocks/x",
    )
    assert context.without("onceLocks/x: it is lost") == "it is lost"
    assert context.without("it is lost") == "it is lost"


LOGS = "observe/log_context.py"
OTHERS = {
    ("entities/link_pages.py", "%s: the person behind a link is not proven: %s"),
    (
        "entities/link_pages.py",
        "a link was opened, and ONCETASK_LINK_KEYS is not set here: no link can be verified. %s",
    ),
    ("entities/link_pages.py", "%s: a link can't be answered now: %s"),
    ("entities/link_pages.py", "a link was refused: no key of ONCETASK_LINK_KEYS has signed it for this environment"),
    ("decorators.py", "%s: on_lost failed; the error of the function goes on"),
    ("decorators.py", "The lock %r could not be released: %s"),
    ("decorators.py", "%s"),
    ("locks/lock.py", "%s"),
    ("locks/lock.py", "%s; the block had raised %s, which goes on."),
    ("locks/runs.py", "%s The function had raised %s, which goes on."),
    ("effects/keys.py", "the resource key %r was not handed over: %s The sweep hands it over."),
    ("effects/keys.py", "the resource key %r, for which others wait, was not handed over: %s"),
    ("effects/queue_alarm.py", "%s"),
    ("effects/queue_alarm.py", "%s That could not be told: %s"),
    ("recovery/unfetched.py", "whether %s tasks wait for a worker is not known: %s"),
    ("effects/windows.py", "whether alerts like that of %s wait is not known, so it is sent: %s"),
    ("effects/windows.py", "%d alert(s) could not be counted, so they are sent: %s"),
    ("recovery/digests.py", "the digests of alerts are left to the next sweep: %s"),
    ("recovery/digests.py", "a digest of alerts could not be sent"),
    ("recovery/unclaimed.py", "%d tasks that are still queued could not be put off: %s"),
    ("sweeper.py", "the sweep failed: %s"),
    ("reminders/slots.py", "whether a reminder is due is not known: %s"),
    ("reminders/slots.py", "the reminder of %s could not be sent: %s"),
    ("recovery/rounds.py", "%s"),
    (
        "recovery/rounds.py",
        "the sweep knows no collection but the library's own: nothing was ever scheduled in another one",
    ),
    ("recovery/rounds.py", "%s is not forgotten any more: %s has a due time"),
    ("recovery/rounds.py", "whether %s may be forgotten is not known: %s"),
    ("worker/fetcher.py", "looking for %s tasks failed: %s"),
    ("worker/listening.py", "listening for tasks ended (%s); polling until it is open again"),
    ("worker/listening.py", "no listener: %s"),
    ("worker/listening.py", "no listener on this channel: %r"),
    ("worker/membership.py", "worker session %s has died of missing heartbeats; another one begins"),
    ("worker/membership.py", "a heartbeat of worker session %s failed: %s"),
    ("worker/membership.py", "ending worker session %s failed: %s It runs out by itself."),
    ("worker/worker.py", "%s starts: %d at once, environment %s, kinds: %s"),
    ("worker/membership.py", "%s is damaged and does not count; its worker writes it anew, if it lives"),
    ("worker/worker.py", "%s got %s; another signal hands back what runs"),
    ("worker/worker.py", "%s stops; it takes no more, and waits for running tasks: %d"),
    ("worker/worker.py", "%s has handed back running tasks: %d"),
    ("worker/worker.py", "%s has ended; tasks run: %d"),
}
"""Lines that are about no delivery, attempt or takeover: named locks, keys, sessions, sweeps, documents that can't be read."""


def test_every_line_in_the_source_names_what_it_is_about() -> None:
    """
    A line is logged by what it is about (``LogContext.log``), or stands in the list of those that are about something else; an
    event is given it.
    """
    named, others, bare = 0, set(), []
    for path in LIBRARY.rglob("*.py"):
        name = str(path.relative_to(LIBRARY))
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            if not isinstance(call.func, ast.Attribute):
                continue
            owner, what = ast.unparse(call.func.value), call.func.attr
            if (
                owner.endswith(".events")
                and what != "requested"
                and call.args
                and isinstance(call.args[0], ast.Constant)
            ):
                bare.append(name)
            named += what == "log" and ("about" in owner or "context" in owner)
            # ``LogContext.log`` itself is given its text.
            if (
                owner == "LOGGER"
                and name != LOGS
                and what in ("debug", "info", "warning", "error", "exception", "critical", "log")
            ):
                assert isinstance(call.args[0], ast.Constant), ast.unparse(call)
                others.add((name, str(call.args[0].value)))

    assert named > 20
    assert {
        other for other in others if other[0] not in ("services/smtp.py", "observe/alerts.py", "observe/trail.py")
    } == OTHERS
    # A document that can't be decoded has no step.
    assert bare == ["outbox.py"]
