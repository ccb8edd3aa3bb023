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
from functools import partial

import pytest

from gcp_emulator.logging.messages import LogEntry
from gcp_oncetask import forks
from gcp_oncetask.clock import SystemClock
from gcp_oncetask.errors import RequestLogError
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.observe.log_filters import MAX_FILTER, batches, own_filter, platform_filter
from gcp_oncetask.observe.trail import Trail
from gcp_oncetask.rules.evidence import Finding, Holder, LineOrigin, judge
from gcp_oncetask.services.cloud_logging import CloudRequestLog

PROJECT = "p"
TRACE = "0123456789abcdef0123456789abcdef"
GRACE = timedelta(seconds=120)


@pytest.fixture
def log(server, clock):
    return CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock)


@pytest.fixture
def granted():
    return datetime.now(UTC) - timedelta(minutes=10)


@pytest.fixture
def holder(granted):
    return Holder("onceTasks/ä", 3, 7, "cafe01", TRACE, granted)


RUN = "run.googleapis.com%2F"


@pytest.fixture
def untraced(holder):
    """Of whom only its own lines can tell: it costs one call."""
    return replace(holder, trace=None)


def put(
    server,
    at,
    name,
    *,
    text="",
    payload=None,
    trace="",
    status=0,
    latency=0,
    instance="i1",
    of=RUN,
    revision="orders-1",
):
    entry = LogEntry(log_name=f"projects/{PROJECT}/logs/{of}{name}", text_payload=text, trace=trace)
    entry.resource.type = "cloud_run_revision" if revision else "global"
    entry.resource.labels.update({"service_name": "orders", "revision_name": revision} if revision else {})
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
            "parent": "1",
            **fields,
        },
    }


def gunicorn(at, text):
    return f"[{at:%Y-%m-%d %H:%M:%S %z}] [1] {text}"


def seconds(count):
    return timedelta(seconds=count)


def test_lines_are_those_that_matter(server, log, holder, granted):
    """Own end lines, the request of the trace, crash and worker lines come back, whole; all else stays where it is."""
    put(server, granted + seconds(1), "stdout", payload=own(holder, "started"))
    put(server, granted - seconds(100), "requests", trace=f"projects/p/traces/{TRACE}", status=503, latency=130)
    put(server, granted + seconds(30), "varlog%2Fsystem", text="Container called exit(1).")
    at = granted + seconds(29)
    put(server, at, "stderr", text=gunicorn(at, "[CRITICAL] WORKER TIMEOUT (pid:42)"))
    put(server, granted + seconds(3), "stdout", payload=own(holder, "chatter"))
    put(server, granted + seconds(3), "stdout", text="Container called exit(1).")
    put(server, granted + seconds(3), "stderr", text="Traceback")
    put(server, granted + seconds(3), "varlog%2Fsystem", text="Default STARTUP TCP probe succeeded")
    put(server, granted - seconds(90), "varlog%2Fsystem", text="Container called exit(7).")
    put(server, granted + seconds(3), "requests", trace=f"projects/p/traces/{'f' * 32}", status=500)
    put(server, granted + seconds(3), "requests", trace=f"projects/p/traces/{TRACE}", status=500)
    # What only looks like them.
    put(server, at, "stderr", text="WARNING:root:can't parse comment 'Worker (pid:42) exited'")
    put(server, at, "stderr", text="x\n" + gunicorn(at, "[CRITICAL] WORKER TIMEOUT (pid:42)"))
    put(server, at, "varlog%2Fsystem", text="Container called exit(1).", instance="i2")
    put(server, at, "varlog%2Fsystem", text="Container called exit(1).", revision="")
    put(server, at, "varlog%2Fsystem", text="Container called exit(1).", of="")
    put(server, at, "requests", trace=f"projects/p/traces/{TRACE}", status=500, of="")
    put(server, at, "audit", payload=own(holder, "returned"), of="")
    put(server, at, "stderr", payload=own(holder, "returned"))
    found = log.lines([holder])
    assert [line.log for line in found] == ["stdout", "requests", "stderr", "system"]
    assert {line.resource for line in found} == {"cloud_run_revision orders orders-1"}
    started, ended, worker, crash = found
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
    put(server, granted, "stdout", payload=own(holder, "started"))
    for n in range(1001):
        put(server, granted + timedelta(milliseconds=n), "varlog%2Fsystem", text="Container called exit(1).")
    assert len(log.lines([holder])) == 1002
    assert server.counts["ListLogEntries"] == 3


def test_too_many_lines_of_their_own_are_not_judged_by_a_part(server, log, holder, granted, monkeypatch):
    """Where the holders' lines don't fit, nothing is known: the missing ones may say that it finished."""
    monkeypatch.setattr("gcp_oncetask.services.cloud_logging._PAGE", 2)
    for n in range(11):
        put(server, granted + timedelta(milliseconds=n), "stdout", payload=own(holder, "started"))
    with pytest.raises(RequestLogError, match="none was used"):
        log.lines([holder])


def test_too_many_lines_of_the_platform_hide_nothing_of_the_holders(server, log, holder, granted, monkeypatch):
    """None of the platform's is used, and why is told; what the holders said is there."""
    monkeypatch.setattr("gcp_oncetask.services.cloud_logging._PAGE", 2)
    put(server, granted, "stdout", payload=own(holder, "started"))
    for n in range(11):
        put(server, granted + timedelta(milliseconds=n), "varlog%2Fsystem", text="Container called exit(1).")
    found = log.lines([holder])
    assert [line.log for line in found] == ["stdout"]
    assert "none was used" in str(found.trouble)
    assert log.lines([holder]).trouble is found.trouble


def test_5400_lines_of_others_hide_no_line_of_the_holders(server, log, holder, granted):
    """Users' words about workers, and the true ends of workers elsewhere, cost no call and hide neither start nor crash."""
    put(server, granted, "stdout", payload=own(holder, "started"))
    for n in range(2700):
        at = granted + timedelta(milliseconds=n)
        put(server, at, "stderr", text="can't parse comment 'Worker (pid:42) exited'")
        put(server, at, "stderr", text=gunicorn(at, "[ERROR] Worker (pid:42) exited with code 1."), instance="i2")
    put(server, granted + seconds(30), "varlog%2Fsystem", text="Container called exit(1).")
    found = log.lines([holder])
    assert [line.log for line in found] == ["stdout", "system"]
    assert found.trouble is None
    assert server.counts["ListLogEntries"] == 2


def test_filters_are_split_below_the_limit(holder):
    """A filter never exceeds the service's length; every holder is in exactly one; the time bound is explicit."""
    holders = [replace(holder, nonce=f"{n:024x}", trace=f"{n:032x}") for n in range(1000)]
    places = [(one, LineOrigin("r", f"{n:0250x}", 1, 1)) for n, one in enumerate(holders)]
    for filter_of, asked in ((partial(own_filter, PROJECT), holders), (partial(platform_filter, PROJECT), places)):
        parts = batches(filter_of, asked)
        assert [one for part in parts for one in part] == asked
        for part in parts:
            assert len(filter_of(part)) <= MAX_FILTER
            assert 'timestamp>="2' in filter_of(part)


def test_holders_that_told_how_they_ended_cost_one_call(server, log, holder, granted):
    """The platform is asked about the others alone, and only where there is something to ask for."""
    put(server, granted, "stdout", payload=own(holder, "returned"))
    log.lines([holder])
    assert server.counts["ListLogEntries"] == 1
    untraced = replace(holder, nonce="other", trace=None)
    log._process.asked = None
    log.lines([holder, untraced])
    assert server.counts["ListLogEntries"] == 2


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
    log.write(Trail.payload("returned", context, "done", "complete", text), insert_id="cafe01", at=at)
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


def test_a_second_question_inside_the_interval_is_refused(server, log, clock, untraced):
    """Other holders inside 10 s: an error at once, no call; afterwards they are asked about."""
    log.lines([untraced])
    clock.seconds = 9.9
    with pytest.raises(RequestLogError, match="budget") as caught:
        log.lines([replace(untraced, nonce="other")])
    assert caught.value.budget is True
    assert server.counts["ListLogEntries"] == 1
    clock.seconds = 10.0
    log.lines([replace(untraced, nonce="other")])
    assert server.counts["ListLogEntries"] == 2


def test_the_same_holders_are_answered_from_memory(server, log, clock, untraced, granted):
    """The same holders, or some of them, inside 10 s: the same lines, no call; afterwards fresh ones."""
    others = [untraced, replace(untraced, nonce="other")]
    put(server, granted, "stdout", payload=own(untraced, "started"), instance="")
    first = log.lines(others)
    put(server, granted, "stdout", payload=own(untraced, "returned"))
    clock.seconds = 9.9
    assert log.lines([untraced]) == log.lines(others) == first
    assert server.counts["ListLogEntries"] == 1
    clock.seconds = 10.0
    assert len(log.lines([untraced])) == 2


def test_an_answer_does_not_outlive_the_grace_in_a_long_interval(server, clock, holder):
    """With an interval of an hour, a remembered answer is still good for seconds only."""
    log = CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock, interval=3600)
    log.lines([holder])
    clock.seconds = 11.0
    with pytest.raises(RequestLogError, match="budget"):
        log.lines([holder])


def test_the_minute_is_bounded(server, clock, untraced):
    """Without an interval, the calls of a minute are bounded, and free again a minute later."""
    log = CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock, interval=0, per_minute=3)
    for _ in range(3):
        log.lines([untraced])
    with pytest.raises(RequestLogError, match="3 calls"):
        log.lines([untraced])
    clock.seconds = 60.0
    log.lines([untraced])
    assert server.counts["ListLogEntries"] == 4


def test_the_platform_s_lines_count_against_the_budget(server, clock, holder, granted):
    """Where no call is left for them the holders' own lines are there, and what is missing is told."""
    log = CloudRequestLog(project=lambda: PROJECT, emulator=server.address, clock=clock, interval=0, per_minute=3)
    put(server, granted, "stdout", payload=own(holder, "started"))
    assert log.lines([holder]).trouble is None
    found = log.lines([holder])
    assert ([line.log for line in found], "3 calls" in str(found.trouble)) == (["stdout"], True)
    assert server.counts["ListLogEntries"] == 3


def test_of_many_threads_one_asks(server, log, untraced):
    """Sixteen threads with holders of their own: one call, fifteen refusals."""

    def ask(number):
        try:
            return log.lines([replace(untraced, nonce=f"n{number}")])
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


def test_a_fork_begins_anew(server, log, untraced, monkeypatch):
    """Behind a fork, neither the parent's channel nor its budget nor its mutex is used."""
    log.lines([untraced])
    client = log._process.client
    log._process.mutex.acquire()
    monkeypatch.setattr(forks, "generation", forks.generation + 1)
    log.lines([replace(untraced, nonce="other")])
    assert log._process.client is not client
    assert server.counts["ListLogEntries"] == 2


def test_importing_does_not_load_the_client():
    """Start-up does not pay for a client that is used only in trouble."""
    imported = "import sys, gcp_oncetask.services.cloud_logging; "
    code = f"{imported}print([m for m in sys.modules if m.startswith('google.cloud.logging')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert re.fullmatch(r"\[\]\s*", done.stdout)
