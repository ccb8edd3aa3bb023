"""
The evidence trail: written past all set-up of logging, line by line, and never in the way of an attempt.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from gcp_oncetask.clock import SystemClock
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.observe.trail import Trail
from tests.support.log_lines import CONTEXT, NOW, TRACE, strictly
from tests.support.patience import patient


class FixedClock(SystemClock):
    """
    A clock that stands still.
    """

    def now(self) -> datetime:
        return NOW


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


def test_start_line_has_the_server_s_time_of_the_grant():
    """
    The clock of the process can be compared with it; other lines have no such time.
    """
    stream = Counting()
    granted = datetime(2026, 3, 1, 11, 59, 20, tzinfo=UTC)
    trail(stream).write("started", CONTEXT, "started", granted_at=granted)
    trail(stream).write("settled", CONTEXT, "settled")

    started, settled = (strictly(text)["oncetask"] for text in stream.calls if text != "flush")
    assert started["grantedAt"] == "2026-03-01T11:59:20.000000Z"
    assert "grantedAt" not in settled


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
