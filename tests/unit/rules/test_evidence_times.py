"""
No absence is evidence before it had its time: histories of an attempt whose lines arrive in any order, at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcp_oncetask import rules
from gcp_oncetask.rules.decisions import (
    Claimant,
    DecisionContext,
    Fence,
    Policy,
    Put,
    Refused,
    Settlement,
    SettlementKind,
)
from gcp_oncetask.rules.evidence import UNUSED, Finding, Holder, Line, judge
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Result, Status

GRANTED = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE, RUN_LIMIT, GRACE = 60.0, 630.0, 120.0
TRACE = "0123456789abcdef0123456789abcdef"
URL = "https://x/run?oncetask_document=onceTasks%2Fa&oncetask_sequence=3"
SETTLEMENT = Settlement(kind=SettlementKind.COMPLETE, nonce="n1", result=Result(1))
SAID = json.dumps(SETTLEMENT.to_data())
TICK = timedelta(microseconds=1)
LATER = 5000.0
_KILLED = "[9] [ERROR] Worker (pid:42) was sent SIGKILL! Perhaps out of memory?"
CRASHES = (
    ("system", "Container terminated on signal 9."),
    ("system", "Memory limit of 512 MiB exceeded with 530 MiB used."),
    ("stderr", _KILLED),
)
CUT = (None, 0, 499, 504)


def at(seconds: float) -> datetime:
    return GRANTED + timedelta(seconds=seconds)


def line(seconds: float, log: str, text: str = "", **fields: Any) -> Line:
    """
    A line of the holder's instance, *seconds* after the grant.
    """
    given = {
        "payload": {},
        "trace": None,
        "resource": "cloud_run_revision a a-1",
        "status": None,
        "url": None,
        "latency": None,
    } | fields
    return Line(at=at(seconds), log=log, severity="INFO", text=text, instance="i1", insert_id="x", **given)


def own(event: str, seconds: float, **fields: str) -> Line:
    said = {"event": event, "document": "onceTasks/a", "sequence": "3", "token": "7", "holder": "cafe01", "pid": "42"}
    return line(seconds, "stdout", event, payload={"oncetask": said | fields})


def request(status: int | None, begun: float, end: float, url: str | None = URL) -> Line:
    return line(begun, "requests", status=status, latency=end - begun, url=url, trace=TRACE)


@dataclass(frozen=True)
class Attempt:
    """
    What has become of an attempt, and all lines about it, each with the second at which it can be read.

    Attributes:
        finished: The second at which its code was over; None: it died before.
        recorded: Its end line says what it was about to write.
        renewed: The second of its last renewal.
        ended: Nothing but a crash line, or the answer to its request, tells of its end: it can be known.
        lines: Of its process, the platform and others.
    """

    finished: float | None
    recorded: bool
    renewed: float
    ended: bool
    lines: tuple[tuple[Line, float], ...]

    @property
    def holder(self) -> Holder:
        expired = at(min(self.renewed + LEASE, RUN_LIMIT))
        return Holder("onceTasks/a", 3, 7, "cafe01", TRACE, GRANTED, at(self.renewed), expired)

    @property
    def lock(self) -> Lock:
        return Lock(
            env="E", sequence=3, status=Status.LEASED, token=7, holder="cafe01", attempts=1, granted_at=GRANTED,
            leased_at=at(self.renewed), lease_seconds=LEASE, run_limit_seconds=RUN_LIMIT, url="https://x", queue="q",
        )  # fmt: skip

    def looks(self) -> Iterator[tuple[datetime, list[Line]]]:
        """
        Every instant after the end of the lease at which a verdict may change, with what can be read then.
        """
        base = [line.at + timedelta(seconds=line.latency or 0) for line, _ in self.lines]
        base += [self.holder.lease_end, rules.timeout_at(self.lock, GRACE) - timedelta(seconds=GRACE), at(LATER)]
        instants = {one + timedelta(seconds=GRACE) for one in base} | {at(seen) for _, seen in self.lines}
        for now in sorted({one + step for one in instants for step in (-TICK, timedelta(0), TICK)}):
            if now >= self.holder.lease_end:
                yield now, [line for line, seen in self.lines if at(seen) <= now]


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    # Half of them at the ends, where the rules turn.
    return st.sampled_from((least, most)) | st.integers(int(least), max(int(least), int(most))).map(
        lambda n: min(max(float(n), least), most)
    )


@st.composite
def attempts(draw: st.DrawFn, *, died: bool = False) -> Attempt:
    """
    An attempt that has finished, and whose settling commit was lost; or one that has died. Its own lines can be read within
    the grace, those of others at any time.
    """
    within, whenever = seconds(0, GRACE), seconds(0, 900)
    began = draw(seconds(0, 5))
    over = draw(seconds(began, RUN_LIMIT))
    renewed = draw(seconds(max(0.0, over - LEASE), over))
    expired = min(renewed + LEASE, RUN_LIMIT)
    over = min(over, expired)
    lines = [(own("started", began), draw(within))]
    recorded = draw(st.booleans())
    if not died:
        if draw(st.booleans()):
            # Another end was announced before, which was refused; by an API call, or by a second try, a third follows.
            first = draw(seconds(began, over))
            lines.append((own("returned", first), draw(within)))
        said = {"settlement": SAID} if recorded else {}
        lines += [(own("returned", over, **said), draw(within)) for _ in range(draw(st.integers(1, 2)))]
    # What the platform says: of a crash, or of an answer; or only that it gave up.
    crash = draw(st.sampled_from(CRASHES)) if died or draw(st.booleans()) else None
    crashed = over if died else draw(seconds(over, over + 30))
    if crash is not None and (not died or draw(st.booleans())):
        stamp = f"[{at(crashed):%Y-%m-%d %H:%M:%S %z}] " if crash[0] == "stderr" else ""
        lines.append((line(crashed, crash[0], stamp + crash[1]), draw(whenever)))
    begun = -draw(seconds(0, 30))
    status = draw(st.sampled_from((500, 503) if crash is not None else (200, 409, 500, 503)))
    answered = (crashed if crash is not None else over) + draw(seconds(0, 2))
    how = draw(st.sampled_from(("answered", "cut", "none")))
    if how == "answered":
        lines.append((request(status, begun, answered), draw(whenever)))
    elif how == "cut":
        lines.append((request(draw(st.sampled_from(CUT)), begun, draw(seconds(1, 300))), draw(whenever)))
    known = list(lines)
    lines += draw(others())
    ended = how == "answered" or any(one.log in ("system", "stderr") and one.at >= at(over) for one, _ in known)
    seen = tuple((one, (one.at - GRANTED).total_seconds() + (one.latency or 0) + delay) for one, delay in lines)
    return Attempt(None if died else over, recorded, renewed, ended and (not died or how != "cut"), seen)


@st.composite
def others(draw: st.DrawFn) -> list[tuple[Line, float]]:
    """
    Lines that are not about the attempt: of the request that scheduled it in the same trace, of the container before.
    """
    found = []
    if draw(st.booleans()):
        found.append((request(draw(st.sampled_from((200, 500))), -20.0, draw(seconds(-4, 4)), None), 0.0))
    if draw(st.booleans()):
        found.append((line(-1, "system", "Container called exit(1)."), 0.0))
    if draw(st.booleans()):
        said = draw(st.sampled_from(("WARNING:root:can't parse '{}'", "{}", "x\n[2026-03-01 12:00:00 +0000] {}")))
        found.append((line(draw(seconds(0, 900)), "stderr", said.format(_KILLED)), 0.0))
    return found


def judged(attempt: Attempt, now: datetime, lines: list[Line]) -> Any:
    return judge(attempt.holder, lines, now=now, log_grace=timedelta(seconds=GRACE))


@settings(max_examples=120, deadline=None)
@given(attempts())
def test_attempt_that_has_finished_is_never_judged_died(attempt: Attempt) -> None:
    """
    Whatever can be read and whenever it is asked: unknown until its end line is there, and left alone; then what it wrote last
    counts, and is committed.
    """
    found = Finding.RECORDED if attempt.recorded else Finding.FINISHED
    for now, lines in attempt.looks():
        verdict = judged(attempt, now, lines)
        assert verdict.finding in {Finding.UNKNOWN, found}, (now, verdict)
        if verdict.finding is not Finding.FINISHED:
            decision = taken_over(attempt.lock, verdict.finding, now)
            left = isinstance(decision, Refused) and decision.outcome is Outcome.UNKNOWN
            assert left or (isinstance(decision, Put) and decision.outcome is Outcome.RECOVERED), (now, verdict)
    assert verdict.finding is found


@settings(max_examples=80, deadline=None)
@given(attempts(died=True))
def test_attempt_that_has_died_is_judged_so_in_time(attempt: Attempt) -> None:
    """
    Never finished; and died, once a crash or an answer tells of it and no end line has come within the grace.
    """
    for now, lines in attempt.looks():
        verdict = judged(attempt, now, lines)
        assert verdict.finding in {Finding.UNKNOWN, Finding.DIED}, (now, verdict)
    if attempt.ended:
        assert verdict.finding is Finding.DIED


def taken_over(lock: Lock, finding: Finding, now: datetime | DecisionContext, asked: datetime | None = None) -> Any:
    moment = (
        now if isinstance(now, DecisionContext) else DecisionContext(now=now, read=now, place="E/push/000", env="E")
    )
    return rules.take_over(
        lock,
        Fence(3, 7, "cafe01"),
        finding=finding,
        reason="why",
        evidence=(),
        settlement=SETTLEMENT if finding is Finding.RECORDED else None,
        at=moment,
        grant_to=(Policy(), Claimant("n")),
        asked=asked,
    )


@settings(max_examples=80, deadline=None)
@given(seconds(1, 700), seconds(0, 700), seconds(0, 700), seconds(0, 1500), seconds(0, 300))
def test_takeover_without_evidence_comes_a_log_grace_after_the_end(
    length: float, more: float, most: float, renewed: float, grace: float
) -> None:
    """
    After the lease timeout, and a log grace after the later of the run limit and the last lease's end; but a handler that hangs
    and is renewed for ever is taken over.
    """
    run_limit = length + more
    lock = Attempt(None, False, renewed, False, ()).lock.but(
        lease_seconds=length, run_limit_seconds=run_limit, timeout_seconds=run_limit + most
    )
    timeout = rules.timeout_at(lock, grace)
    assert timeout >= at(run_limit + most)
    assert timeout >= at(run_limit + grace)
    assert timeout >= at(min(renewed, run_limit) + length + grace)
    assert timeout <= at(run_limit + max(most, length + grace))
    for now, left in ((timeout, True), (timeout + TICK, False)):
        moment = DecisionContext(now=now, read=now, place="E/push/000", env="E", log_grace=grace)
        assert isinstance(taken_over(lock, Finding.UNKNOWN, moment), Refused) is left


def test_handler_that_ended_just_before_its_timeout_is_waited_for() -> None:
    """
    Renewed at 620 s and over at 628 s: not taken over at 630 s, nor before its end line had 120 s after the lease.
    """
    lock = Attempt(628.0, True, 620.0, False, ()).lock
    for now, left in ((630.1, True), (748.0, True), (800.0, True), (800.1, False)):
        decision = taken_over(lock, Finding.UNKNOWN, at(now))
        assert isinstance(decision, Refused) is left
    assert isinstance(taken_over(lock, Finding.RECORDED, at(631.0)), Put)


def test_what_the_logs_did_not_show_counts_as_of_the_look() -> None:
    """
    Past the timeout, but the logs were asked before it: it is left alone.
    """
    lock = Attempt(None, False, 0.0, False, ()).lock
    assert isinstance(taken_over(lock, Finding.UNKNOWN, at(755), asked=at(750)), Refused)
    assert isinstance(taken_over(lock, Finding.UNKNOWN, at(755), asked=at(750.1)), Put)
    assert isinstance(taken_over(lock, Finding.DIED, at(755), asked=at(750)), Put)


@pytest.mark.parametrize(("said", "soon"), [({"outcome": UNUSED}, Finding.NEVER_STARTED), ({}, Finding.UNKNOWN)])
def test_claim_that_was_never_used_is_told_from_a_lost_settling(said: dict[str, str], soon: Finding) -> None:
    """
    Older releases said "never-started" of attempts whose last commit was lost, too: their other lines may still come.
    """
    never = own("never-started", 20.0, **said)
    attempt = Attempt(None, False, 0.0, False, ())
    assert judged(attempt, at(61), [never]).finding is soon
    assert judged(attempt, at(139.9), [never]).finding is soon
    assert judged(attempt, at(140), [never]).finding is Finding.NEVER_STARTED
    assert judged(attempt, at(61), [never, own("returned", 19.0, settlement=SAID)]).finding is Finding.RECORDED


def test_end_of_another_request_or_process_proves_nothing() -> None:
    """
    What ended before the holder last renewed its lease was not the holder's.
    """
    attempt = Attempt(None, False, 400.0, False, ())
    started = own("started", 1.0)
    for other in (request(503, -1.0, 30.0), line(30.0, "system", "Container called exit(1).")):
        assert judged(attempt, at(LATER), [started, other]).finding is Finding.UNKNOWN
    assert judged(attempt, at(LATER), [started, request(503, -1.0, 401.0)]).finding is Finding.DIED


def test_request_that_names_no_delivery_counts_from_the_end_of_the_lease() -> None:
    """
    It may be the one that scheduled the task in the same trace: the holder may have gone on for as long as its lease.
    """
    attempt = Attempt(None, False, 0.0, False, ())
    lines = [own("started", 1.0), request(200, -1.0, 2.0, None)]
    assert judged(attempt, at(179.9), lines).finding is Finding.UNKNOWN
    assert judged(attempt, at(180.0), lines).finding is Finding.DIED
    assert judged(attempt, at(122.0), [own("started", 1.0), request(200, -1.0, 2.0)]).finding is Finding.DIED
