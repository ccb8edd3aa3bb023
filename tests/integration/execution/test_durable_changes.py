"""
Code that changes under tasks under way, words said at the wrong place, and the verdicts of a handler between its words.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import Continue, EventTimeoutError, Fail, FixedDelay, NoRetry, Retry, RunFailedError, Snooze, Status
from gcp_oncetask.logs import ReplayFilter
from tests.support.durable import SECOND, Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Service, Work


def asleep(service: Service, act: Any, hours: float = 1) -> Service:
    """
    Let *act* handle the task ``a`` until it waits.
    """
    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    assert service.lock("a").wait is not None
    return service


def run_then_sleep(task: Any, attempt: Any) -> str:
    attempt.run("x", lambda: 1)
    attempt.sleep("s", timedelta(hours=1))
    return "up"


def test_du_10_another_sort_under_a_name_sets_the_task_aside(service: Service) -> None:
    asleep(service, run_then_sleep)
    calls = Calls()

    def changed(task: Any, attempt: Any) -> None:
        attempt.sleep("x", 1)
        attempt.run("later", calls)

    service.act = changed
    service.settle(240)
    lock = service.lock("a")
    assert (lock.status, lock.holder, len(service.ran), calls.seen) == (Status.QUARANTINED, None, 2, [])
    assert "'x' is a run in the journal, and a sleep in the code" in service.cloud.alerts.sent[-1].reason


class Old(BaseModel):
    amount: int


class New(BaseModel):
    amount: int
    currency: str


def test_du_11_a_result_that_the_new_model_refuses_is_left_to_the_old_code(service: Service) -> None:
    calls, model = Calls(*[Old(amount=3)] * 9), [Old]

    def act(task: Any, attempt: Any) -> int:
        found = attempt.options(result=model[0]).run("x", calls)
        attempt.sleep("s", timedelta(hours=1))
        return int(found.amount)

    asleep(service, act)
    model[0] = New
    service.settle(80)
    lock = service.lock("a")
    assert (len(calls.seen), lock.status, lock.errors) == (1, Status.SCHEDULED, ())
    assert len(service.ran) > 1
    model[0] = Old
    service.settle(120)
    assert (len(calls.seen), service.lock("a").result) == (1, 3)


def test_du_12_other_arguments_are_told_and_the_journal_counts(service: Service, caplog: Any) -> None:
    calls, amount, strict = Calls("first"), [1], [False]

    def act(task: Any, attempt: Any) -> str:
        found = attempt.options(strict=strict[0]).run("x", calls, amount[0])
        attempt.sleep("s", timedelta(hours=1))
        return str(found)

    asleep(service, act)
    amount[0] = 2
    with caplog.at_level(logging.WARNING):
        service.cloud.advance(hours=2)
    assert (calls.seen, service.lock("a").result) == ([(1,)], "first")
    assert caplog.text.count("was called with other arguments before") == 1
    strict[0], amount[0] = True, 1
    service.create("b")
    service.cloud.run_until_idle()
    amount[0] = 2
    service.cloud.advance(hours=2)
    assert service.lock("b").status is Status.QUARANTINED


@pytest.mark.parametrize("word", ["run", "sleep", "wait_event", "now"])
def test_du_13_a_word_inside_a_run_is_refused(service: Service, word: str) -> None:
    inner = Calls()

    def act(task: Any, attempt: Any) -> None:
        words = {
            "run": lambda: attempt.run("inner", inner),
            "sleep": lambda: attempt.sleep("inner", 60),
            "wait_event": lambda: attempt.wait_event("inner", dict, timeout=60),
            "now": lambda: attempt.now("inner"),
        }
        attempt.run("outer", words[word])

    play(service, act)
    lock = service.lock("a")
    assert (inner.seen, lock.status, lock.attempts) == ([], Status.FAILED, 1)
    assert "'inner'" in lock.errors[-1].message
    assert "'outer'" in lock.errors[-1].message


def test_du_15_a_value_at_the_end_has_no_commit_of_its_own(service: Service) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: str(attempt.uuid("id"))
    service.start_counting()
    service.cloud.run_until_idle()
    assert service.firestore()["Commit"] == 2
    assert b"id" in b"".join(service.lock("a").journal)


def test_du_20_deaths_and_tries_are_bounded_together(service: Service) -> None:
    calls = Calls(*[Killed(), ValueError("no")] * 40)
    retry = FixedDelay(delay=600, max_attempts=5)

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.options(retry=retry).run("a", calls)
        except RunFailedError as error:
            return f"gave up after {len(error.tries)}"
        return "done"

    play(service, act)
    service.settle(60 * 12)
    assert service.lock("a").status in (Status.FAILED, Status.COMPLETED)
    assert len(calls.seen) <= 15


def test_du_20_more_tries_than_an_entry_keeps_are_counted(service: Service) -> None:
    calls = Calls(*[ValueError("no")] * 90)

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.options(retry=FixedDelay(delay=0, max_attempts=25)).run("a", calls)
        except RunFailedError as error:
            return str(error)
        return "done"

    play(service, act)
    assert (len(calls.seen), "after 25 tries" in service.lock("a").result) == (25, True)


@pytest.mark.parametrize(("delay", "remains", "requests"), [(1, 60, 1), (1, 1, 2)])
def test_du_23_a_short_delay_is_waited_in_the_request_if_time_remains(
    service: Service, delay: float, remains: float, requests: int
) -> None:
    def fail() -> None:
        left = service.attempts[0].remaining()
        service.cloud.clock.advance(max(0.0, left - remains))
        raise ValueError("again")

    calls = Calls(fail, "ok")
    retry = FixedDelay(delay=delay)
    play(service, lambda task, attempt: attempt.options(retry=retry).run("a", calls))
    assert (len(calls.seen), len(service.ran), service.lock("a").result) == (2, requests, "ok")


def test_du_24_a_monstrous_error_is_kept_short_and_clean(service: Service) -> None:
    monster = "\ud800\x00\x1b[31m" + "x" * 2**20
    told = []

    def act(task: Any, attempt: Any) -> None:
        try:
            attempt.options(retry=FixedDelay(delay=1, max_attempts=2)).run("a", Calls(*[ValueError(monster)] * 9))
        except RunFailedError as error:
            told.append(error)
            raise

    play(service, act, retry=NoRetry())
    lock = service.lock("a")
    assert (lock.status, len(lock.errors[-1].message) <= 500) == (Status.FAILED, True)
    assert len(b"".join(lock.journal)) < 20_000
    assert "\x00" not in service.cloud.alerts.sent[-1].reason


def test_du_25_the_text_of_a_failure_is_the_same_in_each_attempt(service: Service) -> None:
    notify = Calls("sent")

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.options(retry=FixedDelay(delay=1, max_attempts=2)).run("a", Calls(*[ValueError("no")] * 9))
        except RunFailedError as error:
            attempt.options(strict=True).run("notify", notify, str(error))
        if len(service.ran) == 1:
            raise ValueError("again")
        return "done"

    play(service, act)
    assert (service.lock("a").result, len(notify.seen), "Traceback" in notify.seen[0][0]) == ("done", 1, False)


class NotValues(FixedDelay):
    """
    A policy that excludes an error.
    """

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return not isinstance(error, ValueError) and super().should_retry(attempt, error)


def test_du_26_an_error_that_the_policy_excludes_is_final_at_once(service: Service) -> None:
    calls = Calls(*[ValueError("no")] * 9)

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.options(retry=NotValues(delay=1)).run("a", calls)
        except RunFailedError as error:
            return f"{error.kind} {len(error.tries)}"
        return "done"

    play(service, act)
    assert (service.lock("a").result, len(calls.seen)) == ("ValueError 1", 1)


def test_du_40_an_old_holders_result_is_refused_after_the_takeover(service: Service) -> None:
    effects: list[str] = []

    def pay() -> str:
        effects.append("paid")
        service.cloud.clock.advance(7200)
        service.cloud.sweep()
        service.cloud.run_until_idle()
        return "mine"

    verify = Calls("found by the search")
    play(service, lambda task, attempt: attempt.options(once=True, verify=verify).run("charge", pay))
    lock = service.lock("a")
    assert (effects, lock.status, lock.result) == (["paid"], Status.COMPLETED, "found by the search")


def test_du_46_a_sleep_that_was_deleted_from_the_code(service: Service) -> None:
    asleep(service, run_then_sleep)
    later = Calls("later")
    service.act = lambda task, attempt: [attempt.run("x", Calls()), attempt.run("new", later)]
    service.cloud.advance(hours=2)
    lock = service.lock("a")
    assert (lock.result, len(service.ran), lock.wait) == ([1, "later"], 2, None)


@pytest.mark.parametrize("verdict", [ValueError("no"), Snooze(120), Retry("later", after=120), None], ids=repr)
def test_an_ended_wait_that_no_word_asks_for(service: Service, verdict: Any) -> None:
    asleep(service, lambda task, attempt: attempt.wait_event("e", dict, timeout=timedelta(days=1)))
    service.manager.send(Work, "a", "e", {})
    acts = Calls(verdict, "done") if verdict is not None else Calls("done")
    service.act = lambda task, attempt: acts()
    service.cloud.run_until_idle()
    if verdict is not None and not isinstance(verdict, ValueError):
        assert len(acts.seen) == 1
        # All that are queued, the timer of the wait among them, come too early.
        for body in service.bodies():
            service.post(body)
        assert len(acts.seen) == 1
    service.settle(10)
    lock = service.lock("a")
    assert (lock.status, lock.result, lock.wait) == (Status.COMPLETED, "done", None)


@pytest.mark.parametrize("swallow", ["except", "finally"])
def test_du_88_a_swallowed_suspension_calls_nothing_more(service: Service, caplog: Any, swallow: str) -> None:
    later = Calls()

    def by_except(task: Any, attempt: Any) -> Any:
        try:
            attempt.sleep("s", timedelta(hours=1))
        except BaseException:
            attempt.run("later", later)
        return "up"

    def by_finally(task: Any, attempt: Any) -> Any:
        try:
            attempt.sleep("s", timedelta(hours=1))
        finally:
            return "up"  # noqa: B012

    with caplog.at_level(logging.ERROR):
        asleep(service, by_except if swallow == "except" else by_finally)
    assert later.seen == []
    service.cloud.advance(hours=2)
    assert service.lock("a").result == "up"


def test_du_89_a_run_in_a_finally_is_not_called_by_a_suspension(service: Service) -> None:
    cleanup = Calls()

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.sleep("s", timedelta(hours=1))
        finally:
            attempt.run("cleanup", cleanup)
        return "up"

    asleep(service, act)
    assert cleanup.seen == []
    service.cloud.advance(hours=2)
    assert (len(cleanup.seen), service.lock("a").result) == (1, "up")


def test_du_91_runs_are_added_reordered_and_removed(service: Service) -> None:
    calls = {name: Calls(name) for name in "abcn"}

    def say(*names: str) -> Any:
        def act(task: Any, attempt: Any) -> str:
            found = [attempt.run(name, calls[name]) for name in names]
            attempt.sleep("s", timedelta(hours=1))
            return "".join(found)

        return act

    asleep(service, say("a", "b", "c"))
    service.act = say("n", "c", "a")
    service.cloud.advance(hours=2)
    assert {name: len(each.seen) for name, each in calls.items()} == {"a": 1, "b": 1, "c": 1, "n": 1}
    assert service.lock("a").result == "nca"


def test_du_92_a_run_that_was_renamed_keeps_its_result(service: Service) -> None:
    pay, names = Calls("paid", "again"), [("charge", None)]

    def act(task: Any, attempt: Any) -> str:
        name, was = names[0]
        found = attempt.options(was=was).run(name, pay)
        attempt.sleep("s", timedelta(hours=1))
        return str(found)

    asleep(service, act)
    names[0] = ("charge-card", "charge")
    service.cloud.advance(hours=2)
    assert (len(pay.seen), service.lock("a").result) == (1, "paid")


def test_du_104_values_stay_with_their_names(service: Service) -> None:
    seen: list[dict[str, Any]] = []

    def act(task: Any, attempt: Any) -> None:
        found: dict[str, Any] = {}
        if seen:
            found["new"] = attempt.random("new")
        found["now"], found["random"], found["id"] = attempt.now("now"), attempt.random("random"), attempt.uuid("id")
        seen.append(found)
        attempt.sleep("s", timedelta(hours=1))

    asleep(service, act)
    service.cloud.advance(hours=2)
    assert len(seen) == 2
    assert {name: seen[1][name] for name in seen[0]} == seen[0]
    assert isinstance(seen[0]["now"], datetime)


def test_du_108_replaying_ends_with_the_first_new_word(service: Service) -> None:
    seen: list[list[tuple[str, bool]]] = []

    def act(task: Any, attempt: Any) -> str:
        now: list[tuple[str, bool]] = []
        seen.append(now)

        def note(place: str) -> None:
            now.append((place, attempt.replaying))

        note("before")
        attempt.run("a", lambda: note("in a"))
        note("after a")
        attempt.sleep("s", timedelta(hours=1))
        note("after s")
        attempt.run("b", lambda: note("in b"))
        note("after b")
        if len(seen) == 2:
            raise ValueError("again")
        return "up"

    asleep(service, act)
    service.settle(90)
    new = [[place for place, replaying in each if not replaying] for each in seen]
    assert new == [["before", "in a", "after a"], ["after s", "in b", "after b"], []]


def test_du_108_each_line_of_a_handler_is_logged_once(service: Service) -> None:
    logger = logging.getLogger("tests.du_108")
    logger.propagate = False
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    keep = Keep()
    keep.addFilter(ReplayFilter())
    logger.addHandler(keep)
    logger.setLevel(logging.INFO)

    def act(task: Any, attempt: Any) -> str:
        logger.info("before")
        attempt.run("a", lambda: logger.info("in a"))
        logger.info("after a")
        attempt.sleep("s", timedelta(hours=1))
        logger.info("after s")
        try:
            attempt.wait_event("e", dict, timeout=60)
        except EventTimeoutError:
            logger.info("timed out")
        logger.warning("warned")
        return "up"

    asleep(service, act)
    service.settle(90)
    logger.removeHandler(keep)
    assert seen == ["before", "in a", "after a", "after s", "timed out", "warned"]
    assert len(service.ran) == 3


@pytest.mark.parametrize(
    "verdict", [Snooze(60), Retry("later", after=60), Fail("no"), Continue(params={"n": 2})], ids=repr
)
def test_du_112_a_verdict_between_words(service: Service, verdict: Any) -> None:
    first, keys, verdicts = Calls(*range(9)), [], [verdict]

    def act(task: Any, attempt: Any) -> str:
        keys.append(attempt.key_of("first"))
        attempt.run("first", first)
        if verdicts:
            raise verdicts.pop()
        attempt.run("second", lambda: 2)
        return "done"

    service.handle(retry=SECOND).create("a")
    service.manager.send(Work, "a", "later", {})
    service.act = act
    service.settle(10)
    lock = service.lock("a")
    if isinstance(verdict, Fail):
        assert (lock.status, len(first.seen), len(lock.journal)) == (Status.FAILED, 1, 1)
        return
    anew = isinstance(verdict, Continue)
    assert (lock.status, len(first.seen), len(set(keys))) == (Status.COMPLETED, 1 + anew, 1 + anew)
    assert (len(lock.journal), len(lock.mailbox)) == (2, 1)


@pytest.mark.parametrize("sent", [-1, 0, 1])
def test_du_58_59_an_event_and_its_time_out_at_one_instant(service: Service, sent: int) -> None:
    seen = []

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.wait_event("e", dict, timeout=60)
            seen.append("event")
        except Exception as error:
            seen.append(type(error).__name__)
        if len(seen) == 1:
            raise ValueError("again")
        return seen[-1]

    asleep(service, act)
    lock = service.lock("a")
    assert lock.wait is not None
    assert lock.wait.until is not None
    left = (lock.wait.until - service.cloud.clock_now()).total_seconds()
    service.cloud.clock.advance(left + sent)
    service.manager.send(Work, "a", "e", {})
    service.settle(10)
    assert (service.lock("a").status, len(seen), len(set(seen))) == (Status.COMPLETED, 2, 1)
