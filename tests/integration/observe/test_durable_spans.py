"""
Spans of the functions that durable handlers call, as the SDK's exporters in memory get them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from gcp_oncetask import FixedDelay
from gcp_oncetask.observe import instruments
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.integration.observe import test_telemetry
from tests.integration.observe.test_telemetry import Mailed, Seen, serve

seen = test_telemetry.seen
"""The fixture: exporters in memory."""


def play(cloud: OncetaskCloud, act: Any) -> None:
    manager = serve(cloud)
    manager.register_task_handler(Mailed, lambda task, attempt: act(attempt), retry=FixedDelay(delay=1))
    manager.create_task(Mailed(number=1))
    cloud.advance(hours=1)


def runs(seen: Seen) -> list[ReadableSpan]:
    return seen.spans(SpanKind.INTERNAL)


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def test_each_call_is_a_child_of_its_attempt_and_an_answer_makes_none(
    oncetask_cloud: OncetaskCloud, seen: Seen
) -> None:
    def act(attempt: Any) -> None:
        attempt.run("charge", lambda: trace.get_current_span().set_attribute("mine", 1))
        attempt.sleep("s", 600)
        attempt.run("mail", int)

    play(oncetask_cloud, act)
    [charge, mail] = runs(seen)
    [first, second] = seen.consumers()
    assert [span.name for span in (charge, mail)] == ["run charge", "run mail"]
    assert [parent(charge), parent(mail)] == [first.context.span_id, second.context.span_id]
    attributes = dict(charge.attributes or {})
    assert attributes.pop("oncetask.document").endswith(":mailed:1")
    assert attributes == {
        "mine": 1,
        "oncetask.kind": "mailed",
        "oncetask.sequence": 1,
        "oncetask.attempt": 1,
        "oncetask.operation": "run",
        "oncetask.run": "charge",
        "oncetask.state": "done",
    }
    assert seen.counts("oncetask.runs", "oncetask.operation", "oncetask.state") == {("run", "done"): 2}
    assert seen.counts("oncetask.deliveries", "oncetask.outcome") == {"suspended": 1, "completed": 1}


def test_call_that_raises_is_an_error_and_quotes_no_value(oncetask_cloud: OncetaskCloud, seen: Seen) -> None:
    failing = [ValueError("4242 4242 is refused")]

    def pay() -> str:
        if failing:
            raise failing.pop()
        return "paid"

    play(oncetask_cloud, lambda attempt: attempt.run("charge", pay))
    [failed, done] = runs(seen)
    assert (failed.status.status_code, done.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    states = [(span.attributes or {})["oncetask.state"] for span in (failed, done)]
    assert (states, (failed.attributes or {})["error.type"]) == (["failed", "done"], "ValueError")
    assert seen.counts("oncetask.runs", "oncetask.state") == {"failed": 1, "done": 1}


def test_run_in_a_thread_without_a_context_belongs_to_the_attempt(oncetask_cloud: OncetaskCloud, seen: Seen) -> None:
    def act(attempt: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(attempt.run, "charge", int).result()

    play(oncetask_cloud, act)
    [charge], [attempt] = runs(seen), seen.consumers()
    assert parent(charge) == attempt.context.span_id


def test_run_within_a_span_of_the_user_is_its_child(oncetask_cloud: OncetaskCloud, seen: Seen) -> None:
    def act(attempt: Any) -> None:
        with trace.get_tracer("mine").start_as_current_span("mine"):
            attempt.run("charge", int)

    play(oncetask_cloud, act)
    spans = {span.name: span for span in runs(seen)}
    assert parent(spans["run charge"]) == spans["mine"].context.span_id


def test_broken_telemetry_changes_no_answer(
    oncetask_cloud: OncetaskCloud, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise ValueError

        def on_end(self, span: Any) -> None:
            raise ValueError

    seen.provider.add_span_processor(Broken())
    found: list[Any] = []
    play(oncetask_cloud, lambda attempt: found.append(attempt.run("charge", lambda: 7)))
    assert found == [7]
    monkeypatch.setattr(instruments, "_complained", False)


def test_verification_has_a_span_of_its_own(oncetask_cloud: OncetaskCloud, seen: Seen) -> None:
    failing = [ConnectionError("gone")]

    def pay() -> str:
        raise failing.pop()

    play(oncetask_cloud, lambda attempt: attempt.options(once=True, verify=lambda key: "found").run("charge", pay))
    assert [span.name for span in runs(seen)] == ["run charge", "verify charge"]
