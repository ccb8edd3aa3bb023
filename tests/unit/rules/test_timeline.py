"""
The timeline: one list in causal order, from a record and from lines in any order.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask.rules.act_lines import act_fields
from gcp_oncetask.rules.delivery import path_digest
from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.rules.record import Act, Event, Failure, Lock, PendingAlert, Status
from gcp_oncetask.rules.timeline import TimelineEntry, timeline
from gcp_oncetask.rules.timestamps import instant

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
PATH = "onceTasks/ab:E:charge:42"
TRACES = {1: "1" * 32, 2: "2" * 32, 3: "3" * 32}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def line(seconds: float, event: str, token: int, *, ahead: float = 0, **fields: Any) -> Line:
    """
    A line of the library, written so many seconds after the begin by a clock that is so many seconds ahead.
    """
    holder = f"holder-{token}"
    own = {"event": event, "document": PATH, "sequence": "1", "attempt": str(token), "token": str(token), "env": "E"}
    own |= {"holder": holder, **fields}
    if event == "started":
        own["grantedAt"] = instant(at(seconds) - timedelta(milliseconds=5))
    text = f"{PATH} (sequence 1, step 1, attempt {token}): {fields.get('message', event)}"
    return Line(
        at=at(seconds + ahead),
        log="stdout",
        severity="INFO",
        text=text,
        payload={"message": text, "oncetask": own},
        trace=TRACES.get(token),
        resource="cloud_run_revision s s-1",
        instance=fields.get("instance", f"i{token}"),
        status=None,
        url=None,
        latency=None,
        insert_id=f"{event}-{token}-{seconds}",
        received=at(seconds + 0.2),
    )


def with_fields(given: Line, **fields: Any) -> Line:
    given.payload["oncetask"].update(fields)
    return given


def request(seconds: float, status: int, *, trace: str = "f" * 32, latency: float = 0.1, **more: Any) -> Line:
    """
    An entry of the request log about a delivery.
    """
    name = more.get("name", PATH.replace("/", "%2F").replace(":", "%3A"))
    sequence = more.get("sequence", "1")
    query = f"?oncetask_document={name}&oncetask_sequence={sequence}&oncetask_dispatch=2" if name else ""
    return Line(
        at=at(seconds),
        log="requests",
        severity="INFO",
        text=more.get("text", ""),
        payload={},
        trace=trace,
        resource="cloud_run_revision s s-1",
        instance=more.get("instance", "i1"),
        status=status,
        url=f"https://tasks.example/run{query}",
        latency=latency,
        insert_id=f"request-{seconds}-{status}",
        received=at(seconds + latency + 0.2),
    )


def lock(**attributes: Any) -> Lock:
    given: dict[str, Any] = {"env": "E", "sequence": 1, "status": Status.SCHEDULED, **attributes}
    return Lock(**given)


def told(entries: tuple[TimelineEntry, ...]) -> list[tuple[str, int | None]]:
    return [(str(entry.phase), entry.token) for entry in entries]


TWO_TAKEOVERS = [
    # Behind by 20 s, ahead by 20 s, right.
    line(0, "started", 1, ahead=-20),
    line(600, "lease.taken_over", 1, message="died: killed", instance="sweeper"),
    line(601, "started", 2, ahead=20),
    line(603, "never-started", 2, ahead=20, outcome="unused"),
    line(1200, "lease.taken_over", 2, message="died: killed", instance="sweeper"),
    line(1201, "started", 3),
    line(1205, "returned", 3, outcome="complete"),
    line(1206, "settled", 3, message="settled: completed"),
]


def test_op_26_takeovers_are_in_order_though_clocks_differ_by_40_s() -> None:
    """
    In 50 orders of arrival: by sequence, token and phase; times are the server's; the clocks that are wrong are named.
    """
    record = lock(
        status=Status.COMPLETED,
        token=3,
        attempts=3,
        holder="holder-3",
        granted_at=at(1200.995),
        leased_at=at(1200.995),
    )
    expected = timeline(PATH, "E", record, (), TWO_TAKEOVERS, created=at(-1), ended=at(1205.9))

    assert told(expected) == [
        ("scheduled", None),
        ("granted", 1),
        ("judged", 1),
        ("granted", 2),
        ("returned", 2),
        ("judged", 2),
        ("granted", 3),
        ("returned", 3),
        ("settled", 3),
    ]
    by_phase = {(entry.phase, entry.token): entry for entry in expected}
    first, second, third = (by_phase["granted", token] for token in (1, 2, 3))
    assert [each.at for each in (first, second, third)] == [at(-0.005), at(600.995), at(1200.995)]
    assert first.note == "the clock of its process is 20 s behind the server's"
    assert second.note == "the clock of its process is 20 s ahead of the server's"
    assert third.note is None
    assert [by_phase["judged", token].at for token in (1, 2)] == [at(600), at(1200)]
    early = by_phase["returned", 2].at
    assert early is not None
    assert abs(early - at(603)) < timedelta(seconds=1)
    assert (by_phase["settled", 3].at, by_phase["settled", 3].source) == (at(1205.9), "record, trail")
    for seed in range(50):
        lines = [*TWO_TAKEOVERS, *TWO_TAKEOVERS[:3]]
        random.Random(seed).shuffle(lines)
        assert timeline(PATH, "E", record, (), lines, created=at(-1), ended=at(1205.9)) == expected


def test_op_27_refused_deliveries_are_between_the_attempts() -> None:
    """
    A 401 before the first grant, a 409 while it runs, and the request in which each attempt was granted; no token is shown.
    """
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImFubiJ9.c2lnbmVk"
    lines = [
        line(10, "started", 1),
        line(40, "returned", 1, outcome="complete"),
        line(41, "settled", 1, message="settled: completed"),
        request(5, 401, instance=None, text=f"The request was not authenticated: Bearer {jwt}"),
        request(9.9, 200, trace=TRACES[1], latency=31.2),
        request(20, 409),
        request(50, 200),
    ]
    found = timeline(PATH, "E", lock(token=1, attempts=1, status=Status.COMPLETED), (), lines, created=at(0))

    assert told(found) == [
        ("scheduled", None),
        ("refused", None),
        ("delivered", 1),
        ("granted", 1),
        ("refused", None),
        ("returned", 1),
        ("settled", 1),
        ("delivered", None),
    ]
    unauthorised, got, busy = found[1], found[2], found[4]
    assert unauthorised.said == "a delivery to tasks.example was answered with HTTP 401 after 0.1 s"
    assert unauthorised.note == (
        "Cloud Task 2 of the sequence; the platform answered in place of the service; "
        "The request was not authenticated: Bearer (token)"
    )
    assert (got.attempt, got.source, got.at) == (1, "request log", at(9.9))
    assert (busy.attempt, busy.sequence, busy.note) == (None, 1, "Cloud Task 2 of the sequence")
    assert "eyJ" not in str([entry.as_data() for entry in found])


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({}, True),
        ({"status": 401}, False),
        ({"status": 403}, False),
        ({"sequence": "2"}, False),
        ({"trace": "e" * 32}, False),
        ({"seconds": 16}, False),
        ({"seconds": -60}, False),
        ({"seconds": 14.9}, True),
    ],
)
def test_request_of_an_attempt_has_its_trace_and_was_there_at_its_grant(changed: dict[str, Any], got: bool) -> None:
    """
    Others that share the trace became no attempt: refused ones, those of another sequence, those before and after.
    """
    given = {"seconds": 9.9, "status": 200, "trace": TRACES[1], "latency": 1.0, **changed}
    seconds, status = given.pop("seconds"), given.pop("status")
    found = timeline(PATH, "E", None, (), [line(10, "started", 1), request(seconds, status, **given)])
    [entry] = [entry for entry in found if entry.source == "request log"]

    assert (entry.token == 1) is got


def test_of_two_requests_of_one_trace_the_later_one_got_the_lease() -> None:
    """
    The former was answered.
    """
    lines = [line(10, "started", 1), *(request(each, 409 if each == 8 else 200, trace=TRACES[1]) for each in (8, 9.9))]
    found = timeline(PATH, "E", None, (), lines)

    assert told(found) == [("refused", None), ("delivered", 1), ("granted", 1)]


@pytest.mark.parametrize(
    ("name", "trace", "is_mine"),
    [
        (path_digest(PATH).replace(":", "%3A"), "f" * 32, True),
        ("onceTasks%2Fab%3AE%3Acharge%3A421", TRACES[1], False),
        ("", TRACES[1], True),
        ("", "f" * 32, False),
    ],
)
def test_request_is_found_by_the_document_in_its_url(name: str, trace: str, is_mine: bool) -> None:
    """
    Or by the digest of a long path; by the trace of the last holder only where the URL names no document.
    """
    record = lock(token=1, attempts=1, granted_at=at(10), leased_at=at(10), trace=TRACES[1])
    found = timeline(PATH, "E", record, (), [request(9.9, 200, name=name, trace=trace)])

    assert any(entry.source == "request log" for entry in found) is is_mine


def test_lines_of_others_are_left_out() -> None:
    """
    Of another document or environment, of programs, and lines of the platform.
    """
    strange = [
        line(1, "started", 1, document="onceTasks/ab:E:charge:421"),
        line(1, "started", 2, env="F"),
        line(1, "", 3),
        Line(at(1), "system", "INFO", "x", {"oncetask": "no"}, None, "", None, None, None, None, "x"),
    ]

    assert timeline(PATH, "E", None, (), strange) == ()


def test_record_alone_tells_its_present_sequence() -> None:
    """
    Grant, renewal, failures, owed alerts, attention, cancellation and acts, where they belong.
    """
    record = lock(
        sequence=2,
        base=0,
        status=Status.QUARANTINED,
        scheduled_token=3,
        token=5,
        attempts=2,
        dispatches=4,
        instance="vm/7",
        granted_at=at(100),
        leased_at=at(130),
        errors=(Failure(at(50), 1, 2, "boom"), Failure(at(-500), 1, 1, "of the step before")),
        owed=(PendingAlert("a", Event.QUARANTINE, at(200), at(260), 2, 2, "no evidence", tries=1),),
        attention=f"E/quarantined/003/{instant(at(199))}",
        cancel_requested_at=at(120),
    )
    acts = (Act(at(300), "ack", "ann@example.com", True, None, "quarantined", 2, "asked the provider"),)
    found = timeline(PATH, "E", record, acts, created=at(-900))

    assert [(entry.at, entry.sequence, entry.token, entry.said, entry.note) for entry in found] == [
        (at(-900), 1, None, "created", None),
        (at(-500), 1, None, "the attempt failed: of the step before", None),
        (None, None, None, "nothing is known of 3 attempts, with tokens 1 to 3", found[2].note),
        (None, 2, None, "scheduled as step 2 of its chain", "4 Cloud Tasks were made for it"),
        (at(50), 2, 4, "the attempt failed: boom", None),
        (at(100), 2, 5, "the lease was granted", "on vm/7"),
        (at(120), 2, None, "its cancellation was requested", None),
        (at(130), 2, 5, "the lease was renewed for the last time", None),
        (at(199), 2, None, "a person is needed: quarantined", None),
        (at(200), 2, None, "an alert of quarantine is owed: no evidence", "tried 1 times"),
        (at(300), 2, None, "ack by ann@example.com; it was quarantined", "asked the provider"),
    ]
    assert "30 days" in str(found[2].note)


def test_failure_of_the_record_and_of_the_trail_is_one() -> None:
    """
    The trail names the outcome, the record the error.
    """
    record = lock(token=1, attempts=1, errors=(Failure(at(20), 1, 1, "boom"),))
    lines = [line(10, "started", 1), line(20, "settled", 1, message="settled: failed-attempt")]
    [_, _, settled] = timeline(PATH, "E", record, (), lines, created=at(0))

    assert (settled.said, settled.note) == ("settled: failed-attempt", "the attempt failed: boom")
    assert (settled.source, settled.at, settled.token) == ("record, trail", at(20), 1)


def test_redispatch_belongs_to_the_attempt_that_comes() -> None:
    """
    Its line has the token of the last attempt; it stands after all of that and before the next grant.
    """
    lines = [
        line(10, "started", 1),
        line(20, "settled", 1, message="settled: failed-attempt"),
        line(90, "task.redispatched", 1, message="made again", instance="sweeper"),
        line(95, "started", 2),
    ]
    found = timeline(PATH, "E", None, (), lines)

    assert told(found) == [("granted", 1), ("settled", 1), ("dispatched", None), ("granted", 2)]
    assert found[2].said == "task.redispatched: made again"


def test_gaps_are_between_the_attempts_that_are_known() -> None:
    """
    Without a record, those between known ones; one attempt has a sentence of its own.
    """
    lines = [line(10, "started", 2), line(90, "started", 4)]
    found = timeline(PATH, "E", None, (), lines)
    said = [entry.said for entry in found]

    assert said == ["started", "nothing is known of the attempt with token 3", "started"]
    assert timeline(f"onceLocks/{PATH[10:]}", "E", lock(token=9)) != found
    assert all(entry.phase != "gap" for entry in timeline("onceLocks/ab:E:x", "E", lock(token=9)))


def test_act_is_told_once_by_trail_and_record() -> None:
    """
    With its person as proved and as claimed; an act of the trail alone is there, too.
    """
    act = Act(at(50), "reset", "ops-sa", True, "ann", "failed", 1, None)
    old = Act(at(40), "ack", "bob", False, None, "failed", 1, None)
    lines = [
        line(50, "act", 0, **act_fields(act, "done")),
        line(40, "act", 0, **act_fields(old, "done")),
    ]
    record = lock(status=Status.FAILED)
    found = [entry for entry in timeline(PATH, "E", record, (act,), lines) if entry.phase == "act"]

    assert [(entry.said, entry.source) for entry in found] == [
        ("ack by bob (unproven); it was failed", "trail"),
        ("reset by ops-sa, as ann; it was failed", "record, trail"),
    ]


def test_process_that_stood_still_has_no_wrong_clock() -> None:
    """
    A start line that is written 20 s after the grant and received at once is right: its process stood still.
    """
    late = line(30, "started", 1)
    late.payload["oncetask"]["grantedAt"] = instant(at(10))
    [entry] = timeline(PATH, "E", None, (), [late])

    assert (entry.at, entry.note) == (at(10), None)


def test_start_line_of_an_older_release_has_the_time_of_its_clock() -> None:
    """
    It does not tell the server's time of the grant.
    """
    old = line(10, "started", 1, ahead=-20)
    del old.payload["oncetask"]["grantedAt"]
    [entry] = timeline(PATH, "E", None, (), [old])

    assert (entry.at, entry.note) == (at(-10), None)


@pytest.mark.parametrize(
    "damaged",
    [
        with_fields(line(1, "started", 1), sequence=None, token="seven", attempt=[1], grantedAt=3),
        replace(request(1, 200), url="https://[x/run?oncetask_document=1"),
        replace(request(1, 200), url=None, status=None, latency=None, trace=None),
    ],
)
def test_damaged_lines_end_no_timeline(damaged: Line) -> None:
    """
    Counters that are none, a URL that is none, and an entry with nothing in it.
    """
    record = lock(token=1, attempts=1, granted_at=at(10), leased_at=at(10), trace="f" * 32)
    found = timeline(PATH, "E", record, (), [damaged], created=at(0))

    assert any(entry.source == "record" for entry in found)


def test_deliveries_in_the_log_stand_where_they_were_received() -> None:
    """
    Refused and taken ones; that of an attempt is a settlement.
    """
    lines = [
        line(10, "started", 1),
        line(20, "delivery.busy", 1, message="held"),
        line(25, "delivery.duplicate", 1, message="done before"),
        line(40, "settled", 1, message="settled: completed"),
    ]

    assert told(timeline(PATH, "E", None, (), lines)) == [
        ("granted", 1),
        ("refused", None),
        ("delivered", None),
        ("settled", 1),
    ]


def test_long_texts_and_line_breaks_are_cut() -> None:
    """
    A text from outside is one line of 300 characters at most.
    """
    [entry] = timeline(PATH, "E", None, (), [line(1, "lease.taken_over", 1, message="a\nb " + "x" * 999)])

    assert len(entry.said) == 300
    assert entry.said.startswith("lease.taken_over: a b xxx")


def test_entry_is_json_data() -> None:
    """
    With the times as texts.
    """
    [entry] = timeline(PATH, "E", None, (), [line(1, "started", 1)])

    assert entry.as_data() == {
        "at": "2026-03-01T03:00:00.995000Z",
        "sequence": 1,
        "attempt": 1,
        "token": 1,
        "phase": "granted",
        "said": "started",
        "source": "trail",
        "note": None,
    }
