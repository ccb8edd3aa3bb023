"""
The attempt that log lines are about: its fields, its trace, and decisions that carry them.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextvars import copy_context

import pytest

from gcp_oncetask.observe.log_context import LogContext, current, log_decision, trace_of
from tests.support.log_lines import CONTEXT, TRACE, one

OTHER = "f" * 32


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


def test_context_members_are_its_fields():
    """
    What the trail encodes once is what other log lines say of the attempt.
    """
    for context in (CONTEXT, LogContext('o/"', 1, 2, 3, "ä", "E", None, "id", "kind", "key")):
        assert json.loads(f"{{{context.members}}}") == context.fields


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
