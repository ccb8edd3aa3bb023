"""
Lines in Cloud Logging's form: what they say, and that they never fail.
"""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from gcp_oncetask.logs import CloudFormatter, ContextFilter
from gcp_oncetask.observe.log_context import LogContext, current, log_decision
from tests.support.log_lines import CONTEXT, NOW, TRACE, one, strictly


class Unspeakable:
    """
    A value that can't be put into words.
    """

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


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


# --- ContextFilter ----------------------------------------------------------------------------------------------------


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
