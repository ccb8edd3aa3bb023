"""
oncetask: retries, deadlines, exceptions, context and logs. One test per row of its behaviour.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import ExponentialBackoff, FixedDelay, NoRetry, Status
from gcp_oncetask.rules.retry_policy import RetryPolicy
from gcp_oncetask.tasks import current_resource_key, current_task_id
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.tasks import Service, Work, lines

SECOND = FixedDelay(delay=timedelta(seconds=1))
COOPERATIVE = "Python can't be interrupted: attempt.remaining() says when to stop, while the lease still holds"
NO_TEXT = "None instead of an empty text"
LOG = logging.getLogger("user")


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment.
    """
    return Service(oncetask_cloud)


def failing(times: int | None = None, error: Exception | None = None) -> Any:
    """
    A handler that fails so often; None: always.
    """
    left = [times]

    def act(task: Any, attempt: Any) -> dict[str, int]:
        if left[0] is not None:
            if left[0] == 0:
                return {"number": attempt.number}
            left[0] -= 1
        raise error or ValueError("no")

    return act


def ends(service: Service, retry: RetryPolicy, act: Any) -> tuple[int, int, Status]:
    """
    Attempts, errors and status of a task run to its end.
    """
    service.handle(retry=retry).create("a")
    service.act = act
    service.cloud.advance(hours=1)
    lock = service.lock("a")
    assert len(service.ran) == lock.attempts
    return lock.attempts, len(lock.errors), lock.status


@row("OT-066", "no-retry policy, always fails: attempts 1, errors 1, terminal")
def test_ot_066_no_retry(service: Service) -> None:
    assert ends(service, NoRetry(), failing()) == (1, 1, Status.FAILED)


@row("OT-067", "fixed delay, 3 attempts, always fails: attempts 3, errors 3, terminal")
def test_ot_067_fixed_delay(service: Service) -> None:
    assert ends(service, SECOND, failing()) == (3, 3, Status.FAILED)


@row("OT-068", "exponential, 5 attempts, fails twice: attempts 3, errors 2, terminal (completed)")
def test_ot_068_exponential(service: Service) -> None:
    assert ends(service, ExponentialBackoff(max_attempts=5), failing(2)) == (3, 2, Status.COMPLETED)


@row("OT-069", "no-retry shortcut: as OT-066", "NoRetry() is the shortcut")
def test_ot_069_no_retry_shortcut(service: Service) -> None:
    assert NoRetry() == NoRetry(max_attempts=1)
    assert ends(service, NoRetry(), failing()) == (1, 1, Status.FAILED)


class Refusing:
    """
    A policy of a user's own: four attempts, none after a marked error.
    """

    max_attempts = 4

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return attempt < self.max_attempts and not isinstance(error, PermissionError)

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        return timedelta(seconds=attempt)


@row("OT-070", "custom policy refusing a marked error: 1 run, terminal")
def test_ot_070_policy_sees_the_error(service: Service) -> None:
    assert ends(service, Refusing(), failing(None, PermissionError("marked"))) == (1, 1, Status.FAILED)


@row("OT-071", "custom policy, 4 attempts: 4 runs, 4 errors")
def test_ot_071_policy_of_ones_own(service: Service) -> None:
    assert ends(service, Refusing(), failing()) == (4, 4, Status.FAILED)


def wait_for_the_deadline(service: Service) -> Any:
    """
    A handler that works as long as it may.
    """

    def act(task: Any, attempt: Any) -> None:
        while attempt.remaining() > 0:
            service.cloud.advance(seconds=1)
        raise TimeoutError("deadline exceeded")

    return act


@row("OT-072", "lease 2 s, handler waits for cancellation, 2 attempts: attempts 2, both errors say so", COOPERATIVE)
def test_ot_072_deadline(service: Service) -> None:
    service.handle(
        retry=FixedDelay(delay=timedelta(seconds=1), max_attempts=2), lease_duration=30, run_limit=30, renew=False
    ).create("a")
    service.act = wait_for_the_deadline(service)
    service.cloud.advance(minutes=5)
    lock = service.lock("a")
    assert (lock.attempts, lock.status) == (2, Status.FAILED)
    assert [error.message for error in lock.errors] == ["TimeoutError: deadline exceeded"] * 2


@row("OT-073", "slow handler, short budget: cancelled with deadline error", COOPERATIVE)
def test_ot_073_slow_handler(service: Service) -> None:
    began = service.cloud.clock_now()
    service.handle(retry=NoRetry(), lease_duration=30, run_limit=40).create("a")
    service.act = wait_for_the_deadline(service)
    service.cloud.run_until_idle()
    assert timedelta(seconds=35) < service.cloud.clock_now() - began < timedelta(seconds=40)
    lock = service.lock("a")
    assert (lock.status, [error.message for error in lock.errors]) == (
        Status.FAILED,
        ["TimeoutError: deadline exceeded"],
    )


@row("OT-074", "fast handler: unaffected by the budget")
def test_ot_074_fast_handler(service: Service) -> None:
    service.handle(lease_duration=30, run_limit=30).create("a")
    left: list[float] = []
    service.act = lambda task, attempt: left.append(attempt.remaining())
    service.cloud.run_until_idle()
    assert 20 < left[0] < 30
    assert (service.status("a"), service.lock("a").errors) == ("completed", ())


def delay(service: Service, name: str = "a") -> float:
    """
    Seconds until the task is tried again.
    """
    wait = service.lock(name).wait_until
    assert wait is not None
    return (wait - service.cloud.clock_now()).total_seconds()


@row("OT-075", "non-cancelled failure: normal policy's delay (tolerance 1 s)")
def test_ot_075_delay_of_a_failure(service: Service) -> None:
    service.handle(
        retry=FixedDelay(delay=timedelta(seconds=40)),
        on_cancel=failing(),
        cancel_retry=FixedDelay(delay=timedelta(seconds=90)),
    ).create("a")
    service.act = failing()
    service.cloud.run_until_idle()
    assert delay(service) == pytest.approx(40, abs=1)


@row("OT-076", "cancelled failure: cancellation policy's delay")
def test_ot_076_delay_of_a_cancellation(service: Service) -> None:
    service.handle(
        retry=FixedDelay(delay=timedelta(seconds=40)),
        on_cancel=failing(),
        cancel_retry=FixedDelay(delay=timedelta(seconds=90)),
    ).create("a")
    service.manager.cancel_task(Work, "a")
    service.cloud.run_until_idle()
    assert service.ran == []
    assert delay(service) == pytest.approx(90, abs=1)


@row("OT-077", "cancellation policy 3 attempts; attempts 0, 1: retry scheduled")
def test_ot_077_cancellation_is_retried(service: Service) -> None:
    service.handle(on_cancel=failing(), cancel_retry=SECOND).create("a")
    service.manager.cancel_task(Work, "a")
    service.cloud.run_until_idle()
    for number in (1, 2):
        assert (service.lock("a").attempts, service.status("a")) == (number, "cancellationPending")
        service.cloud.advance(seconds=1.5)
    assert service.status("a") == "cancelled"


@row("OT-078", "cancellation policy 3 attempts; attempts 3: done, no retry", "its status is cancelled, and alerted")
def test_ot_078_cancellation_is_given_up(service: Service) -> None:
    service.handle(on_cancel=failing(), cancel_retry=SECOND).create("a")
    service.manager.cancel_task(Work, "a")
    service.cloud.advance(minutes=5)
    assert (service.lock("a").attempts, service.lock("a").status) == (3, Status.CANCELLED)
    assert service.get("a").done_at is not None
    assert len(service.cloud.alerts.sent) == 1


# --- exceptions -------------------------------------------------------------------------------------------------------


@row("OT-079", "safe-run: value passed / error passed")
@pytest.mark.parametrize("fails", [False, True])
def test_ot_079_value_or_error(service: Service, fails: bool) -> None:
    assert ends(service, NoRetry(), failing(None if fails else 0)) == (
        (1, 1, Status.FAILED) if fails else (1, 0, Status.COMPLETED)
    )
    assert service.get("a").result == (None if fails else {"number": 1})


class OddError(Exception):
    """
    An error of the user's own.
    """


@row("OT-080", "panic with text, error, number, nil: error mentioning the value")
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("some text"), "RuntimeError: some text"),
        (OddError(ValueError("inner")), "OddError: inner"),
        (OddError(42), "OddError: 42"),
        (OddError(), "OddError: "),
    ],
)
def test_ot_080_what_was_raised(service: Service, error: Exception, says: str) -> None:
    ends(service, NoRetry(), failing(None, error))
    assert [found.message for found in service.lock("a").errors] == [says]


AROUND: ContextVar[str] = ContextVar("around", default="nothing")


@row("OT-081", "context values and parameter reach the handler; single and batch, ok and panic")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_ot_081_context_reaches_the_handler(service: Service, batch: bool, fails: bool) -> None:
    found: list[Any] = []

    def act(given: Any, attempt: Any) -> str:
        found.append((AROUND.get(), [task.data.note for task in given] if batch else given.data.note))
        if fails:
            raise ValueError("no")
        return "fine"

    (service.handle_keys if batch else service.handle)(retry=NoRetry()).create("a", note="parameter", key="K")
    service.act = act
    token = AROUND.set("value")
    try:
        service.cloud.run_until_idle()
    finally:
        AROUND.reset(token)
    assert found == [("value", ["parameter"] if batch else "parameter")]
    assert service.status("a") == ("failed" if fails else "completed")


@row("OT-082", "panics once, then fine, 3 attempts: done, attempts 2, one error mentioning panic")
def test_ot_082_raises_once(service: Service) -> None:
    assert ends(service, SECOND, failing(1, RuntimeError("panic"))) == (2, 1, Status.COMPLETED)
    assert service.lock("a").errors[0].message == "RuntimeError: panic"


@row("OT-083", "always panics, no retry: 1 run, terminal, one error mentioning panic")
def test_ot_083_raises_always(service: Service) -> None:
    assert ends(service, NoRetry(), failing(None, RuntimeError("panic"))) == (1, 1, Status.FAILED)
    assert service.lock("a").errors[0].message == "RuntimeError: panic"


@row(
    "OT-084", "exponential zero values: 1 s, 2 s, 4 s ... capped 5 min", "the cap holds for the first delay too; jitter"
)
def test_ot_084_default_backoff() -> None:
    policy = ExponentialBackoff()
    seconds = [policy.next_delay(number, None, 0.0).total_seconds() for number in range(1, 13)]
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert policy.next_delay(1, None, 1.0).total_seconds() == 0.9


@row("OT-085", "MaxAttempts 0: always retried", "every task is bounded: 0 is refused; a large number is allowed")
def test_ot_085_without_limit() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ExponentialBackoff(max_attempts=0)
    policy = ExponentialBackoff(max_attempts=10**6)
    assert all(policy.should_retry(number, None) for number in range(1, 10**6, 999))
    assert not policy.should_retry(10**6, None)


# --- context and logs -------------------------------------------------------------------------------------------------


@row("OT-086", "no task in scope: empty strings", NO_TEXT)
def test_ot_086_outside_a_task() -> None:
    assert (current_task_id(), current_resource_key()) == (None, None)


def asked(service: Service, *names: str, batch: bool = False, **fields: Any) -> list[tuple[str | None, str | None]]:
    """
    What handlers of these tasks learn of id and key.
    """
    found: list[tuple[str | None, str | None]] = []
    service.act = lambda given, attempt: found.append((current_task_id(), current_resource_key()))
    (service.handle_keys if batch else service.handle)().create(*names, **fields)
    service.cloud.run_until_idle()
    assert (current_task_id(), current_resource_key()) == (None, None)
    return found


@row("OT-087", "id only / key only / both in scope: what is there", NO_TEXT)
@pytest.mark.parametrize(
    ("names", "batch", "key", "says"),
    [("a", False, None, ("a", None)), ("ab", True, "K", (None, "K")), ("a", False, "K", ("a", "K"))],
)
def test_ot_087_what_is_there(service: Service, names: str, batch: bool, key: str | None, says: Any) -> None:
    assert asked(service, *names, batch=batch, key=key) == [says]


@row("OT-088", "handler of a keyed task asks: its id and key")
def test_ot_088_id_and_key(service: Service) -> None:
    assert asked(service, "a", "b", key="K") == [("a", "K"), ("b", "K")]


@row("OT-089", "batch of one asks: id and key")
def test_ot_089_batch_of_one(service: Service) -> None:
    assert asked(service, "a", batch=True, key="K") == [("a", "K")]


@row("OT-090", "batch of two asks: no id, key present", NO_TEXT)
def test_ot_090_batch_of_two(service: Service) -> None:
    assert asked(service, "a", "b", batch=True, key="K") == [(None, "K")]


@row("OT-091", "log outside a task: neither field")
def test_ot_091_log_outside() -> None:
    with lines(LOG) as found:
        LOG.info("hello")
    assert "oncetask" not in found[0]


@row(
    "OT-092",
    "log with id / key / both: those fields, own fields kept",
    "in the field oncetask, as task and resourceKey",
)
@pytest.mark.parametrize(
    ("names", "batch", "key", "says"),
    [("a", False, None, ("a", None)), ("ab", True, "K", (None, "K")), ("a", False, "K", ("a", "K"))],
)
def test_ot_092_log_inside(service: Service, names: str, batch: bool, key: str | None, says: Any) -> None:
    with lines(LOG) as found:
        service.act = lambda given, attempt: LOG.info("hello", extra={"own": 1})
        (service.handle_keys if batch else service.handle)().create(*names, key=key)
        service.cloud.run_until_idle()
    [line] = found
    ours = line["oncetask"]
    assert (ours.get("task"), ours.get("resourceKey")) == says
    assert (line["own"], ours["kind"], line["message"]) == (1, "work", "hello")


@row("OT-093", "logger with extra attributes: both extras and id present")
def test_ot_093_logger_with_extras(service: Service) -> None:
    logger = logging.LoggerAdapter(LOG, {"region": "eu", "shop": "7"})
    with lines(LOG) as found:
        service.act = lambda task, attempt: logger.info("hello")
        service.handle().create("a")
        service.cloud.run_until_idle()
    assert (found[0]["region"], found[0]["shop"], found[0]["oncetask"]["task"]) == ("eu", "7", "a")
