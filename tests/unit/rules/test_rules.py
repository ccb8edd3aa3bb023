"""
The rules, tried in every combination, against the tables of ``docs/reference/rules.md``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import floods
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    DecisionContext,
    Expired,
    Fence,
    Lost,
    NeedTime,
    Policy,
    Put,
    Refused,
    Settlement,
    SettlementKind,
    Target,
)
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME, Event, Failure, Lock, PendingAlert, Result, Status
from tests.support.rules import combinations, first_match, table

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = Policy(lease=60, timeout=630, run_limit=600, max_attempts=3)


def moment(read: datetime | None = NOW, now: datetime = NOW, env: str = "E") -> DecisionContext:
    """
    A moment.
    """
    return DecisionContext(now=now, read=read, place=f"{env}/push/000", env=env)


def leased(**changes: object) -> Lock:
    """
    A lease granted and last renewed at NOW.
    """
    lock = Lock(
        env="E",
        sequence=5,
        status=Status.LEASED,
        token=7,
        holder="h",
        granted_at=NOW,
        leased_at=NOW,
        lease_seconds=60,
        timeout_seconds=630,
        run_limit_seconds=600,
        max_attempts=3,
        on_unknown="takeover",
        attempts=1,
        url="https://x",
        queue="q",
        scheduled_by="s",
        dispatches=1,
    )
    return lock.but(**changes)


STATUSES = ("none", "scheduled", "leased", "completed", "failed", "cancelled", "quarantined")
TIMES = ("before its end", "exactly at its end", "after its end", "after the run limit", "unknown")


def claim_case(case: dict[str, str]) -> str:
    """
    The decision that ``rules.claim`` makes in *case*.
    """
    at = {
        "before its end": NOW + 60 * SECOND - timedelta(microseconds=1),
        "exactly at its end": NOW + 60 * SECOND,
        "after its end": NOW + 61 * SECOND,
        "after the run limit": NOW + 601 * SECOND,
        "unknown": None,
    }[case["time"]]
    lock: Lock | None = None
    if case["record"] != "none":
        lock = leased(
            status=Status(case["record"]),
            env="E" if case["environment"] == "ours" else "OTHER",
            attempts=3 if case["attempts"] == "used up" else 1,
            cancel_requested_at=NOW if case["cancelled"] == "yes" else None,
        )
        if case["time"] == "after the run limit":
            lock = lock.but(leased_at=NOW + 590 * SECOND)
        if case["record"] == "scheduled":
            lock = lock.but(wait_until=NOW + 60 * SECOND)
    sequence = {"older": 4, "same": 5, "newer": 6}[case["delivery's sequence"]]
    delivery = Delivery(env="E", document="orders/1", sequence=sequence, dispatch=1, scheduled_by="s")
    # The estimate lags behind the server's clock, so that it never decides here.
    decision = rules.claim(lock, delivery, POLICY, Claimant("n"), moment(at, NOW))
    match decision:
        case Refused():
            return decision.outcome.value
        case Expired():
            return "expired: judge its holder"
        case NeedTime():
            return "read again with the server's time"
        case Put(outcome=None):
            assert decision.lock.token == 8
            assert decision.lock.holder == "n"
            assert decision.lock.attempts == 2
            assert decision.lock.leased_at is SERVER_TIME
            return "granted"
        case _:
            assert isinstance(decision, Put)
            assert decision.outcome is not None
            return decision.outcome.value


def test_claim_decides_as_the_table_says() -> None:
    """
    Each of the 840 combinations of record, environment, sequence, time, cancellation and attempts is decided by its row.
    """
    rows = table("rules.claim")
    used = set()
    for case in combinations(
        record=STATUSES,
        environment=("ours", "other"),
        **{"delivery's sequence": ("older", "same", "newer")},
        time=TIMES,
        cancelled=("yes", "no"),
        attempts=("left", "used up"),
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == claim_case(case), case
    assert set(range(len(rows))) == used


def test_fence_holds_as_the_table_says() -> None:
    """
    Each combination of record, holder, token and sequence is decided by its row; only the attempt's own lease holds.
    """
    rows = table("rules.fenced")
    used = set()
    for case in combinations(
        record=STATUSES, holder=("ours", "other"), token=("ours", "other"), sequence=("before", "same", "beyond")
    ):
        lock = None
        if case["record"] != "none":
            lock = leased(
                status=Status(case["record"]),
                holder="h" if case["holder"] == "ours" else "x",
                token=7 if case["token"] == "ours" else 8,
                sequence={"before": 4, "same": 5, "beyond": 6}[case["sequence"]],
            )
        found = rules.fenced(lock, Fence(5, 7, "h"))
        said = "holds" if found is None else "lost, finished" if found.finished else "lost"
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == said, case
    assert set(range(len(rows))) == used


def test_take_over_decides_as_the_table_says() -> None:
    """
    Each combination of finding, kind, time, attempts and who asks is decided by its row.
    """
    rows = table("rules.take_over")
    used = set()
    fence = Fence(5, 7, "h")
    settlement = Settlement(kind=SettlementKind.COMPLETE, nonce="s", result=Result(1))
    for case in combinations(
        finding=tuple(Finding),
        on_unknown=("takeover", "quarantine"),
        time=("before its end", "at its lease timeout", "until the timeout", "after the timeout"),
        attempts=("left", "used up"),
        by=("delivery", "sweeper"),
    ):
        at = {
            "before its end": NOW + 59 * SECOND,
            "at its lease timeout": NOW + 630 * SECOND,
            # A log grace after the run limit, which is later.
            "until the timeout": NOW + 720 * SECOND,
            "after the timeout": NOW + 720 * SECOND + timedelta(microseconds=1),
        }[case["time"]]
        lock = leased(on_unknown=case["on_unknown"], attempts=3 if case["attempts"] == "used up" else 1)
        decision = rules.take_over(
            lock,
            fence,
            finding=Finding(case["finding"]),
            reason="why",
            evidence=("line",),
            settlement=settlement if case["finding"] == "recorded" else None,
            at=moment(at, at),
            grant_to=(POLICY, Claimant("n")) if case["by"] == "delivery" else None,
        )
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == _took(decision), case
    assert set(range(len(rows))) == used


def test_written_documents_owe_a_task_as_the_table_says() -> None:
    """
    Each combination of record, environment, lane, the task's name before the write, and time is decided by its row.
    """
    rows = table("rules.newly_scheduled")
    used = set()
    due = NOW + 60 * SECOND
    for case in combinations(
        record=STATUSES,
        environment=("ours", "other"),
        lane=("push", "pull", "none"),
        name=("first", "new", "as before"),
        time=("before its due time", "due"),
    ):
        after = None
        if case["record"] != "none":
            env = "E" if case["environment"] == "ours" else "OTHER"
            lane = {"push": "push", "pull": "pull.mail"}.get(case["lane"])
            stamp = rules.postpone(leased(status=Status.SCHEDULED), moment(now=due - 120 * SECOND)).lock.due
            after = leased(
                status=Status(case["record"]),
                env=env,
                due=None if lane is None or stamp is None else f"{env}/{lane}/000/{stamp.rsplit('/', 1)[1]}",
            )
        before = {"first": None, "new": leased(dispatches=0), "as before": leased()}[case["name"]]
        now = due - timedelta(microseconds=1) if case["time"] != "due" else due
        said = "nothing"
        if rules.newly_scheduled(before, after, "E"):
            assert after is not None
            said = "the sweeper's" if rules.is_overdue(after, now) else "dispatched"
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == said, case
    assert set(range(len(rows))) == used


@pytest.mark.parametrize("change", [{"scheduled_by": "other"}, {"sequence": 4}, {"dispatches": 2}])
def test_each_part_of_the_name_makes_it_new(change: dict[str, object]) -> None:
    """
    Another schedule, sequence or dispatch is another task.
    """
    due = {"status": Status.SCHEDULED, "due": "E/push/000/2026-01-01T12:01:00.000000Z"}

    assert rules.newly_scheduled(leased(**change), leased(**due), "E")
    assert not rules.newly_scheduled(leased(), leased(**due), "E")


def _took(decision: object) -> str:
    match decision:
        case Refused():
            return decision.outcome.value
        case Put(outcome=Outcome.RECOVERED):
            return "settled from the evidence"
        case Put(outcome=None):
            return "granted"
        case Put(outcome=Outcome.RETRYING, dispatch=True):
            return "released and dispatched"
        case Put():
            return str(decision.outcome)
    raise AssertionError(decision)


@pytest.mark.parametrize(
    ("finding", "owed"),
    [
        (Finding.DIED, {Event.TAKEOVER}),
        (Finding.UNKNOWN, {Event.TAKEOVER}),
        (Finding.NEVER_STARTED, set()),
        (Finding.RECORDED, {Event.TAKEOVER}),
    ],
)
def test_takeovers_owe_an_alert(finding: Finding, owed: set[Event]) -> None:
    """
    A takeover owes its alert in the same record; a claim that was never used is not worth one.
    """
    at = NOW + 1000 * SECOND
    put = rules.take_over(
        leased(),
        Fence(5, 7, "h"),
        finding=finding,
        reason="why",
        evidence=(),
        settlement=Settlement(kind=SettlementKind.COMPLETE, nonce="s") if finding is Finding.RECORDED else None,
        at=moment(at, at),
        grant_to=None,
    )

    assert isinstance(put, Put)
    assert owed == {o.event for o in put.lock.owed}
    assert owed == set() or put.lock.due is not None


def test_alerts_that_are_switched_off_are_not_owed() -> None:
    """
    The record says which events its kind wants to be told of.
    """
    put = rules.settle(
        leased(alert_on=("takeover",)),
        Fence(5, 7, "h"),
        Settlement(kind=SettlementKind.FAIL, nonce="s", message="no"),
        moment(),
    )

    assert isinstance(put, Put)
    assert (put.lock.status, put.lock.owed) == (Status.FAILED, ())
    assert put.lock.due is None


@pytest.mark.parametrize(
    ("kind", "status", "attempts"),
    [
        (SettlementKind.RETRY, Status.SCHEDULED, 1),
        (SettlementKind.SNOOZE, Status.SCHEDULED, 0),
        (SettlementKind.RELEASE, Status.SCHEDULED, 0),
        (SettlementKind.FAIL, Status.FAILED, 1),
        (SettlementKind.COMPLETE, Status.COMPLETED, 1),
    ],
)
def test_settling_counts_attempts(kind: SettlementKind, status: Status, attempts: int) -> None:
    """
    Snoozing and giving back burn no attempt; failing does.
    """
    put = rules.settle(leased(), Fence(5, 7, "h"), Settlement(kind=kind, nonce="s", message="m"), moment())

    assert isinstance(put, Put)
    assert (status, attempts, "s") == (put.lock.status, put.lock.attempts, put.lock.settled_by)
    assert (put.lock.due is None) == (status is Status.COMPLETED)


@pytest.mark.parametrize(
    "kind", [SettlementKind.RETRY, SettlementKind.SNOOZE, SettlementKind.RELEASE, SettlementKind.CONTINUE]
)
def test_cancellation_ends_what_would_go_on(kind: SettlementKind) -> None:
    """
    A cancellation that came while the lease was held ends the chain where it would have gone on.
    """
    how = Settlement(kind=kind, nonce="s", next_nonce="t", target=Target(url="https://x", queue="q"), message="m")
    put = rules.settle(leased(cancel_requested_at=NOW), Fence(5, 7, "h"), how, moment())

    assert isinstance(put, Put)
    assert (put.lock.status, put.dispatch) == (Status.CANCELLED, False)


def test_completed_never_becomes_cancelled() -> None:
    """
    A cancellation loses against a success.
    """
    put = rules.settle(
        leased(cancel_requested_at=NOW), Fence(5, 7, "h"), Settlement(kind=SettlementKind.COMPLETE, nonce="s"), moment()
    )
    assert isinstance(put, Put)
    assert put.lock.status is Status.COMPLETED

    assert isinstance(rules.cancel(put.lock, moment()), CallRefused)


def test_reset_keeps_key_step_and_token() -> None:
    """
    A failed step that is reset is a new sequence with the old key; a completed one gets a new key.
    """
    failed = leased(status=Status.FAILED, base=3, keyed=5)
    put = rules.reset(failed, "n", moment())
    assert isinstance(put, Put)
    assert (6, failed.step, 5, 7, 0) == (
        put.lock.sequence,
        put.lock.step,
        put.lock.keyed,
        put.lock.token,
        put.lock.attempts,
    )

    again = rules.reset(failed.but(status=Status.COMPLETED), "n", moment())
    assert isinstance(again, Put)
    assert again.lock.keyed == 6


def test_every_document_that_is_not_finished_is_due() -> None:
    """
    Nothing is lost: whatever a rule writes is due, unless it is terminal and owes nothing.
    """
    at = moment()
    fence = Fence(5, 7, "h")
    target = Target(url="https://x", queue="q", wait_until=NOW + timedelta(days=3))
    first = rules.schedule(None, None, target, "n", at)
    assert isinstance(first, Put)
    written = [first.lock]
    for kind in SettlementKind:
        how = Settlement(kind=kind, nonce="s", next_nonce="t", target=target, message="m", wait_until=NOW)
        put = rules.settle(leased(due="E/push/000/x"), fence, how, at)
        assert isinstance(put, Put)
        written.append(put.lock)
    renewed = rules.renew(leased(), fence, at)
    assert isinstance(renewed, Put)
    written.append(renewed.lock)

    for lock in written:
        assert (lock.due is None) == (lock.finished and not lock.owed), lock
    assert first.lock.due is not None
    assert first.lock.due > f"E/push/000/{(NOW + timedelta(days=3)).isoformat()[:10]}"


def test_lost_answer_is_recognised_by_nonce_or_by_what_follows() -> None:
    """
    A settling is applied if its nonce is there, or if the document is beyond it and nobody else can have moved it.
    """
    before = leased()
    how = Settlement(kind=SettlementKind.CONTINUE, nonce="s", next_nonce="t", target=Target(url="https://x", queue="q"))
    put = rules.settle(before, Fence(5, 7, "h"), how, moment())
    assert isinstance(put, Put)
    meant = put.lock

    assert rules.was_applied(meant, before, meant, alive=False)
    claimed = meant.but(status=Status.LEASED, token=8, holder="next")
    assert rules.was_applied(meant, before, claimed, alive=False)
    done = claimed.but(status=Status.COMPLETED, settled_by="other")
    assert rules.was_applied(meant, before, done, alive=False)
    # An end has no nonce in the next sequence once that has ended, too.
    end = before.but(status=Status.COMPLETED, settled_by="s")
    assert rules.was_applied(end, before, done.but(scheduled_by="other"), alive=False)
    taken = before.but(token=8, holder="thief", settled_by=None)
    assert not rules.was_applied(meant, before, taken, alive=False)
    beyond = taken.but(sequence=6, scheduled_token=8, settled_by="thief's", scheduled_by="thief's")
    assert not rules.was_applied(meant, before, beyond, alive=False)
    assert not rules.was_applied(meant, before, before, alive=True)
    assert not rules.was_applied(meant, before, None, alive=True)
    assert isinstance(rules.settle(taken, Fence(5, 7, "h"), how, moment()), Lost)


CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEWER = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


@pytest.mark.parametrize("context", [None, NEWER])
def test_each_schedule_has_the_trace_context_of_who_asked(context: str | None) -> None:
    """
    A schedule, the next step and a newer payload bring a context of their own, or none; the log keeps it too.
    """
    target = Target(url="https://x", queue="q", traceparent=context)
    how = Settlement(kind=SettlementKind.CONTINUE, nonce="s", next_nonce="t", target=target)
    lock = leased(traceparent=CONTEXT)
    ended = lock.but(status=Status.COMPLETED)
    made = [
        rules.schedule(None, None, target, "n", moment()),
        rules.schedule(ended, 5, target, "n", moment()),
        rules.settle(lock, Fence(5, 7, "h"), how, moment()),
        rules.settle(lock, Fence(5, 7, "h"), Settlement.from_data(how.to_data()), moment()),
        *(rules.replace(lock.but(status=status), target, "n", moment()) for status in Status),
    ]

    assert [put.lock.traceparent for put in made if isinstance(put, Put)] == [context] * len(made)


@pytest.mark.parametrize(
    "kind",
    [SettlementKind.RETRY, SettlementKind.SNOOZE, SettlementKind.RELEASE, SettlementKind.FAIL, SettlementKind.COMPLETE],
)
def test_what_nobody_asked_for_anew_keeps_its_trace_context(kind: SettlementKind) -> None:
    """
    Another attempt of the same step, a reset, a generator's next time, and a newer payload that waited for the present run.
    """
    settled = rules.settle(
        leased(traceparent=CONTEXT), Fence(5, 7, "h"), Settlement(kind=kind, nonce="s", message="m"), moment()
    )
    followed = rules.settle(
        leased(traceparent=NEWER, wanted=1),
        Fence(5, 7, "h"),
        Settlement(kind=SettlementKind.COMPLETE, nonce="s"),
        moment(),
    )
    again = rules.reset(leased(traceparent=CONTEXT, status=Status.FAILED, scheduled_by="n"), "n", moment())
    recurs = rules.recur(leased(traceparent=CONTEXT, status=Status.SCHEDULED), NOW + SECOND, "n", moment())

    assert isinstance(settled, Put)
    assert isinstance(followed, Put)
    assert isinstance(again, Put)
    assert {put.lock.traceparent for put in (settled, again, recurs)} == {CONTEXT}
    assert (followed.lock.sequence, followed.lock.traceparent) == (6, NEWER)


def cut_case(case: dict[str, str]) -> str:
    """
    The decision that ``rules.cut_off`` makes in *case*.
    """
    at = {
        "before its end": NOW + 59 * SECOND,
        "exactly at its end": NOW + 60 * SECOND,
        "after its end": NOW + 61 * SECOND,
        "unknown": None,
    }[case["time"]]
    owed = (PendingAlert("1-1-takeover", Event.TAKEOVER, NOW, NOW, 5, 1, "so"),) if case["owes"] == "yes" else ()
    cancelled = NOW if case["cancelled"] == "yes" else None
    lock = leased(status=Status(case["record"]), cancel_requested_at=cancelled, owed=owed)
    holder = "h" if case["holder"] == "ours" else None
    decision = rules.cut_off(lock, "too large", 0, "n", holder, moment(at))
    match decision:
        case None:
            return "nothing"
        case NeedTime():
            return "read again with the server's time"
        case Put(outcome=None):
            assert (decision.lock.owed, decision.lock.status) == ((), lock.status)
            return "its alerts are dropped"
        case _:
            assert decision.outcome is not None
            return decision.outcome.value


def test_refused_record_is_decided_as_the_table_says() -> None:
    """
    Each of the combinations is decided by its row, and each row by some.
    """
    rows = table("rules.cut_off")
    used = set()
    for case in combinations(
        record=STATUSES[1:],
        holder=("ours", "other"),
        time=("before its end", "exactly at its end", "after its end", "unknown"),
        cancelled=("yes", "no"),
        owes=("yes", "no"),
    ):
        row = first_match(rows, case)
        used.add(row)
        assert cut_case(case) == rows[row]["decision"], case
    assert used == set(range(len(rows)))


def test_refused_record_loses_more_each_time() -> None:
    """
    Result and errors, headers, parameters, then all that it can do without: the last record is smaller than the one before.
    """
    failure = Failure(NOW, 1, 5, "x")
    owed = PendingAlert("1-1-takeover", Event.TAKEOVER, NOW, NOW, 5, 1, "so")
    lock = leased(
        status=Status.SCHEDULED,
        params={"p": 1},
        headers={"X": "y"},
        errors=(failure,),
        result=1,
        owed=(owed,),
        due="E/x",
    )
    for cut in range(rules.CUTS):
        put = rules.cut_off(lock, "too large", cut, "n", None, moment())
        assert isinstance(put, Put)
        made, last = put.lock, cut == rules.CUTS - 1
        assert (made.status, made.sequence, made.token) == (Status.FAILED, 5, 7)
        assert (made.result is None, failure not in made.errors) == (cut >= 1, cut >= 1)
        assert (made.headers is None, made.params is None) == (cut >= 2, cut >= 3)
        assert (made.due is None, owed in made.owed) == (last, not last)
        if last:
            assert (made.errors, made.owed, made.settled_by) == ((), (), None)
            continue
        assert "too large" in made.errors[-1].message
        assert [one.event for one in made.owed] == [Event.TAKEOVER, Event.FAILURE]
    quiet = rules.cut_off(lock.but(alert_on=()), "too large", 0, "n", None, moment())
    assert isinstance(quiet, Put)
    assert quiet.lock.owed == (owed,)


def alert_case(case: dict[str, str]) -> str:
    """
    What becomes of an alert in *case*.
    """
    owed = PendingAlert(
        "5-7-failure",
        Event.FAILURE,
        NOW,
        NOW if case["its time"] == "passed" else NOW + SECOND,
        5,
        1,
        "no",
        tries={"none": 0, "some": 1}[case["tries"]],
        digest={"none": None, "a group": "wait-1", "a digest": "d1"}[case["digest"]],
    )
    lock = leased(status=Status.FAILED, owed=(owed,))
    seen = owed.digest if case["seen as"] == "it is" else "d0"
    match case["asks"]:
        case "who decided it, first of its window":
            put = rules.assigned(lock, {owed.id: None}, moment())
        case "who decided it, not the first":
            put = rules.assigned(lock, {owed.id: rules.Wait("wait-2", NOW + 9 * SECOND)}, moment())
        case "a sweep, by itself":
            put = rules.sending(lock, {owed.id: seen}, moment())
        case _:
            put = rules.sending(lock, {owed.id: seen}, moment(), "d2")
    if put is None:
        return "nothing"
    [now] = put.lock.owed
    assert put.lock.due == f"E/push/000/{now.until:%Y-%m-%dT%H:%M:%S.%fZ}"
    match now.digest:
        case None:
            assert (now.tries, now.until - NOW) == (
                owed.tries + 1,
                timedelta(seconds=moment().alert_retry * 2**owed.tries),
            )
            return "alone"
        case "wait-2":
            assert (now.tries, now.until) == (0, NOW + 9 * SECOND)
            return "waits"
        case _:
            assert (now.digest, now.tries) == ("d2", owed.tries + 1)
            return "lent"


def test_alerts_are_told_as_the_table_says() -> None:
    """
    By themselves, later, or by a digest; never by one and then by the other.
    """
    rows = table("rules.owing")
    used = set()
    for case in combinations(
        tries=("none", "some"),
        digest=("none", "a group", "a digest"),
        **{
            "its time": ("to come", "passed"),
            "seen as": ("it is", "another digest"),
            "asks": (
                "who decided it, first of its window",
                "who decided it, not the first",
                "a sweep, by itself",
                "a sweep, with others",
            ),
        },
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == alert_case(case), case
    assert set(range(len(rows))) == used


def turn_case(case: dict[str, str]) -> str:
    """
    When an alert leaves in *case*.
    """
    windows = {f"c{n}": floods.Window(NOW + SECOND, "x") for n in range(20 if case["other causes"] == "20" else 19)}
    if case["window of its cause"] != "none":
        until = NOW + SECOND if case["window of its cause"] == "open" else NOW
        windows["c"] = floods.Window(until, "me" if case["opened by"] == "itself" else "x")
    turn = floods.turn_of(windows, "c", "me", NOW, 600.0)
    if turn.cause == floods.OTHERS:
        return "as the window of all others says"
    if turn.windows is not None:
        assert turn.windows["c"] == floods.Window(NOW + 600 * SECOND, "me")
        assert all(window.until > NOW for window in turn.windows.values())
        return "at once, opens it"
    return "at once" if turn.until is None else "waits"


def test_alerts_leave_as_the_table_says() -> None:
    """
    Each state of the windows of an event and kind.
    """
    rows = table("rules.floods.turn_of")
    used = set()
    for case in combinations(
        **{
            "window of its cause": ("open", "over", "none"),
            "opened by": ("itself", "another"),
            "other causes": ("fewer than 20", "20"),
        }
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == turn_case(case), case
    assert set(range(len(rows))) == used
