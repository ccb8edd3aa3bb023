"""
The log of one task: a budget beside that of recovery, answers that are used again, and exported files.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.json_format import MessageToDict

from gcp_emulator.logging.messages import LogEntry
from gcp_oncetask import forks
from gcp_oncetask.errors import ConfigError, UsageError
from gcp_oncetask.rules.evidence import Holder
from gcp_oncetask.services.cloud_logging import CloudRequestLog, line_of
from gcp_oncetask.services.task_log import TaskLog, exported_lines


@pytest.fixture
def requests(server, clock):
    return CloudRequestLog(project=lambda: "p", emulator=server.address, clock=clock, interval=0)


@pytest.fixture
def log(requests, clock):
    return TaskLog(requests, clock)


def put(server, number=0):
    entry = LogEntry(log_name="projects/p/logs/oncetask", trace="projects/p/traces/" + "a" * 32)
    entry.resource.type = "global"
    entry.timestamp.FromDatetime(datetime.now(UTC) - timedelta(milliseconds=number))
    entry.json_payload.update({"oncetask": {"event": "x", "document": "orders/1"}})
    entry.http_request.status = 409
    entry.http_request.latency.FromMicroseconds(123_456)
    server.write(entry)


WANTED = 'logName="projects/p/logs/oncetask"'


def asked(server):
    return server.counts["ListLogEntries"]


def test_an_answer_is_used_again_for_a_minute(server, log, clock):
    """By all who ask about the task; its age is told. Another task is asked about."""
    put(server)
    first = log.lines("a", lambda: WANTED)
    put(server)
    clock.seconds = 59.9
    again = log.lines("a", lambda: WANTED)
    assert (len(first), again == first, asked(server)) == (1, True, 1)
    assert again.age == pytest.approx(59.9, abs=0.1)
    assert len(log.lines("b", lambda: WANTED)) == 2
    clock.seconds = 60.0
    assert len(log.lines("a", lambda: WANTED)) == 2
    assert asked(server) == 3


def test_people_have_ten_calls_a_minute_and_recovery_its_own(server, log, requests, clock):
    """The eleventh answer says "later"; recovery still asks, and takes none of the ten."""
    holder = Holder("orders/1", 1, 1, "n", None, datetime.now(UTC))
    for number in range(10):
        assert log.lines(f"task {number}", lambda: WANTED).trouble is None
    refused = log.lines("task 10", lambda: WANTED)
    assert "10 calls were made within a minute. Ask again later." in str(refused.trouble)
    assert requests.lines([holder]) == []
    assert asked(server) == 11
    clock.seconds = 60.0
    for number in range(20):
        clock.seconds += 0.01
        requests.lines([Holder("orders/1", 1, 1, f"n{number}", None, datetime.now(UTC))])
    assert log.lines("task 11", lambda: WANTED).trouble is None


def test_threads_that_ask_about_one_task_share_a_call(server, log):
    """Sixteen at the same time."""
    put(server)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: log.lines("a", lambda: WANTED), range(16)))
    assert [len(each) for each in answers] == [1] * 16
    assert asked(server) == 1


def test_a_failure_is_an_answer_for_ten_seconds(server, log, clock):
    """A log that refuses is not asked by each who waits; afterwards it is."""
    put(server)
    server.limit_per_minute = 0
    for _ in range(3):
        assert "Quota exceeded" in str(log.lines("a", lambda: WANTED).trouble)
    assert asked(server) == 1
    server.limit_per_minute = None
    clock.seconds = 10.0
    assert log.lines("a", lambda: WANTED).trouble is None


def test_of_very_many_lines_the_newest_are_there(server, log, monkeypatch):
    """Three pages; that there are more is told."""
    monkeypatch.setattr("gcp_oncetask.services.cloud_logging._PAGE", 2)
    for number in range(7):
        put(server, number)
    found = log.lines("a", lambda: WANTED)
    assert (len(found), asked(server)) == (6, 3)
    assert "more lines than the 6 newest" in str(found.trouble)
    newest = max(entry.timestamp.ToDatetime(tzinfo=UTC) for entry in server.entries)
    assert max(line.at for line in found) == newest


def test_a_log_of_the_deployment_s_own_is_not_asked(clock):
    """It has no such method; the sentence says so."""
    assert "a log of its own" in str(TaskLog(object(), clock).lines("a", lambda: WANTED).trouble)


def test_what_hinders_the_question_is_told(log):
    """A project that is not known, and a path that is too long for a filter."""

    def unknown():
        raise ConfigError("GOOGLE_CLOUD_PROJECT is not set.")

    assert "was not asked: GOOGLE_CLOUD_PROJECT" in str(log.lines("a", unknown).trouble)
    assert "too long" in str(log.lines("b", lambda: "x" * 20_001).trouble)


def test_few_answers_are_kept(server, log, clock):
    """Of a hundred tasks, thirty."""
    for number in range(100):
        clock.seconds += 60
        log.lines(f"task {number}", lambda: WANTED)
    assert len(log._process.answers) == 30
    log.lines("task 99", lambda: WANTED)
    assert asked(server) == 100


def test_a_fork_begins_anew(server, log, monkeypatch):
    """Neither the budget nor a mutex of the parent is used."""
    log.lines("a", lambda: WANTED)
    log._process.mutex.acquire()
    monkeypatch.setattr(forks, "generation", forks.generation + 1)
    log.lines("a", lambda: WANTED)
    assert asked(server) == 2


@pytest.mark.parametrize("form", ["array", "lines", "indented", "arrays"])
def test_exported_entries_are_the_lines_of_the_service(server, form):
    """As an array, one per line, one after the other, several arrays; with a byte order mark."""
    for number in range(3):
        put(server, number)
    entries = [MessageToDict(entry) | {"protoPayload": {"@type": "x/y"}} for entry in server.entries]
    text = {
        "array": json.dumps(entries, indent=2),
        "lines": "".join(f"{json.dumps(entry)}\n" for entry in entries),
        "indented": "\n".join(json.dumps(entry, indent=2) for entry in entries),
        "arrays": json.dumps(entries[:1]) + json.dumps(entries[1:]),
    }[form]
    assert exported_lines(f"\ufeff{text}\n") == [line_of(entry) for entry in server.entries]
    assert exported_lines(" \n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n{", "no JSON from line 2 on"),
        ("insertId: x", "no JSON from line 1 on"),
        ("[1]", "Entry 1 of the file is no log entry"),
        ('[{}, {"timestamp": "soon"}]', "Entry 2 of the file is no log entry"),
        ('{"httpRequest": 3}', "Entry 1"),
        ("[" * 100_000, "no JSON from line 1 on"),
    ],
)
def test_a_file_of_another_form_is_refused(text, message):
    """The message names the place, and the export that is expected."""
    with pytest.raises(UsageError, match=message) as caught:
        exported_lines(text)
    assert "gcloud logging read --format=json" in str(caught.value)
