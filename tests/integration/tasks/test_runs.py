"""
How runs of once-tasks end: verdicts, bad payloads and results, crashes, cancellations that race, and the logs of it.
"""

from __future__ import annotations

import itertools
import logging
from datetime import timedelta
from typing import Any

import grpc
import pytest
from pydantic import BaseModel

from gcp_oncetask import Continue, Fail, FixedDelay, NoRetry, ResultNotStoredError, Retry, Snooze, Status, UsageError
from gcp_oncetask.tasks import PerTask, current_attempt
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Latest, Other, Service, Work, lines

SECOND = FixedDelay(delay=timedelta(seconds=1))


def test_payload_that_does_not_validate_is_a_failed_attempt(service: Service) -> None:
    service.create("a")
    service.manager.locker.client.document(service.path("a")).update({"data": {"surprise": 1}})
    service.handle(retry=SECOND).cloud.advance(minutes=5)
    lock = service.lock("a")
    assert (service.ran, lock.attempts, lock.status, len(service.cloud.alerts.sent)) == ([], 3, Status.FAILED, 1)
    assert "does not fit Work" in lock.errors[0].message
    assert "name: Field required" in lock.errors[0].message


@pytest.mark.parametrize("result", [object(), "x" * 2_000_000])
def test_result_that_cannot_be_stored_is_lost_and_the_task_done(service: Service, result: object) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: result
    service.cloud.advance(minutes=5)
    lock = service.lock("a")
    assert (len(service.ran), lock.attempts, lock.status, lock.result) == (1, 1, Status.COMPLETED, None)
    task = service.manager.get_task(Work, "a")
    for ask in (lambda: service.manager.result(Work, "a"), lambda: task.result):
        with pytest.raises(ResultNotStoredError) as error:
            ask()
        assert error.value.reason == lock.returned.lost


class Receipt(BaseModel):
    """
    A typed result.
    """

    amount: int


def test_typed_result_is_read_back(service: Service) -> None:
    service.handle().create("a")
    service.act = lambda task, attempt: Receipt(amount=3)
    service.cloud.run_until_idle()
    assert service.manager.result(Work, "a", as_=Receipt) == Receipt(amount=3)


def test_continue_goes_on_with_a_new_payload(service: Service) -> None:
    """
    A cursor: next sequence of the same task, its own attempts and key.
    """

    def act(task: Any, attempt: Any) -> Any:
        if attempt.step == 2 and attempt.number == 1:
            raise ValueError("once")
        if attempt.step < 3:
            return Continue(data=task.data.model_copy(update={"note": f"page {attempt.step}"}), delay=5)
        return {"pages": attempt.step}

    service.handle(retry=SECOND).create("a", note="start")
    service.act = act
    service.cloud.advance(minutes=1)
    notes = [task.data.note for task in service.tasks]
    assert notes == ["start", "page 1", "page 1", "page 2"]
    assert [attempt.number for attempt in service.attempts] == [1, 1, 2, 1]
    assert len({attempt.key for attempt in service.attempts}) == 3
    assert service.manager.result(Work, "a") == {"pages": 3}
    assert not service.manager.create_task(Work(name="a", note="start"))


def test_continue_with_what_is_no_payload_is_a_failed_attempt(service: Service) -> None:
    service.handle(retry=NoRetry()).create("a")
    service.act = lambda task, attempt: Continue(data={"number": 1})
    service.cloud.run_until_idle()
    assert service.lock("a").status is Status.FAILED
    assert "does not fit Work" in service.lock("a").errors[0].message


def test_snooze_burns_no_attempt(service: Service) -> None:
    service.handle(retry=NoRetry()).create("a")
    service.act = lambda task, attempt: Snooze(60) if len(service.ran) < 5 else None
    service.cloud.advance(minutes=10)
    assert [attempt.number for attempt in service.attempts] == [1] * 5
    assert len({attempt.key for attempt in service.attempts}) == 1
    assert service.status("a") == "completed"


def test_retry_after_and_fail(service: Service) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: Retry("later", after=90) if attempt.number == 1 else Fail("enough")
    service.cloud.advance(seconds=89)
    assert len(service.ran) == 1
    service.cloud.advance(seconds=2)
    lock = service.lock("a")
    assert ([error.message for error in lock.errors], lock.status) == (["later", "enough"], Status.FAILED)


def test_retry_starts_when_its_delay_is_over(service: Service) -> None:
    began: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        began.append(service.cloud.clock_now())
        raise ValueError("no")

    service.handle(retry=FixedDelay(delay=timedelta(seconds=7))).create("a")
    service.act = act
    service.cloud.advance(minutes=1)
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(began)]
    assert gaps == [pytest.approx(7, abs=0.1)] * 2


def test_crash_and_failures_count_together(service: Service) -> None:
    """
    Crash, fail, fail with three attempts is failed; all with one key.
    """

    def act(task: Any, attempt: Any) -> None:
        if attempt.number == 1:
            raise Killed
        raise ValueError("no")

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.settle(30)
    lock = service.lock("a")
    assert (len(service.ran), lock.attempts, lock.status) == (3, 3, Status.FAILED)
    assert len({attempt.key for attempt in service.attempts}) == 1
    assert [error.attempt for error in lock.errors] == [1, 2, 3]


def test_task_that_kills_its_process_each_time_fails(service: Service) -> None:
    service.handle(retry=SECOND).create("a")

    def act(task: Any, attempt: Any) -> None:
        raise Killed

    service.act = act
    service.settle(90)
    assert (len(service.ran), service.lock("a").status) == (3, Status.FAILED)


def test_kind_without_a_handler_stays_until_there_is_one(service: Service) -> None:
    service.create("a")
    service.cloud.run_until_idle()
    assert {delivery.status for delivery in service.cloud.deliveries} == {409}
    for _ in range(4):
        service.cloud.advance(minutes=10)
        service.cloud.sweep()
    [alert] = service.cloud.alerts.sent
    assert "HTTP 409. There is no handler for it" in alert.reason
    assert service.status("a") == "pending"
    service.handle().cloud.advance(hours=2)
    assert (service.ran, service.status("a")) == (["a"], "completed")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("batch", [False, True])
def test_end_of_the_process_is_a_failed_attempt(service: Service, error: type[BaseException], batch: bool) -> None:
    """
    Recorded at once, the lease released, and raised on.
    """

    def act(given: Any, attempt: Any) -> None:
        service.act = lambda given, attempt: None
        raise error("bye")

    service.create("a", "b", key="K")
    (service.handle_keys if batch else service.handle)(retry=SECOND)
    service.act = act
    body = service.body("a")
    with pytest.raises(error):
        service.post(body)
    for name in "ab" if batch else "a":
        assert (service.lock(name).status, service.lock(name).attempts) == (Status.SCHEDULED, 1)
        assert service.lock(name).errors[0].message == f"{error.__name__}: bye"
    service.settle(6)
    assert {service.status(name) for name in "ab"} == {"completed"}


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batch_with_outcomes_of_their_own(service: Service) -> None:
    """
    One deleted meanwhile spoils nothing for the rest.
    """
    outcomes: dict[str, Any] = {
        "b": Fail("no"),
        "c": Snooze(60),
        "d": Retry("later", after=30),
        "e": {"own": 1},
        "f": ValueError("odd"),
    }

    def act(tasks: Any, attempts: Any) -> Any:
        service.act = lambda tasks, attempts: {"second": True}
        service.manager.delete_task(Work, "g")
        return PerTask(outcomes, otherwise={"shared": 1})

    service.create(*"abcdefg", key="K")
    service.handle_keys(retry=FixedDelay(delay=timedelta(seconds=10)))
    service.act = act
    service.cloud.run_until_idle()
    assert service.batches == [list("abcdefg")]
    assert service.manager.get_task(Work, "g") is None
    assert [service.status(name) for name in "abcdef"] == [
        "completed",
        "failed",
        "waiting",
        "waiting",
        "completed",
        "waiting",
    ]
    assert [service.manager.result(Work, name) for name in "ae"] == [{"shared": 1}, {"own": 1}]
    assert [service.lock(name).attempts for name in "cdf"] == [0, 1, 1]
    service.cloud.advance(minutes=5)
    assert {service.status(name) for name in "acdef"} == {"completed"}


def test_batch_outcome_for_a_stranger_is_an_error(service: Service) -> None:
    service.handle_keys(retry=NoRetry()).create("a", "b", key="K")
    service.act = lambda tasks, attempts: PerTask({"z": 1})
    service.cloud.run_until_idle()
    assert "'z', which is not in its batch" in service.lock("a").errors[0].message
    assert [service.lock(name).status for name in "ab"] == [Status.FAILED] * 2


def test_batch_whose_process_dies_is_judged_task_by_task(service: Service) -> None:
    service.create(*"abc", key="K")
    service.handle_keys(retry=SECOND)
    service.die_once()
    service.cloud.run_until_idle()
    assert [service.lock(name).status for name in "abc"] == [Status.LEASED] * 3
    service.settle(40)
    assert {service.status(name) for name in "abc"} == {"completed"}
    assert [service.ran.count(name) for name in "abc"] == [2, 2, 2]
    assert [service.lock(name).attempts for name in "abc"] == [2, 2, 2]


def test_batch_leaves_a_payload_that_does_not_fit_behind(service: Service) -> None:
    service.create(*"abc", key="K")
    service.manager.locker.client.document(service.path("b")).update({"data": {"surprise": 1}})
    service.handle_keys(retry=NoRetry()).cloud.run_until_idle()
    assert service.batches == [["a", "c"]]
    assert [service.lock(name).status for name in "abc"] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]


# --- cancellation that races ------------------------------------------------------------------------------------------


class Cleanup:
    """
    A cancellation handler that remembers its attempts.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, task: Any, attempt: Any) -> None:
        self.numbers.append(attempt.number)


@pytest.mark.parametrize(
    ("how", "status", "cleanups"),
    [
        ("success", Status.COMPLETED, 0),
        ("failure", Status.CANCELLED, 1),
        ("fail", Status.CANCELLED, 1),
        ("snooze", Status.CANCELLED, 1),
        ("continue", Status.CANCELLED, 1),
        ("last failure", Status.CANCELLED, 1),
    ],
)
def test_cancelled_while_it_runs(service: Service, how: str, status: Status, cleanups: int) -> None:
    """
    Success stays success; everything else leads to the cancellation handler, which has attempts of its own.
    """
    cleanup = Cleanup()

    def act(task: Any, attempt: Any) -> Any:
        assert service.manager.cancel_task(Work, "a")
        assert not attempt.cancelled
        attempt.renew()
        assert attempt.cancelled
        match how:
            case "success":
                return {"done": True}
            case "fail":
                return Fail("no")
            case "snooze":
                return Snooze(5)
            case "continue":
                return Continue()
        raise ValueError("no")

    service.handle(retry=NoRetry() if how == "last failure" else SECOND, on_cancel=cleanup).create("a")
    service.act = act
    service.settle(10)
    assert (service.ran, cleanup.numbers, service.lock("a").status) == (["a"], [1] * cleanups, status)
    assert service.cloud.alerts.sent == []
    assert not service.manager.cancel_task(Work, "a")
    assert service.lock("a").status is status


@pytest.mark.parametrize(
    "returned", [Continue(data=Latest(name="a", note="own")), {"done": True}], ids=["continue", "done"]
)
@pytest.mark.parametrize("killed", [False, True], ids=["settled", "recovered from its log"])
def test_cancelled_after_a_newer_payload_keeps_that(oncetask_cloud: OncetaskCloud, returned: Any, killed: bool) -> None:
    """
    The attempt ran with the older one; what it says of the next step is not stored over the newer one, and its success is not
    that of the newer one, also where its process dies before it has committed, and recovery reads it in the log.
    """
    service, seen = Service(oncetask_cloud, log_contents=True), []

    def act(task: Any, attempt: Any) -> Any:
        service.manager.create_task(Latest(name="a", note="newer"))
        assert service.manager.cancel_task(Latest, "a")
        if killed:
            service.cloud.faults.fail("Commit", times=None, code=grpc.StatusCode.UNAVAILABLE)
        return returned

    service.act = act
    service.handle(Latest, on_cancel=lambda task, attempt: seen.append(task.data.note)).create("a", model=Latest)
    oncetask_cloud.run_until_idle()
    oncetask_cloud.faults.clear()
    for _ in range(20):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    assert (seen, service.get("a", Latest).data.note) == (["newer"], "newer")
    assert (service.lock("a", Latest).status, service.ran) == (Status.CANCELLED, ["a"])


def test_cancelled_one_whose_process_died_is_cleaned_up(service: Service) -> None:
    cleanup = Cleanup()

    def act(task: Any, attempt: Any) -> None:
        service.manager.cancel_task(Work, "a")
        raise Killed

    service.handle(retry=NoRetry(), on_cancel=cleanup).create("a")
    service.act = act
    service.settle(40)
    assert (service.ran, cleanup.numbers, service.lock("a").status) == (["a"], [1], Status.CANCELLED)


@pytest.mark.parametrize("retry", [SECOND, NoRetry()])
def test_reset_keeps_the_key_of_what_did_not_complete(service: Service, retry: Any) -> None:
    service.handle(retry=retry).create("a")
    service.act = lambda task, attempt: Fail("no") if len(service.ran) == 1 else None
    service.cloud.run_until_idle()
    assert service.manager.reset_task(Work, "a", keep_errors=True)
    service.cloud.run_until_idle()
    assert (service.status("a"), [error.message for error in service.lock("a").errors]) == ("completed", ["no"])
    assert service.manager.reset_task(Work, "a")
    service.cloud.run_until_idle()
    first, second, third = (attempt.key for attempt in service.attempts)
    assert first == second != third
    assert service.lock("a").errors == ()


def test_is_queued_and_is_running(service: Service) -> None:
    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        task = service.get("a")
        seen.append((task.is_queued, task.is_running))

    service.handle().create("a")
    service.act = lambda task, attempt: look()
    look()
    service.cloud.run_until_idle()
    look()
    assert seen == [(True, False), (False, True), (False, False)]


def test_ids_are_in_every_line_of_a_handler(service: Service) -> None:
    log = logging.getLogger("user")

    def act(given: Any, attempt: Any) -> None:
        log.info("in %s", current_attempt()._running.context.document)

    service.handle(Other).handle_keys()
    service.create("a", "b", key="K")
    service.create("c", model=Other)
    service.act = act
    with lines(log) as found:
        service.cloud.run_until_idle()
    assert [(line["oncetask"].get("task"), line["oncetask"].get("resourceKey")) for line in found] == [
        (None, "K"),
        ("c", None),
    ]
    assert {line["oncetask"]["env"] for line in found} == {"DEFAULT"}
    assert found[1]["oncetask"]["kind"] == "other"


def test_async_handler_is_refused(service: Service) -> None:
    async def run(task: Any, attempt: Any) -> None: ...

    with pytest.raises(UsageError, match="async"):
        service.manager.register_task_handler(Work, run)
