"""
The tables of metrics and spans are what the library gives to OpenTelemetry, by ``instruments.py`` and ``telemetry.py``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, Sum
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gcp_oncetask import Config, Continue, FixedDelay, Locker, NotDone, RunFailedError
from gcp_oncetask.flask import blueprint
from gcp_oncetask.observe import instruments, telemetry
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.testing import OncetaskCloud
from tests.support.readme import ROOT

PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
SOURCE = "".join(
    (ROOT / "gcp_oncetask" / "observe" / f"{each}.py").read_text() for each in ("instruments", "telemetry")
)
ANY = r"\b(?:oncetask|messaging|error)(?:\.\w+)+"


def table(head: str) -> list[list[str]]:
    """
    The cells of the table below the line *head*, without backquotes.
    """
    _, _, below = PAGE.partition(f"{head}\n")
    rows = below.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").replace("`", "").split("|")] for row in rows]


METRICS = {row[0]: row[1:] for row in table("| metric | kind | unit | counted or measured | attributes |")}
ATTRIBUTES = {row[0]: row[1:] for row in table("| attribute | producer | consumer | value |")}
SPANS = {row[0].split()[0]: row[1] for row in table("| span | kind | made by |")}


class Parcel(TaskData, kind="parcel"):
    number: int

    def task_id(self) -> str:
        return str(self.number)


class Letter(Parcel, kind="letter"):
    """
    Another kind with the same destination.
    """


class Given:
    """
    All metrics and spans of a short life of a deployment.
    """

    def __init__(self, cloud: OncetaskCloud, spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        live(cloud)
        data = reader.get_metrics_data()
        assert data is not None
        self.spans: tuple[ReadableSpan, ...] = spans.get_finished_spans()
        self.metrics: list[Metric] = [
            metric for each in data.resource_metrics[0].scope_metrics for metric in each.metrics
        ]

    def attributes(self, kind: SpanKind) -> set[str]:
        return {name for span in self.spans if span.kind is kind for name in span.attributes or {}}


@pytest.fixture
def given(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Given]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    # As set_tracer_provider() and set_meter_provider() do once in a process; here until the test ends.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracers)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", meters)
    monkeypatch.setattr(instruments, "_complained", False)
    yield Given(oncetask_cloud, exporter, reader)
    assert not instruments._complained
    meters.shutdown()


def tear() -> None:
    raise NotDone("torn")


def seal() -> None:
    """
    The stamp of the second step: its first attempt ends there, and the next one verifies it.
    """
    raise ConnectionError("is the seal on?")


def live(cloud: OncetaskCloud) -> None:
    """
    Run a step, its next one and its duplicate, an error, many tasks, and a takeover that its holder learns of.
    """
    manager = TaskManager(Locker(config=Config(base_url="https://parcels.test")))
    app = Flask("parcels")
    app.register_blueprint(blueprint(manager))
    cloud.use(manager.locker)
    cloud.mount("https://parcels.test", app)

    def run(task: OnceTask[Parcel], attempt: Any) -> Any:
        if task.data.number == 2 and attempt.number == 1:
            raise ValueError("no such parcel")
        if task.data.number == 3 and (attempt.step, attempt.number) == (1, 1):
            # Its lease ends, and it does not see that: the sweep takes over, and another delivery runs.
            manager.locker._executor.renewals.remove(attempt._running)
            cloud.advance(minutes=13)
            cloud.sweep()
            cloud.local.tasks.run_due()
            return Continue()
        return None

    def write(task: OnceTask[Letter], attempt: Any) -> Any:
        surely = attempt.options(once=True, verify=lambda key: "found", retry=FixedDelay(delay=1, max_attempts=1))
        if attempt.step == 2:
            surely.run("stamp", seal)
            return None
        with suppress(RunFailedError):
            surely.run("stamp", tear)
        return Continue()

    manager.register_task_handler(Parcel, run)
    manager.register_task_handler(Letter, write)
    manager.create_task(Parcel(number=1))
    cloud.run_until_idle()
    cloud.duplicate_last()
    manager.create_tasks([Parcel(number=2), Parcel(number=4)])
    cloud.advance(minutes=5)
    manager.create_task(Letter(number=1))
    manager.create_task(Parcel(number=3))
    cloud.advance(minutes=20)
    assert app.test_client().post("/oncetask/deliver").status_code == 401


def test_metrics_are_those_of_the_table(given: Given) -> None:
    """
    Each with its kind, its unit, and the attributes of all its points.
    """
    found = {
        metric.name: [
            "counter" if isinstance(metric.data, Sum) else "histogram",
            metric.unit,
            {name for point in metric.data.data_points for name in point.attributes or {}},
        ]
        for metric in given.metrics
    }

    assert found == {
        name: [kind, unit, set(re.findall(ANY, named))] for name, (kind, unit, _, named) in METRICS.items()
    }


def test_values_of_attributes_are_those_of_the_table(given: Given) -> None:
    """
    The table tells all verdicts, and no outcome that does not exist.
    """
    rows = {row[0]: row[1] for row in table("| attribute | values in metrics |")}
    seen: dict[str, set[Any]] = defaultdict(set)
    for metric in given.metrics:
        for point in metric.data.data_points:
            for name, value in (point.attributes or {}).items():
                seen[name].add(value)

    assert set(rows) == set(seen)
    assert set(re.split(r", | or ", rows["oncetask.verdict"])) == set(Finding)
    assert seen["oncetask.outcome"] <= {*Outcome, "granted"}
    for name in ("oncetask.operation", "oncetask.state"):
        assert set(re.findall(r"(?:^|; )(\w+)", rows[name])) == seen[name]
    assert seen["messaging.system"] == {rows["messaging.system"]}


def test_spans_are_those_of_the_table(given: Given) -> None:
    """
    Each operation with its kind; each attribute of the two kinds.
    """
    kinds = {span.name.split()[0]: span.kind.name.lower() for span in given.spans}

    assert kinds == SPANS
    for place, kind in enumerate((SpanKind.PRODUCER, SpanKind.CONSUMER)):
        assert given.attributes(kind) == {name for name, row in ATTRIBUTES.items() if row[place] == "yes"}, kind
    of_runs = {name for row in table("| attribute of `run` and `verify` | value |") for name in row[0].split(", ")}
    assert given.attributes(SpanKind.INTERNAL) == of_runs


def test_exceptions_of_create_tasks_are_true(given: Given) -> None:
    """
    A span for many tasks has the attributes that are not "not for create_tasks".
    """
    [many] = [span for span in given.spans if span.name.startswith("create_tasks")]
    [one, *_] = [span for span in given.spans if span.name.startswith("create_task ")]
    without = {name for name, row in ATTRIBUTES.items() if "not for create_tasks" in row[2]}
    only = {name for name, row in ATTRIBUTES.items() if "only for create_tasks" in row[2]}

    assert set(one.attributes or {}) - set(many.attributes or {}) == without
    assert set(many.attributes or {}) - set(one.attributes or {}) == only


def test_outcomes_that_are_no_failures_are_told() -> None:
    [told] = re.findall(r"^\*\*Status\.\*\*.*?The outcomes (.*?)\s+are\s+no\s+failures", PAGE, re.MULTILINE | re.DOTALL)

    assert set(re.findall(r"`([\w-]+)`", told)) == telemetry._NOT_FAILED


def test_links_and_failures_are_as_told(given: Given) -> None:
    """
    Each attempt has one link; the one that failed and the one that came too late are errors.
    """
    ran = [span for span in given.spans if span.kind is SpanKind.CONSUMER]
    failed = [span for span in ran if span.status.status_code is StatusCode.ERROR]

    assert {len(span.links) for span in ran} == {1}
    assert {str((span.attributes or {})["oncetask.outcome"]) for span in failed} == {"retrying", "lost"}


def test_page_names_all_that_the_code_names() -> None:
    """
    And nothing else: an attribute that the short life has not shown is found by its name.
    """
    named = set(re.findall(rf'"({ANY})"', SOURCE))

    assert len(named) >= 15
    assert {name for name in re.findall(ANY, PAGE) if not name.startswith("error.") or name == "error.type"} == named
