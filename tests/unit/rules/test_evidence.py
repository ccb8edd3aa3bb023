from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from gcp_oncetask.rules.delivery import path_digest
from gcp_oncetask.rules.evidence import MAX_EVIDENCE, MAX_LINE, UNUSED, Finding, Holder, Line, has_ended, judge
from tests.support.rules import combinations, first_match, table

GRANTED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
GRACE = timedelta(seconds=120)
LATE = 10_000.0
TRACE = "0123456789abcdef0123456789abcdef"
RESOURCE = "cloud_run_revision orders orders-1"
SETTLEMENT = {"kind": "complete", "nonce": "n1"}
GONE = "an absent field"
HOLDER = Holder("onceTasks/a", 3, 7, "cafe01", TRACE, GRANTED)


def line(after, log, text="", **fields):
    """A line *after* seconds from the grant."""
    given = {"severity": "INFO", "payload": {}, "trace": None, "instance": "i1", "status": None, "url": None}
    given |= {"resource": RESOURCE, "latency": None, "insert_id": "x"} | fields
    return Line(at=GRANTED + timedelta(seconds=after), log=log, text=text, **given)


def own(event, after=1.0, *, instance="i1", log="stdout", resource=RESOURCE, **fields):
    payload = {
        "event": event,
        "document": "onceTasks/a",
        "sequence": "3",
        "token": "7",
        "holder": "cafe01",
        "pid": "42",
        "parent": "9",
    }
    if isinstance(fields.get("settlement"), dict):
        fields["settlement"] = json.dumps(fields["settlement"])
    own = {name: value for name, value in (payload | fields).items() if value != GONE}
    return line(after, log, event, payload={"oncetask": own}, instance=instance, resource=resource)


def request(status, start=-1.0, latency=31.0, **fields):
    return line(start, "requests", status=status, latency=latency, trace=fields.pop("trace", TRACE), **fields)


def system(after=30.0, text="Container terminated on signal 9.", **fields):
    return line(after, "system", text, **fields)


def stderr(text, after=30.0, **fields):
    return line(after, "stderr", text, **fields)


def gunicorn(text, after=30.0, *, by=9, level="ERROR", stamped=None, **fields):
    """As gunicorn's first process writes it."""
    at = GRANTED + timedelta(seconds=after if stamped is None else stamped)
    return stderr(f"[{at:%Y-%m-%d %H:%M:%S %z}] [{by}] [{level}] {text}", after, **fields)


KILLED = "Worker (pid:42) was sent SIGKILL! Perhaps out of memory?"


def verdict(*lines, now=LATE, holder=HOLDER):
    return judge(holder, lines, now=GRANTED + timedelta(seconds=now), log_grace=GRACE)


STARTED = own("started")
OTHERS = [
    own("returned", settlement=SETTLEMENT, holder="beef02"),
    own("returned", settlement=SETTLEMENT, token="8"),
    own("returned", settlement=SETTLEMENT, sequence="4"),
    own("returned", settlement=SETTLEMENT, document="onceTasks/b"),
    own("never-started", holder="beef02"),
    request(500, trace="f" * 32),
    request(500, url="https://x/run?oncetask_document=onceTasks%2Fa&oncetask_sequence=3", trace="e" * 32),
    system(instance="i2"),
    gunicorn(KILLED, instance="i2"),
]

TABLE = {
    # Its own word.
    "returned with settlement": ([STARTED, own("returned", 20, settlement=SETTLEMENT)], "recorded"),
    "counters as floats": ([own("returned", sequence=3.0, token=7.0, settlement=SETTLEMENT)], "recorded"),
    "returned without": ([STARTED, own("returned", 20)], "finished"),
    "settlement that is no JSON": ([own("returned", settlement='{"kind": "compl')], "finished"),
    "settlement that is no map": ([own("returned", settlement="[1]")], "finished"),
    "settlement that is no text": ([own("returned", settlement=[SETTLEMENT])], "finished"),
    "settlement nested too deeply": ([own("returned", settlement='{"a":' * 100_000)], "finished"),
    "settled only": ([own("settled", 20)], "finished"),
    "returned and settled": ([own("returned", 20, settlement=SETTLEMENT), own("settled", 21)], "recorded"),
    "returned, then a crash": ([STARTED, own("returned", 20, settlement=SETTLEMENT), system(25)], "recorded"),
    "returned, then a 500": ([own("returned", 20), request(500)], "finished"),
    "returned by a skewed clock": ([own("returned", -900, settlement=SETTLEMENT)], "recorded"),
    "never started": ([own("never-started")], "never-started"),
    "never started, token unknown": ([own("never-started", token="4")], "never-started"),
    "never started, and a crash": ([own("never-started"), system()], "never-started"),
    "never started, but started": ([STARTED, own("never-started", 2)], "unknown"),
    "an event of another sort": ([own("rules.granted")], "unknown"),
    # Its instance.
    "signal": ([STARTED, system()], "died"),
    "exit 1": ([STARTED, system(text="Container called exit(1).")], "died"),
    "exit 0": ([STARTED, system(text="Container called exit(0).")], "died"),
    "memory": ([STARTED, system(text="Memory limit of 512 MiB exceeded with 530 MiB used.")], "died"),
    "too much memory": (
        [
            STARTED,
            system(
                text="While handling this request, the container instance was found to be using too much memory and "
                "was terminated."
            ),
        ],
        "died",
    ),
    "crash after a 504": ([STARTED, request(504), system(40)], "died"),
    "other words of the platform": ([STARTED, system(text="Default STARTUP TCP probe succeeded")], "unknown"),
    "the app prints such words": ([STARTED, stderr("Container called exit(1).")], "unknown"),
    "instance not known": ([system()], "unknown"),
    "instance without label": ([own("started", instance=None), system(instance=None)], "unknown"),
    "crash before the start": ([system(0.5), STARTED], "unknown"),
    "restart after a crash, and a crash": ([system(0.5), STARTED, system(30)], "died"),
    # Its worker.
    "worker killed": ([STARTED, gunicorn(KILLED)], "died"),
    "worker killed by another signal": ([STARTED, gunicorn("Worker (pid:42) was sent SIGTERM!", level="INFO")], "died"),
    "worker killed by a signal without a name": ([STARTED, gunicorn("Worker (pid:42) was sent signal 40!")], "died"),
    "worker terminated, of old": (
        [STARTED, gunicorn("Worker with pid 42 was terminated due to signal 9", level="WARNING")],
        "died",
    ),
    "worker timeout": ([STARTED, gunicorn("WORKER TIMEOUT (pid:42)", level="CRITICAL")], "died"),
    "worker exited": ([STARTED, gunicorn("Worker (pid:42) exited with code 1.")], "died"),
    "worker exited, line break": (
        [STARTED, stderr(gunicorn("Worker (pid:42) exited with code 1").text + "\n")],
        "died",
    ),
    "worker exited, in another time zone": (
        [STARTED, stderr("[2026-03-01 17:45:30 +0545] [9] [ERROR] Worker (pid:42) exited with code 1.")],
        "died",
    ),
    "sandbox saw a signal": ([STARTED, system(text="Uncaught signal: 11, pid=42, tid=42, fault_addr=0.")], "died"),
    "sandbox saw the signal of another": (
        [STARTED, system(text="Uncaught signal: 11, pid=421, tid=42, fault_addr=0.")],
        "unknown",
    ),
    "worker killed, pid as float": ([own("started", pid=42.0, parent=9.0), gunicorn(KILLED)], "died"),
    "worker killed, parent not told": ([own("started", parent=GONE), gunicorn(KILLED)], "died"),
    "another worker": ([STARTED, gunicorn("Worker (pid:421) was sent SIGKILL!")], "unknown"),
    "worker of another instance": ([STARTED, gunicorn(KILLED, instance="i2")], "unknown"),
    "worker before the start": ([STARTED, gunicorn(KILLED, 0.5)], "unknown"),
    "worker, start not seen": ([gunicorn(KILLED)], "unknown"),
    "worker without a platform": (
        [own("started", instance=None, resource=""), gunicorn(KILLED, instance=None, resource="")],
        "unknown",
    ),
    # Its request.
    "500": ([STARTED, request(500)], "died"),
    "503": ([STARTED, request(503)], "died"),
    "503, start not seen": ([request(503)], "unknown"),
    "504": ([STARTED, request(504)], "unknown"),
    "client gone": ([STARTED, request(499)], "unknown"),
    "no status": ([STARTED, request(None)], "unknown"),
    "200 long ago": ([STARTED, request(200)], "died"),
    "409 long ago": ([STARTED, request(409)], "died"),
    "500 and 504 of one trace": ([STARTED, request(500), request(504)], "unknown"),
    "request of another instance": ([STARTED, request(500, instance="i2")], "unknown"),
    "request made by its code": ([STARTED, request(500, start=2.0, latency=1.0)], "unknown"),
    "request over before the grant": ([STARTED, request(500, start=-60.0, latency=30.0)], "unknown"),
    "request that names another": (
        [STARTED, request(500, url="https://x/?oncetask_document=onceTasks%2Fz")],
        "unknown",
    ),
    "request that names this": (
        [STARTED, request(500, url="https://x/?oncetask_document=onceTasks%2Fa&oncetask_sequence=3")],
        "died",
    ),
    "request that names this by its digest": (
        [
            STARTED,
            request(500, url=f"https://x/?oncetask_document={quote(path_digest('onceTasks/a'))}&oncetask_sequence=3"),
        ],
        "died",
    ),
    "request that names another by its digest": (
        [
            STARTED,
            request(500, url=f"https://x/?oncetask_document={quote(path_digest('onceTasks/z'))}&oncetask_sequence=3"),
        ],
        "unknown",
    ),
    # Nothing.
    "no lines": ([], "unknown"),
    "started only": ([STARTED], "unknown"),
    "lines of others": (OTHERS, "unknown"),
}


WORDS = {
    # On stderr.
    "a worker, by a program's logger": stderr("WARNING:root:can't parse comment 'Worker (pid:42) exited'"),
    "a worker": stderr(KILLED),
    "a worker, quoted": gunicorn(f"can't parse comment '{KILLED}'"),
    "a worker, and more": gunicorn(f"{KILLED} said a user"),
    "a worker, in a later line": stderr(f"can't parse comment 'x\n{gunicorn(KILLED).text}"),
    "a worker, in an earlier line": stderr(f"{gunicorn(KILLED).text}\n': can't be parsed"),
    "a worker, behind a line break": stderr(f"\n{gunicorn(KILLED).text}"),
    "a worker, behind a space": stderr(f" {gunicorn(KILLED).text}"),
    "a worker, by the logger of this one": gunicorn(KILLED, by=42),
    "a worker, by the logger of another one": gunicorn(KILLED, by=43),
    "a worker, of yesterday": gunicorn(KILLED, stamped=-86_400),
    "a worker, of a minute ago": gunicorn(KILLED, stamped=-31),
    "a worker, at no time": stderr(f"[2026-13-01 12:00:30 +0000] [9] [ERROR] {KILLED}"),
    "a worker that exits": gunicorn("Worker exiting (pid: 42)", level="INFO"),
    "a worker, in other digits": gunicorn("WORKER TIMEOUT (pid:\u0664\u0662)"),
    "a worker, as JSON": gunicorn(KILLED, payload={"message": KILLED}),
    "an instance": stderr("Container called exit(1)."),
    # In the right form, but elsewhere.
    "a worker, on stdout": replace(gunicorn(KILLED), log="stdout"),
    "a worker, in the log of the platform": replace(gunicorn(KILLED), log="system"),
    "a worker, in a log of that name": replace(gunicorn(KILLED), log="other stderr"),
    "a worker of another revision": gunicorn(KILLED, resource="cloud_run_revision orders orders-2"),
    "a worker of another service": gunicorn(KILLED, resource="cloud_run_revision shop orders-1"),
    "a worker outside Cloud Run": gunicorn(KILLED, resource=""),
    "an instance, in a log of that name": replace(system(), log="other system"),
    "an instance of another service": system(resource="cloud_run_revision shop orders-1"),
    "an instance, filed elsewhere": system(resource=""),
    "an instance, quoted by the platform": system(text="Cron 'Container called exit(1).' was due"),
    "an instance, and more": system(text="Container called exit(1). said a user"),
    "an instance, as JSON": system(payload={"message": "Container terminated on signal 9."}),
    "the sandbox, on stderr": stderr("Uncaught signal: 11, pid=42, tid=42, fault_addr=0."),
    "memory, in a later line": system(text="x\nMemory limit of 512 MiB exceeded with 530 MiB used."),
    "memory, without sizes": system(text="Memory limit of patience exceeded with words used."),
    # Of requests.
    "a request that was turned away": request(403),
    "a request without a token": request(401),
    "a request that reached no instance": request(500, instance=None),
    "a request of another service": request(500, resource="cloud_run_revision shop orders-1"),
    "a request, filed elsewhere": request(500, resource=""),
    "a request, in a log of that name": replace(request(500), log="other requests"),
    "a request whose words say so": request(500, trace="f" * 32, url=f"https://x/?{TRACE}&Container+called+exit(1)."),
    # Of our own.
    "an end, in another log": own("returned", 20, settlement=SETTLEMENT, log="other audit"),
    "an end, on stderr": own("returned", 20, settlement=SETTLEMENT, log="stderr"),
    "an end, given by a program": line(
        20, "stdout", payload={"oncetask": {"given": own("returned").payload["oncetask"]}}
    ),
    "an end, deeper": line(20, "stdout", payload={"data": own("returned", settlement=SETTLEMENT).payload}),
    "an end, as text": line(20, "stdout", json.dumps(own("returned", settlement=SETTLEMENT).payload)),
}
"""What anybody may get into the logs, in some of which an attempt is running."""


@pytest.mark.parametrize("name", WORDS)
def test_words_of_users_are_no_evidence(name):
    """An attempt that has started, and whose end nobody knows, has not ended because somebody says so."""
    assert verdict(STARTED, WORDS[name]).finding is Finding.UNKNOWN
    assert verdict(STARTED, *WORDS.values()).finding is Finding.UNKNOWN
    assert verdict(STARTED, WORDS[name], own("returned", 21)).finding is Finding.FINISHED


def test_start_that_is_told_from_two_places_leads_to_no_instance():
    """A copy of the line that another service prints does not say where the attempt runs."""
    copy = own("started", 2, instance="i2", pid="7")
    for lines in ([STARTED, copy], [copy, STARTED]):
        assert verdict(*lines, system()).finding is Finding.UNKNOWN
        assert verdict(*lines, system(instance="i2")).finding is Finding.UNKNOWN
    assert verdict(STARTED, STARTED, system()).finding is Finding.DIED


@pytest.mark.parametrize("kind", ["cloud_run_worker_pool", "cloud_run_job"])
def test_instances_of_workers_and_jobs_are_told_as_well(kind):
    """The platform files their lines under a resource of another type."""
    lines = [own("started", resource=f"{kind} sums sums-1"), system(resource=f"{kind} sums sums-1")]
    assert verdict(*lines).finding is Finding.DIED
    assert verdict(lines[0], system()).finding is Finding.UNKNOWN


def test_what_the_platform_says_is_wanted_where_the_holder_is_silent():
    """Its own end line makes it needless; a start line does not."""
    assert [has_ended(HOLDER, lines) for lines in ([], [STARTED], [own("settled")], [own("returned")])] == [
        False,
        False,
        True,
        True,
    ]
    assert has_ended(HOLDER, [own("never-started")])
    assert not has_ended(HOLDER, [own("never-started"), STARTED])
    assert not has_ended(HOLDER, [own("returned", holder="beef02")])


@pytest.mark.parametrize("name", TABLE)
def test_judge_finds(name):
    """Each row of the table gives its finding, in whatever order the lines come, with lines of others among them."""
    lines, finding = TABLE[name]
    assert verdict(*lines).finding == finding
    assert verdict(*reversed(lines)).finding == finding
    assert verdict(*OTHERS, *lines).finding == finding


@pytest.mark.parametrize("status", [200, 204, 302, 404, 409, 429, 500, 502, 503])
@pytest.mark.parametrize(("seconds", "finding"), [(149.9, "unknown"), (150.0, "died")])
def test_judge_waits_for_the_grace_after_a_request(status, seconds, finding):
    """A request that ended at +30 s means death only 120 s later, whatever its status: until then its end line may come."""
    assert verdict(STARTED, request(status), now=seconds).finding == finding


@pytest.mark.parametrize(
    "name", ["signal", "exit 1", "memory", "worker killed", "worker timeout", "sandbox saw a signal"]
)
def test_judge_waits_for_the_grace_after_a_crash(name):
    """A process that ended at +30 s may have written its end line just before."""
    lines, _ = TABLE[name]
    early = verdict(*lines, now=149.9)
    assert (early.finding, "2026-03-01T12:02:30" in early.reason) == (Finding.UNKNOWN, True)
    assert verdict(*lines, now=150.0).finding is Finding.DIED
    assert verdict(*lines, own("returned", 29, settlement=SETTLEMENT), now=60).finding is Finding.RECORDED


def test_judge_finds_as_the_table_says():
    """Each combination of own lines, crash line, request and time is decided by its row; all ended at 30 s."""
    rows = table("evidence.judge")
    used = set()
    said = {
        "returned, with what it wrote": [STARTED, own("returned", 29, settlement=SETTLEMENT)],
        "returned": [STARTED, own("returned", 29)],
        "settled": [own("settled", 29)],
        "never started": [own("never-started", 29, outcome=UNUSED)],
        "started": [STARTED],
        "none": [],
    }
    statuses = {"cut off or 504": 504, "5xx": 503, "another status": 200}
    holder = replace(HOLDER, expired_at=GRANTED + timedelta(seconds=30))
    url = "https://x/?oncetask_document=onceTasks%2Fa&oncetask_sequence=3"
    for case in combinations(
        **{"its own lines": tuple(said), "crash line": ("yes", "no"), "its request": (*statuses, "none")},
        **{"log grace": ("not over", "over")},
    ):
        lines = [*said[case["its own lines"]]]
        lines += [system(30)] if case["crash line"] == "yes" else []
        status = statuses.get(case["its request"])
        lines += [] if status is None else [request(status, url=url)]
        row = first_match(rows, case)
        used.add(row)
        now = 150.0 if case["log grace"] == "over" else 149.9
        assert rows[row]["finding"] == verdict(*lines, now=now, holder=holder).finding, case
    assert set(range(len(rows))) == used


def test_judge_returns_the_settlement_and_names_the_outcome():
    """The settlement is handed on untouched; the reason names the outcome."""
    found = verdict(STARTED, own("returned", 20, settlement=SETTLEMENT, outcome="completed"))
    assert found.settlement == SETTLEMENT
    assert "completed" in found.reason


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_judge_takes_the_last_announced_end(order):
    """An end whose commit failed, followed by another: what was announced last counts."""
    lines = [own("returned", 10, settlement={"kind": "complete"}), own("returned", 11, settlement={"kind": "retry"})]
    assert verdict(*(lines[n] for n in order)).settlement == {"kind": "retry"}
    lines[1] = own("returned", 11)
    assert verdict(*(lines[n] for n in order)).finding is Finding.FINISHED


def test_judge_never_matches_an_empty_nonce():
    """A record without a nonce has no lines of its own."""
    blank = replace(HOLDER, nonce="", trace=None)
    assert verdict(own("returned", settlement=SETTLEMENT, holder=""), holder=blank).finding is Finding.UNKNOWN


def test_judge_without_a_trace_ignores_requests():
    """Entries without a trace are not those of a holder without one."""
    assert verdict(request(500, trace=None), holder=replace(HOLDER, trace=None)).finding is Finding.UNKNOWN


@pytest.mark.parametrize(
    "junk", [None, "x", 1, [], {}, {"holder": "cafe01", "event": "returned", "token": float("inf")}]
)
def test_judge_survives_damaged_payloads(junk):
    """Whatever stands where the attempt's fields should be, it is nobody's line."""
    assert verdict(line(1, "stdout", payload={"oncetask": junk})).finding is Finding.UNKNOWN


def test_judge_survives_damaged_pids_and_urls():
    """A pid that is no number matches no worker; a URL that is none names no delivery."""
    lines = [own("started", pid=None), gunicorn("WORKER TIMEOUT (pid:42)")]
    assert verdict(*lines).finding is Finding.UNKNOWN
    assert verdict(STARTED, request(500, url="http://[::1?%zz&oncetask_sequence")).finding is Finding.DIED


def test_verdict_bounds_its_evidence():
    """At most five lines, each of one line and at most 300 characters; they show time, log and status."""
    long = [replace(request(500), text="a\nb " + "c" * 1000, insert_id=str(n)) for n in range(9)]
    evidence = verdict(STARTED, *long).evidence
    assert len(evidence) == MAX_EVIDENCE
    assert all(len(text) <= MAX_LINE and "\n" not in text for text in evidence)
    assert evidence[1].startswith("2026-03-01T11:59:59+00:00 requests HTTP 500 a b ccc")


def test_verdict_on_nothing_rests_on_nothing():
    """No evidence, but a reason."""
    found = verdict()
    assert (found.evidence, found.settlement) == ((), None)
    assert found.reason


def test_findings_are_the_words_of_the_rules():
    """The rules about leases compare with exactly these words."""
    assert [str(finding) for finding in Finding] == ["recorded", "finished", "died", "never-started", "unknown"]
