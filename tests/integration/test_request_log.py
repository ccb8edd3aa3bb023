from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gcp_emulator.clock import SystemClock as EmulatorClock
from gcp_emulator.faults import Faults
from gcp_emulator.logging import LoggingServer
from gcp_emulator.logging.messages import LogEntry
from gcp_oncetask import forks, logs
from gcp_oncetask.clock import Mark, SystemClock
from gcp_oncetask.cloud_logging import MAX_FILTER, CloudRequestLog, batches, filter_for
from gcp_oncetask.errors import RequestLogError
from gcp_oncetask.evidence import Finding, Holder, judge
from gcp_oncetask.logs import LogContext, Trail

PROJECT = "p"
TRACE = "0123456789abcdef0123456789abcdef"
GRACE = timedelta(seconds=120)


class Ticks:
    """A clock that is moved by hand; wall time is real, since the server's is."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return datetime.now(UTC)

    def mark(self):
        return Mark(self.seconds, self.seconds, self.seconds)


@pytest.fixture
def server():
    server = LoggingServer(EmulatorClock(), Faults(seed=1))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clock():
    return Ticks()


@pytest.fixture
def log(server, clock):
    return CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock)


@pytest.fixture
def granted():
    return datetime.now(UTC) - timedelta(minutes=10)


@pytest.fixture
def holder(granted):
    return Holder("onceTasks/ä", 3, 7, "cafe01", TRACE, None, granted)


def put(server, at, name, *, text="", payload=None, trace="", status=0, latency=0, instance="i1"):
    entry = LogEntry(log_name=f"projects/{PROJECT}/logs/run.googleapis.com%2F{name}", text_payload=text, trace=trace)
    entry.resource.type = "cloud_run_revision"
    entry.timestamp.FromDatetime(at)
    if instance:
        entry.labels["instanceId"] = instance
    if payload is not None:
        entry.json_payload.update(payload)
    if status:
        entry.http_request.status = status
        entry.http_request.request_url = "https://x/run?oncetask_sequence=3"
        entry.http_request.latency.FromSeconds(latency)
    server.write(entry)


def own(holder, event, **fields):
    return {
        "message": event,
        "oncetask": {
            "event": event,
            "document": holder.document,
            "sequence": str(holder.sequence),
            "token": str(holder.token),
            "holder": holder.nonce,
            "pid": "42",
            **fields,
        },
    }


def seconds(count):
    return timedelta(seconds=count)


def test_lines_are_those_that_matter(server, log, holder, granted):
    """Own end lines, the request of the trace, crash and worker lines come back, whole; all else stays where it is."""
    put(server, granted + seconds(1), "stdout", payload=own(holder, "started"))
    put(server, granted - seconds(100), "requests", trace=f"projects/p/traces/{TRACE}", status=503, latency=130)
    put(server, granted + seconds(30), "varlog%2Fsystem", text="Container called exit(1).")
    put(server, granted + seconds(29), "stderr", text="[1] [CRITICAL] WORKER TIMEOUT (pid:42)")
    put(server, granted + seconds(3), "stdout", payload=own(holder, "chatter"))
    put(server, granted + seconds(3), "stdout", text="Container called exit(1).")
    put(server, granted + seconds(3), "stderr", text="Traceback")
    put(server, granted + seconds(3), "varlog%2Fsystem", text="Default STARTUP TCP probe succeeded")
    put(server, granted - seconds(90), "varlog%2Fsystem", text="Container called exit(7).")
    put(server, granted + seconds(3), "requests", trace=f"projects/p/traces/{'f' * 32}", status=500)
    found = log.lines([holder])
    assert [line.log for line in found] == ["requests", "stdout", "stderr", "system"]
    ended, started, worker, crash = found
    assert (ended.trace, ended.status, ended.latency) == (TRACE, 503, 130.0)
    assert ended.url == "https://x/run?oncetask_sequence=3"
    assert started.payload == own(holder, "started")
    assert (started.text, started.at, started.instance) == ("started", granted + seconds(1), "i1")
    assert (worker.status, crash.text, crash.payload) == (None, "Container called exit(1).", {})
    assert judge(holder, found, now=datetime.now(UTC), log_grace=GRACE).finding is Finding.DIED


def test_many_holders_cost_one_call(server, log, holder, granted):
    """Fifty holders, with and without a trace, are asked about in one call."""
    holders = [replace(holder, nonce=f"n{n}", trace=None if n % 2 else f"{n:032x}") for n in range(50)]
    for one in holders:
        put(server, granted, "stdout", payload=own(one, "returned"))
    assert len(log.lines(holders)) == 50
    assert server.counts["ListLogEntries"] == 1


def test_no_holders_cost_nothing(server, log):
    """Nothing to ask, nothing asked."""
    assert log.lines([]) == []
    assert server.counts["ListLogEntries"] == 0


def test_further_pages_are_read(server, log, holder, granted):
    """More lines than a page holds come back complete."""
    for n in range(1001):
        put(server, granted + timedelta(milliseconds=n), "varlog%2Fsystem", text="Container called exit(1).")
    assert len(log.lines([holder])) == 1001
    assert server.counts["ListLogEntries"] == 2


def test_too_many_lines_are_not_judged_by_a_part(server, log, holder, granted, monkeypatch):
    """Where the lines don't fit, nothing is known: the missing ones may say that it finished."""
    monkeypatch.setattr("gcp_oncetask.cloud_logging._PAGE", 2)
    for n in range(11):
        put(server, granted + timedelta(milliseconds=n), "varlog%2Fsystem", text="Container called exit(1).")
    with pytest.raises(RequestLogError, match="none was used"):
        log.lines([holder])


def test_filters_are_split_below_the_limit(holder):
    """A filter never exceeds the service's length; every holder is in exactly one; the time bound is explicit."""
    holders = [replace(holder, nonce=f"{n:024x}", trace=f"{n:032x}") for n in range(1000)]
    parts = batches(PROJECT, holders)
    assert [one for part in parts for one in part] == holders
    for part in parts:
        text = filter_for(PROJECT, part)
        assert len(text) <= MAX_FILTER
        assert text.startswith('timestamp>="2')


def test_filter_quotes_what_it_is_given(server, log, holder, granted):
    """A nonce with quotation marks and operators is a text, not part of the query."""
    odd = replace(holder, nonce='x" OR severity>=DEFAULT OR "\\')
    put(server, granted, "stdout", payload=own(holder, "returned"))
    put(server, granted, "stdout", payload=own(odd, "returned"))
    assert [line.payload["oncetask"]["holder"] for line in log.lines([odd])] == [odd.nonce]


def test_a_written_line_is_found_and_counts_once(server, log, holder):
    """A line written twice with one id and instant is one line; it is evidence like one from standard output."""
    settlement = {"kind": "complete", "n": None, "fields": {"a": ["b", True]}}
    payload = own(holder, "returned", settlement=json.dumps(settlement))
    at = datetime.now(UTC)
    for _ in range(2):
        log.write(payload, insert_id="cafe01", at=at)
    found = log.lines([holder])
    assert {(line.log, line.insert_id, line.at, line.text) for line in found} == {
        ("oncetask", "cafe01", at, "returned")
    }
    verdict = judge(holder, found, now=at, log_grace=GRACE)
    assert verdict.finding is Finding.RECORDED
    assert verdict.settlement == settlement


def test_a_settlement_comes_back_exactly(server, log, holder):
    """Numbers are floats in Cloud Logging; what recovery commits still has the holder's own, whole and large ones too."""
    context = LogContext(holder.document, holder.sequence, 1, holder.token, holder.nonce, "DEFAULT", TRACE)
    settlement = {
        "kind": "complete",
        "result": {"whole": 3, "large": 2**60 + 1, "float": 3.0, "ä": [None, True, 1e300]},
    }
    line = io.StringIO()
    text = json.dumps(settlement)
    Trail(lambda: PROJECT, line, SystemClock()).write("returned", context, "done", outcome="complete", settlement=text)
    at = datetime.now(UTC)
    put(server, at, "stdout", payload={"oncetask": json.loads(line.getvalue())["oncetask"]})
    log.write(logs.payload("returned", context, "done", "complete", text), insert_id="cafe01", at=at)
    found = log.lines([holder])
    assert sorted(line.log for line in found) == ["oncetask", "stdout"]
    for one in found:
        verdict = judge(holder, [one], now=at, log_grace=GRACE)
        assert repr(verdict.settlement) == repr(settlement)


def test_an_unserialisable_value_is_written_as_text(server, log, holder):
    """What JSON does not know is no reason to lose the line."""
    log.write(own(holder, "returned", when=datetime(2026, 1, 1, tzinfo=UTC)), insert_id="1", at=datetime.now(UTC))
    [line] = log.lines([holder])
    assert line.payload["oncetask"]["when"].startswith("2026-01-01")


def test_a_second_question_inside_the_interval_is_refused(server, log, clock, holder):
    """Other holders inside 10 s: an error at once, no call; afterwards they are asked about."""
    log.lines([holder])
    clock.seconds = 9.9
    with pytest.raises(RequestLogError, match="budget") as caught:
        log.lines([replace(holder, nonce="other")])
    assert caught.value.budget is True
    assert server.counts["ListLogEntries"] == 1
    clock.seconds = 10.0
    log.lines([replace(holder, nonce="other")])
    assert server.counts["ListLogEntries"] == 2


def test_the_same_holders_are_answered_from_memory(server, log, clock, holder, granted):
    """The same holders, or some of them, inside 10 s: the same lines, no call; afterwards fresh ones."""
    others = [holder, replace(holder, nonce="other")]
    put(server, granted, "stdout", payload=own(holder, "started"))
    first = log.lines(others)
    put(server, granted, "stdout", payload=own(holder, "returned"))
    clock.seconds = 9.9
    assert log.lines([holder]) == log.lines(others) == first
    assert server.counts["ListLogEntries"] == 1
    clock.seconds = 10.0
    assert len(log.lines([holder])) == 2


def test_an_answer_does_not_outlive_the_grace_in_a_long_interval(server, clock, holder):
    """With an interval of an hour, a remembered answer is still good for seconds only."""
    log = CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock, interval=3600)
    log.lines([holder])
    clock.seconds = 11.0
    with pytest.raises(RequestLogError, match="budget"):
        log.lines([holder])


def test_the_minute_is_bounded(server, clock, holder):
    """Without an interval, the calls of a minute are bounded, and free again a minute later."""
    log = CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock, interval=0, per_minute=3)
    for _ in range(3):
        log.lines([holder])
    with pytest.raises(RequestLogError, match="3 calls"):
        log.lines([holder])
    clock.seconds = 60.0
    log.lines([holder])
    assert server.counts["ListLogEntries"] == 4


def test_of_many_threads_one_asks(server, log, holder):
    """Sixteen threads with holders of their own: one call, fifteen refusals."""

    def ask(number):
        try:
            return log.lines([replace(holder, nonce=f"n{number}")])
        except RequestLogError as error:
            return error.budget

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert sorted(map(str, answers)) == ["True"] * 15 + ["[]"]
    assert server.counts["ListLogEntries"] == 1


def test_the_projects_quota_is_an_error_without_retries(server, log, holder):
    """RESOURCE_EXHAUSTED comes out at once, with the service's own error as the cause."""
    server.limit_per_minute = 0
    with pytest.raises(RequestLogError, match="Quota exceeded") as caught:
        log.lines([holder])
    assert type(caught.value.__cause__).__name__ == "ResourceExhausted"
    assert server.counts["ListLogEntries"] == 1


def test_a_failed_question_is_not_remembered_as_an_answer(server, log, clock, holder):
    """After a refusal the same holders are not answered with silence."""
    server.limit_per_minute = 0
    with pytest.raises(RequestLogError):
        log.lines([holder])
    with pytest.raises(RequestLogError, match="budget"):
        log.lines([holder])
    server.limit_per_minute = None
    clock.seconds = 10.0
    assert log.lines([holder]) == []


def test_an_unreachable_service_is_an_error(server, clock, holder):
    """Nobody listens: reading and writing both say so within their deadline."""
    server.stop()
    log = CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock, timeout=1.0)
    with pytest.raises(RequestLogError, match="could not be read"):
        log.lines([holder])
    with pytest.raises(RequestLogError, match="did not take"):
        log.write(own(holder, "returned"), insert_id="1", at=datetime.now(UTC))


def test_a_refused_entry_is_an_error(server, log, holder):
    """An entry too large for the service is refused, not lost silently."""
    with pytest.raises(RequestLogError, match="exceeds maximum size"):
        log.write(own(holder, "returned", note="x" * 300_000), insert_id="1", at=datetime.now(UTC))


def test_a_fork_begins_anew(server, log, holder, monkeypatch):
    """Behind a fork, neither the parent's channel nor its budget nor its mutex is used."""
    log.lines([holder])
    client = log._process.client
    log._process.mutex.acquire()
    monkeypatch.setattr(forks, "generation", forks.generation + 1)
    log.lines([replace(holder, nonce="other")])
    assert log._process.client is not client
    assert server.counts["ListLogEntries"] == 2


def test_importing_does_not_load_the_client():
    """Start-up does not pay for a client that is used only in trouble."""
    code = "import sys, gcp_oncetask.cloud_logging; print([m for m in sys.modules if m.startswith('google.cloud.logging')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert re.fullmatch(r"\[\]\s*", done.stdout)
