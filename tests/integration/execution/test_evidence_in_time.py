"""
Lines that come late: no absence is evidence before it had its time, whatever else the logs show and whoever asks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from gcp_emulator.clock import micros_of
from gcp_emulator.run.logs import RequestRecord, RunLogs
from gcp_oncetask import Attempt, Config, ConfigError, Status, forks
from gcp_oncetask.execution.handler_spec import policy_of
from gcp_oncetask.execution.takeover import judge_all
from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.services.cloud_logging import CloudRequestLog
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed, Order, Shop
from tests.support.rules import table

INSTANCE = "in-process"
TRACE = "0123456789abcdef0123456789abcdef"
HEADERS = {"traceparent": f"00-{TRACE}-0123456789abcdef-01"}
URL = "https://orders.test/tasks/order?oncetask_document=orders%2F42&oncetask_sequence=1"


def lock_of(shop: Shop, id_: str = "42") -> Any:
    return shop.locker.show(f"orders/{id_}")


def lose_the_settling(cloud: OncetaskCloud, shop: Shop, *, after: float = 0.0, late: float = 0.0) -> None:
    """
    Schedule an order whose first step ends *after* so many seconds; its commit is lost, and its end line comes *late*.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        shop.locker._executor.renewals.remove(attempt._running)
        for left in range(int(after), 0, -20):
            cloud.clock.advance(min(left, 20))
            attempt.renew()
        cloud.local.logging.delay = late
        cloud.faults.fail("Commit", times=None)
        cloud.faults.fail("GetDocument", times=None)
        shop.locker.schedule(order, "/tasks/order")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order", headers=HEADERS)
    cloud.run_until_idle()
    cloud.faults.clear()
    cloud.local.logging.delay = 0.0
    assert Status.LEASED is lock_of(shop).status


def at_age(cloud: OncetaskCloud, shop: Shop, seconds: float) -> None:
    """
    Let the clock stand where the lease was granted so long ago.
    """
    age = cloud.clock_now() - lock_of(shop).granted_at
    cloud.clock.advance(seconds - age.total_seconds())


def crashed(cloud: OncetaskCloud, shop: Shop) -> None:
    cloud.write_system("Container terminated on signal 9.")


def answered(status: int) -> Callable[[OncetaskCloud, Shop], None]:
    def answer(cloud: OncetaskCloud, shop: Shop) -> None:
        # The platform's entry of the request that has just ended.
        now = cloud.clock.micros()
        logs = RunLogs(
            cloud.local.logging, cloud.clock, project=cloud.local.project, service="test", revision="test-00001",
            region=cloud.local.location, delay=None,
        )  # fmt: skip
        begun = micros_of(lock_of(shop).granted_at) - 1_000_000
        logs.request(RequestRecord("POST", URL, status, begun, now, 0, 0, "", "", "", TRACE, "", INSTANCE))

    return answer


@pytest.mark.parametrize("told", [crashed, answered(503), answered(500), answered(200)])
@pytest.mark.parametrize("by", ["sweep", "delivery"])
def test_finished_step_whose_end_line_is_the_slower_one_is_not_run_again(
    oncetask_cloud: OncetaskCloud, shop: Shop, told: Callable[[OncetaskCloud, Shop], None], by: str
) -> None:
    """
    Its commit was lost, the platform tells of its end at once, its own line comes 119 s later: it is settled from that.
    """
    cloud = oncetask_cloud
    lose_the_settling(cloud, shop, after=1.0, late=119.0)
    told(cloud, shop)
    for _ in range(12):
        cloud.advance(seconds=10)
        if by == "sweep":
            cloud.sweep()
        else:
            cloud.duplicate_last()
        cloud.local.tasks.run_due()
    cloud.advance(minutes=3)
    cloud.sweep()
    cloud.advance(minutes=3)

    assert len(shop.charges) == 1
    assert (lock_of(shop).status, shop.receipts) == (Status.COMPLETED, ["42"])


def test_step_that_ends_just_before_its_timeout_is_not_taken_over_there(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    It is renewed to its end at 628 s, its commit is lost, and its end line comes 119 s later: nobody runs it at 630 s.
    """
    cloud = oncetask_cloud
    lose_the_settling(cloud, shop, after=628.0, late=119.0)
    for age in (*range(700, 740, 10), 746):
        at_age(cloud, shop, age)
        cloud.sweep()
        cloud.local.tasks.run_due()
    assert (len(shop.charges), lock_of(shop).status) == (1, Status.LEASED)
    cloud.advance(seconds=35)
    cloud.sweep()
    cloud.advance(minutes=3)

    assert len(shop.charges) == 1
    assert (lock_of(shop).status, shop.receipts) == (Status.COMPLETED, ["42"])


def test_attempt_whose_settling_is_lost_does_not_say_that_it_never_started(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    The fate of its last commit is unknown, not that of its claim: nobody is told that nothing was run.
    """
    lose_the_settling(oncetask_cloud, shop)
    said = {str(entry.json_payload["oncetask"]["event"]) for entry in oncetask_cloud.local.logging.entries}
    assert "started" in said
    assert "returned" in said
    assert "never-started" not in said


def test_running_handler_is_not_taken_for_dead_by_what_a_user_says(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A comment that quotes gunicorn, another that imitates it behind a line break, and data that imitates an end line: the
    handler has outlived its lease, and runs on alone. Each time two calls ask the logs.
    """
    cloud, logging_ = oncetask_cloud, oncetask_cloud.local.logging
    swept: list[tuple[int, int, int]] = []
    logs = RunLogs(
        logging_, cloud.clock, project=cloud.local.project, service="test", revision="test-00001",
        region=cloud.local.location, delay=None,
    )  # fmt: skip

    def charge(order: Order, attempt: Attempt) -> None:
        shop.locker._executor.renewals.remove(attempt._running)
        cloud.clock.advance(50)
        killed = f"Worker (pid:{forks.pid}) was sent SIGKILL! Perhaps out of memory?"
        stamped = f"[{cloud.clock_now():%Y-%m-%d %H:%M:%S %z}] [{{}}] [ERROR] {killed}"
        logs.line("stderr", f"WARNING:root:can't parse comment '{killed}'", INSTANCE)
        logs.line("stderr", f"WARNING:root:can't parse comment 'x\n{stamped.format(forks.parent)}", INSTANCE)
        logs.line("stderr", stamped.format(forks.pid), INSTANCE)
        comment = {"oncetask": {"event": "returned", "settlement": '{"kind": "complete", "nonce": "x"}'}}
        record = logging.makeLogRecord({"levelno": 20, "created": cloud.clock_now().timestamp(), **comment})
        logs.line("stdout", CloudFormatter().format(record), INSTANCE)
        for _ in range(4):
            cloud.clock.advance(100)
            calls = logging_.counts["ListLogEntries"]
            done = cloud.sweep()
            swept.append((done.unknown, done.taken_over, logging_.counts["ListLogEntries"] - calls))

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order", headers=HEADERS)
    cloud.run_until_idle()

    assert swept == [(1, 0, 2)] * 4
    assert (len(shop.charges), lock_of(shop).sequence) == (1, 1)


def test_true_words_of_gunicorn_take_a_dead_handler_over(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The same line, by gunicorn's first process, counts.
    """
    cloud = oncetask_cloud

    def charge(order: Order, attempt: Attempt) -> None:
        raise Killed

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order")
    cloud.run_until_idle()
    shop.on_charge = None
    logs = RunLogs(
        cloud.local.logging, cloud.clock, project=cloud.local.project, service="test", revision="test-00001",
        region=cloud.local.location, delay=None,
    )  # fmt: skip
    said = f"Worker (pid:{forks.pid}) was sent SIGKILL! Perhaps out of memory?"
    logs.line("stderr", f"[{cloud.clock_now():%Y-%m-%d %H:%M:%S %z}] [{forks.parent}] [ERROR] {said}", INSTANCE)
    cloud.clock.advance(200)
    assert cloud.sweep().taken_over == 1


def test_what_was_asked_before_is_judged_as_of_then(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    An end line that came since the logs were asked is not missed because the answer is still remembered.
    """
    cloud = oncetask_cloud
    lose_the_settling(cloud, shop, late=753.0)
    runtime = shop.locker._runtime
    runtime.request_log = CloudRequestLog(
        project=runtime.project, emulator=None, clock=runtime.clock, client=cloud.local.logging_client()
    )
    for age in (748, 752):
        at_age(cloud, shop, age)
        assert cloud.duplicate_last() == 409
    assert (len(shop.charges), lock_of(shop).status) == (1, Status.LEASED)
    at_age(cloud, shop, 759)
    cloud.duplicate_last()
    cloud.run_until_idle()
    assert (len(shop.charges), lock_of(shop).status) == (1, Status.COMPLETED)


def test_holder_of_whom_nobody_may_ask_now_is_left_alone(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Past its timeout, but the budget of the logs was used up by another one: that is no absence; but not for ever.
    """
    cloud = oncetask_cloud

    def die(order: Order, attempt: Attempt) -> None:
        raise Killed

    shop.on_charge = die
    for id_ in ("41", "42"):
        shop.locker.schedule(Order(id=id_, amount=1), "/tasks/order")
    cloud.run_until_idle()
    shop.on_charge = None
    runtime = shop.locker._runtime
    log = CloudRequestLog(
        project=runtime.project,
        emulator=None,
        clock=runtime.clock,
        interval=86_400.0,
        client=cloud.local.logging_client(),
    )
    runtime.request_log = log
    cloud.clock.advance(760)
    [first] = judge_all(runtime, [runtime.store.read("orders/41")])
    [second] = judge_all(runtime, [runtime.store.read("orders/42")])
    assert ("could not be asked" in second.verdict.reason, "could not" in first.verdict.reason) == (True, False)
    assert cloud.sweep().unknown == 2
    cloud.clock.advance(3600)
    assert cloud.sweep().taken_over == 2


# --- the relations between lengths ------------------------------------------------------------------------------------

GOOD: dict[str, float] = {
    "lease_duration": 60, "run_limit": 300, "lease_timeout": 630, "margin": 1, "request_timeout": 400, "log_grace": 120,
}  # fmt: skip
LENGTHS = (
    ({"lease_duration": 60.5, "lease_timeout": 60.5, "run_limit": 60.5, "request_timeout": 1}, {"lease_timeout": 60}),
    ({"lease_duration": 2.1}, {"lease_duration": 2}),
    ({"run_limit": 60}, {"run_limit": 59}),
    ({"run_limit": 630}, {"run_limit": 631}),
    ({"lease_timeout": 402, "run_limit": 401.5}, {"lease_timeout": 401, "run_limit": 401}),
    ({"lease_timeout": 521.5}, {"lease_timeout": 521}),
)
"""For each row of the table: what just holds, and what just does not."""


def policy(lengths: dict[str, float]) -> None:
    chosen = {name: lengths[name] for name in ("margin", "request_timeout", "log_grace")}
    given = {name: lengths[name] for name in ("lease_duration", "lease_timeout", "run_limit")}
    policy_of(
        Config(**chosen),
        retry=None,
        max_attempts=1,
        on_unknown="takeover",
        alert_on=(),
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("row", "lengths"), list(zip(table("handler_spec.policy_of"), LENGTHS, strict=True)))
def test_contradicting_lengths_are_refused_by_both_names(row: dict[str, str], lengths: Any) -> None:
    """
    Each row of the table holds at its limit; just beyond, the error names both sides.
    """
    holds, broken = lengths
    policy({**GOOD, **holds})
    with pytest.raises(ConfigError) as caught:
        policy({**GOOD, **holds, **broken})
    named = re.findall("`([a-zA-Z_]+)`", row["larger"] + row["smaller"])
    assert len(named) >= 2
    assert any(all(name in problem for name in named) for problem in caught.value.problems), caught.value
