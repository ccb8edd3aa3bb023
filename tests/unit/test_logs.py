"""
Lines in Cloud Logging's form: what they say, that they never fail, and the trail that is written past all set-up.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest

from gcp_oncetask.clock import Mark, SystemClock
from gcp_oncetask.logs import CloudFormatter, ContextFilter
from gcp_oncetask.observe.log_context import LogContext, current, log_decision, trace_of
from gcp_oncetask.observe.trail import Trail
from tests.support.patience import patient

TRACE = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
CONTEXT = LogContext("onceTasks/ä", 3, 0, 2**60, "cafe01", "PROD", TRACE)
NOW = datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC)


class FixedClock(SystemClock):
    """
    A clock that stands still.
    """

    def mark(self) -> Mark:
        return Mark(0.0, 0.0, NOW.timestamp())


class Unspeakable:
    """
    A value that can't be put into words.
    """

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.fixture
def logger(request):
    """
    A logger of the test's own.
    """
    made = logging.getLogger(f"test_logs.{request.node.name}")
    made.propagate = False
    made.setLevel(1)
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)


@pytest.fixture
def lines(logger):
    """
    Answers the lines that the logger has written through a CloudFormatter, decoded strictly.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(CloudFormatter("p"))
    logger.addHandler(handler)
    return lambda: [strictly(text) for text in stream.getvalue().splitlines()]


@pytest.fixture
def attempt():
    """
    Makes CONTEXT the current attempt.
    """
    token = current.set(CONTEXT)
    yield CONTEXT
    current.reset(token)


def strictly(text: str) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    value: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return value


def one(lines) -> dict[str, Any]:
    [line] = lines()
    found: dict[str, Any] = line
    return found


# --- CloudFormatter ---------------------------------------------------------------------------------------------------


def test_formatter_fills_special_fields(logger, lines, attempt):
    """
    Severity, message, time, trace and source location stand in the fields that Cloud Logging takes out; extras beside.
    """
    logger.warning("paid %s\nin full", 42, extra={"order": "o1"})

    line = one(lines)
    assert (line["severity"], line["message"], line["order"]) == ("WARNING", "paid 42\nin full", "o1")
    assert line["logging.googleapis.com/trace"] == f"projects/p/traces/{TRACE}"
    place = line["logging.googleapis.com/sourceLocation"]
    assert (place["file"], place["function"]) == (__file__, "test_formatter_fills_special_fields")
    assert line["logger"] == logger.name


def test_formatter_time_is_the_record_s():
    """
    The time is when the record was made, not when it was formatted.
    """
    record = logging.LogRecord("a", logging.INFO, "f", 1, "m", (), None)
    record.created = NOW.timestamp()

    assert json.loads(CloudFormatter().format(record))["time"] == "2026-03-01T12:00:00.000007Z"


def test_formatter_names_the_attempt_in_texts(logger, lines, attempt):
    """
    The attempt's ids and counters are texts: Cloud Logging would make floats of numbers, and 2**60 would not survive.
    """
    logger.info("x")

    assert one(lines)["oncetask"] == {
        "document": "onceTasks/ä",
        "sequence": "3",
        "attempt": "0",
        "token": str(2**60),
        "holder": "cafe01",
        "env": "PROD",
    }


def test_formatter_outside_an_attempt_adds_nothing(logger, lines):
    """
    Outside an attempt there is neither task nor trace.
    """
    logger.info("x")

    assert {"oncetask", "logging.googleapis.com/trace"}.isdisjoint(one(lines))


@pytest.mark.parametrize("project", [None, "", lambda: None, lambda: 1 / 0])
def test_formatter_without_project_leaves_the_trace_out(logger, attempt, project):
    """
    Where the project is not known, or asking fails, the line is written without its trace.
    """
    record = logger.makeRecord("a", logging.INFO, "f", 1, "m", (), None)
    line = json.loads(CloudFormatter(project).format(record))

    assert line["message"] == "m"
    assert "logging.googleapis.com/trace" not in line


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        (1, "DEBUG"),
        (10, "DEBUG"),
        (20, "INFO"),
        (25, "INFO"),
        (30, "WARNING"),
        (40, "ERROR"),
        (50, "CRITICAL"),
        (99, "CRITICAL"),
    ],
)
def test_formatter_severity_is_one_that_cloud_logging_knows(logger, lines, level, severity):
    """
    A level of somebody's own counts as the next known one below.
    """
    logger.log(level, "x")

    assert one(lines)["severity"] == severity


def test_formatter_puts_the_traceback_into_the_message(logger, lines):
    """
    An exception's traceback follows the message, where Error Reporting looks, on the same line of output.
    """
    try:
        raise KeyError("gone")
    except KeyError:
        logger.exception("failed", stack_info=True)

    message = one(lines)["message"]
    assert message.startswith("failed\nTraceback (most recent call last):")
    assert "KeyError: 'gone'" in message
    assert "Stack (most recent call last)" in message


def test_formatter_keeps_a_traceback_that_was_already_text(lines, logger):
    """
    A record that lost its exception on the way through a queue still shows the traceback that was kept as text.
    """
    record = logger.makeRecord("a", logging.ERROR, "f", 1, "m", (), None)
    record.exc_text = "Traceback: kept"

    assert json.loads(CloudFormatter().format(record))["message"] == "m\nTraceback: kept"


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def ring() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["made"] = made
    return made


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"\xff",
        {1, 2},
        NOW,
        Unspeakable(),
        {("a", 1): 2},
        {Unspeakable(): Unspeakable()},
        float("nan"),
        float("inf"),
        [float("-inf"), {"x": float("nan")}],
        circle(),
        ring(),
        "\ud800",
        ValueError("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_formatter_survives_every_value(logger, lines, value):
    """
    Whatever an extra holds, one line of strict JSON comes out and the rest of it is whole.
    """
    logger.info("m", extra={"value": value, "good": [1, 2.5, None, True]})

    line = one(lines)
    assert (line["message"], line["good"]) == ("m", [1, 2.5, None, True])
    assert "value" in line


def test_formatter_extra_can_not_forge_special_fields(logger, lines, attempt):
    """
    Extras called like special fields do not replace them, and an odd ``oncetask`` is kept beside the attempt.
    """
    logger.info("m", extra={"severity": "DEBUG", "time": "never", "logger": "x", "oncetask": "odd"})

    line = one(lines)
    assert (line["severity"], line["logger"]) == ("INFO", logger.name)
    assert line["time"] != "never"
    assert (line["oncetask"]["given"], line["oncetask"]["holder"]) == ("odd", "cafe01")


FORGED = {"event": "returned", "document": "onceTasks/b", "sequence": "9", "token": "8", "holder": "beef", "pid": "1"}


@pytest.mark.parametrize("name", ["app", "gcp_oncetask"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    "given", [FORGED, {"event": "returned", "settlement": "{}"}, {**FORGED, "given": 1}, "odd", [1], 0]
)
def test_formatter_extra_can_not_forge_a_line_of_the_trail(given, inside, name):
    """
    Data of a program's stays beside the fields of the attempt, under a name of its own: it is no event, and names no holder.
    """
    record = logging.getLogger(name).makeRecord(name, logging.INFO, "f", 1, "m", (), None, extra={"oncetask": given})
    token = current.set(CONTEXT if inside else None)
    try:
        line = strictly(CloudFormatter("p").format(record))
    finally:
        current.reset(token)

    assert line["oncetask"] == {**(CONTEXT.fields if inside else {}), "given": given}


def test_formatter_believes_what_the_library_says_of_another_document(logger, lines, attempt):
    """
    Within an attempt the library decides about others as well, and names them.
    """
    log_decision(logger, logging.INFO, "task.kept", LogContext("onceTasks/b", 1, 1, 1, "beef", "PROD"), "kept")

    own = one(lines)["oncetask"]
    assert (own["event"], own["document"], own["holder"]) == ("task.kept", "onceTasks/b", "beef")


# --- ContextFilter, contexts ------------------------------------------------------------------------------------------


def test_filter_serves_a_format_of_ones_own(logger, attempt):
    """
    Every field of the attempt is there for a %-format; a 0 is a 0.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ContextFilter())
    names = ("document", "sequence", "attempt", "token", "holder", "env", "trace")
    handler.setFormatter(logging.Formatter("|".join(f"%(oncetask_{name})s" for name in names)))
    logger.addHandler(handler)
    logger.info("x")
    current.set(None)
    logger.info("x")

    assert stream.getvalue().splitlines() == [f"onceTasks/ä|3|0|{2**60}|cafe01|PROD|{TRACE}", "||||||"]


def test_context_stays_in_its_context(attempt):
    """
    A thread of the handler's own sees the attempt only where the context was copied into it.
    """
    seen: list[LogContext | None] = []
    copied = copy_context()
    for target in (lambda: seen.append(current.get()), lambda: copied.run(lambda: seen.append(current.get()))):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    assert seen[1] is CONTEXT
    assert seen[0] is (CONTEXT if getattr(sys.flags, "thread_inherit_context", 0) else None)


# --- trace_of ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({}, None),
        ({"X-Cloud-Trace-Context": f"{TRACE}/123;o=1"}, TRACE),
        ({"X-Cloud-Trace-Context": TRACE.upper()}, TRACE),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"X-Cloud-Trace-Context": f"{TRACE}/1", "traceparent": f"00-{OTHER}-00f067aa0ba902b7-01"}, TRACE),
        ({"X-Cloud-Trace-Context": "rubbish", "traceparent": f"00-{OTHER}-00f067aa0ba902b7-01"}, OTHER),
        ({"X-Cloud-Trace-Context": f"{'0' * 32}/1"}, None),
        ({"X-Cloud-Trace-Context": f'{TRACE}" OR "'}, None),
        ({"X-Cloud-Trace-Context": f"{TRACE}\n"}, TRACE),
        ({"X-Cloud-Trace-Context": TRACE + "0"}, None),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, None),
        ({"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"}, None),
        ({"traceparent": f"00-{TRACE}"}, None),
        ({"traceparent": "é-è"}, None),
    ],
)
def test_trace_is_taken_from_the_platform_s_header_first(headers, trace):
    """
    X-Cloud-Trace-Context, by which Cloud Run's request log goes, comes before traceparent; only 32 hexadecimal digits pass.
    """
    assert trace_of(headers.get) == trace


# --- Trail ------------------------------------------------------------------------------------------------------------


class Counting(io.StringIO):
    """
    A stream that keeps each write and flush.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def write(self, text: str, /) -> int:
        self.calls.append(text)
        return len(text)

    def flush(self) -> None:
        self.calls.append("flush")


def trail(stream, project: str | None = "p") -> Trail:
    return Trail(lambda: project, stream, FixedClock())


def test_trail_line_is_one_write_and_flushed():
    """
    A line is written whole with its line break in one call and flushed: a kill right after it loses nothing.
    """
    stream = Counting()
    trail(stream).write("returned", CONTEXT, "done", outcome="complete", settlement='{"a": 1}')

    [text, flush] = stream.calls
    assert (flush, text[-1], text.count("\n")) == ("flush", "\n", 1)
    line = strictly(text)
    assert line == {
        "severity": "INFO",
        "time": "2026-03-01T12:00:00.000007Z",
        "message": "onceTasks/ä: done",
        "logging.googleapis.com/trace": f"projects/p/traces/{TRACE}",
        "oncetask": {
            "event": "returned",
            **CONTEXT.fields,
            "pid": str(os.getpid()),
            "parent": str(os.getppid()),
            "outcome": "complete",
            "settlement": '{"a": 1}',
        },
    }
    said = Trail.payload("returned", CONTEXT, "done", "complete", '{"a": 1}')
    assert said == {"message": line["message"], "oncetask": line["oncetask"]}


def test_trail_without_project_has_no_trace():
    """
    A project that is not known costs the trace, not the line.
    """
    stream = Counting()
    trail(stream, None).write("started", CONTEXT, "x")

    line = strictly(stream.calls[0])
    assert "logging.googleapis.com/trace" not in line


def test_trail_ignores_the_logging_set_up(capsys):
    """
    The trail goes to standard output as it is at that moment, even where logging is off altogether.
    """
    made = Trail(lambda: "p", None, FixedClock())
    logging.disable(logging.CRITICAL)
    try:
        made.write("started", CONTEXT, "x")
    finally:
        logging.disable(logging.NOTSET)

    assert strictly(capsys.readouterr().out)["oncetask"]["event"] == "started"


def test_trail_pid_is_the_child_s_after_a_fork():
    """
    A line written by a forked worker names the worker, by which its crash lines are told apart.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w") as stream:
            trail(stream).write("started", CONTEXT, "x")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        line = strictly(stream.read())
    os.waitpid(child, 0)

    assert line["oncetask"]["pid"] == str(child)


def test_trail_lines_of_threads_do_not_mix():
    """
    Eight threads write long lines into one real pipe at once; each comes out whole.
    """
    reading, writing = os.pipe()
    found: list[str] = []
    with os.fdopen(reading) as source, ThreadPoolExecutor(9) as pool:
        reader = pool.submit(lambda: found.extend(source))
        with os.fdopen(writing, "w") as stream:
            made = trail(stream)

            def write(number: int) -> None:
                for step in range(25):
                    made.write("returned", CONTEXT, "x", outcome=f"{number}-{step}", settlement=str(number) * 10_000)

            list(pool.map(write, range(8)))
        reader.result(patient(30))

    numbers = [strictly(text)["oncetask"]["outcome"] for text in found]
    assert sorted(numbers) == sorted(f"{number}-{step}" for number in range(8) for step in range(25))


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def broken() -> Any:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb", buffering=0)


class Raw:
    """
    A text stream on an unbuffered pipe that nobody reads.
    """

    def __init__(self) -> None:
        self.pipe = broken()

    def write(self, text: str) -> None:
        self.pipe.write(text.encode())

    def flush(self) -> None:
        self.pipe.flush()


def test_trail_to_a_broken_stream_complains_once(caplog):
    """
    A closed file, a pipe that nobody reads: the attempt goes on, and one warning tells.
    """
    raw = Raw()
    for stream in (closed(), raw):
        caplog.clear()
        made = trail(stream)
        for _ in range(3):
            made.write("started", CONTEXT, "x")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
    raw.pipe.close()


def test_trail_without_standard_output_goes_on(monkeypatch, caplog):
    """
    A process that has no standard output at all runs its attempts nevertheless.
    """
    monkeypatch.setattr(sys, "stdout", None)
    Trail(lambda: "p", None, FixedClock()).write("started", CONTEXT, "x")

    assert "Keep standard output open" in caplog.text


def test_trail_quotes_what_it_writes():
    """
    Quotes, line breaks and half characters in a name or a settlement do not cost the line.
    """
    stream = Counting()
    odd = 'a "quoted"\n\ud800 \x00 text\\'
    trail(stream).write("returned", LogContext(odd, 1, 1, 1, "beef", odd), "x", settlement=odd)

    line = strictly(stream.calls[0])
    assert (line["oncetask"]["settlement"], line["oncetask"]["document"], line["oncetask"]["env"]) == (odd, odd, odd)
    assert line["message"] == f"{odd}: x"


def test_context_members_are_its_fields():
    """
    What the trail encodes once is what other log lines say of the attempt.
    """
    for context in (CONTEXT, LogContext('o/"', 1, 2, 3, "ä", "E", None, "id", "kind", "key")):
        assert json.loads(f"{{{context.members}}}") == context.fields


# --- log_decision -----------------------------------------------------------------------------------------------------


def test_decision_is_logged_with_event_and_facts(logger, lines):
    """
    A decision carries its event, attempt and facts; numbers become texts, truth values and None stay; % is no format.
    """

    def decided() -> None:
        log_decision(logger, logging.INFO, "rules.granted", CONTEXT, "100% %s", until=7, fast=True, why=None)

    decided()

    line = one(lines)
    assert line["message"] == "100% %s"
    assert line["oncetask"] == {"event": "rules.granted", **CONTEXT.fields, "until": "7", "fast": True, "why": None}


def test_decision_about_another_task_keeps_its_own_name(logger, lines, attempt):
    """
    A decision about a task is about that task, also when it is logged within another one's attempt.
    """
    log_decision(logger, logging.INFO, "rules.refused", LogContext("locks/b", 1, 1, 1, "beef", "PROD"), "x")

    assert one(lines)["oncetask"]["document"] == "locks/b"
