"""
OpenTelemetry, seen by the SDK's exporters in memory: producer and consumer spans, their links and attributes, the metrics.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from google.cloud.firestore import transactional
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import error_attributes, messaging_attributes
from opentelemetry.trace import SpanKind, StatusCode

from gcp_oncetask import (
    AlreadyScheduledError,
    Config,
    Continue,
    ExponentialBackoff,
    Fail,
    LeaseLostError,
    Locker,
    Retry,
)
from gcp_oncetask.observe import instruments
from gcp_oncetask.rules.decisions import Settlement, SettlementKind
from gcp_oncetask.tasks import PerTask, TaskData, TaskManager, every
from gcp_oncetask.worker import Worker
from tests.support.orders import Killed, Order
from tests.support.quoting import CANARY, misfit
from tests.support.tasks import serve

ROOT = Path(__file__).parents[3]


class Mailed(TaskData, kind="mailed"):
    number: int

    def task_id(self) -> str:
        return str(self.number)


class Pulled(TaskData, kind="pulled", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


class Hourly(TaskData, kind="hourly"):
    name: str

    def task_id(self) -> str:
        return self.name

    def recurrence(self):
        return every(timedelta(hours=1))


class Newest(TaskData, kind="newest", on_conflict="replace"):
    name: str
    value: int = 0

    def task_id(self) -> str:
        return self.name


@dataclass
class Seen:
    """
    What the exporters have got.
    """

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    provider: TracerProvider

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    def producers(self) -> list[ReadableSpan]:
        return self.spans(SpanKind.PRODUCER)

    def consumers(self) -> list[ReadableSpan]:
        return self.spans(SpanKind.CONSUMER)

    def points(self, name: str) -> list:
        data = self.reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics[0].scope_metrics
        return [
            point
            for scope in found
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def counts(self, name: str, *attributes: str) -> dict:
        found: Counter = Counter()
        for point in self.points(name):
            key = tuple(point.attributes[attribute] for attribute in attributes)
            found[key[0] if len(key) == 1 else key] += point.value
        return dict(found)


def provide(monkeypatch: pytest.MonkeyPatch, provider: object) -> None:
    # What set_tracer_provider() sets, once in a process; here until the test ends.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    provide(monkeypatch, provider)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", meters)
    monkeypatch.setattr(instruments, "_complained", False)
    yield Seen(exporter, reader, provider)
    assert not instruments._complained
    meters.shutdown()


def path_of(manager: TaskManager, data: TaskData) -> str:
    return manager._name_of(type(data), data.task_id()).path


def origins(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def id_of(span: ReadableSpan) -> int:
    return span.context.span_id


def outcomes(spans: list[ReadableSpan]) -> list[object]:
    return [span.attributes["oncetask.outcome"] for span in spans]


# --- spans ------------------------------------------------------------------------------------------------------------


def test_push_task_has_a_producer_span_and_a_linked_consumer_span(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Mailed, lambda task, attempt: "sent")
    manager.create_task(Mailed(number=1))
    oncetask_cloud.run_until_idle()

    [made], [ran] = seen.producers(), seen.consumers()
    [delivery] = oncetask_cloud.deliveries
    document = path_of(manager, Mailed(number=1))
    common = {
        "messaging.system": "gcp_oncetask",
        "messaging.destination.name": "default",
        "messaging.message.id": delivery.task.rpartition("/")[2],
        "oncetask.document": document,
        "oncetask.kind": "mailed",
        "oncetask.sequence": 1,
    }
    assert (made.name, ran.name) == ("create_task default", "process default")
    assert dict(made.attributes) == {
        **common,
        "messaging.operation.name": "create_task",
        "messaging.operation.type": "send",
    }
    assert dict(ran.attributes) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "oncetask.attempt": 1,
        "oncetask.token": 1,
        "oncetask.outcome": "completed",
    }
    assert origins(ran) == [id_of(made)]
    assert ran.parent is None
    assert ran.context.trace_id != made.context.trace_id
    assert ran.links[0].context.trace_id == made.context.trace_id
    assert {made.status.status_code, ran.status.status_code} == {StatusCode.UNSET}


def test_attributes_are_those_of_the_conventions(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Mailed, lambda task, attempt: 1 / 0)
    manager.create_task(Mailed(number=1))
    manager.create_tasks([Mailed(number=2), Mailed(number=3)])
    oncetask_cloud.run_until_idle()
    known = {value for name, value in vars(messaging_attributes).items() if name.startswith("MESSAGING_")}
    known |= {error_attributes.ERROR_TYPE}
    used = {name for span in seen.exporter.get_finished_spans() for name in span.attributes}
    assert len(used) > 10
    assert {name for name in used if not name.startswith("oncetask.")} <= known
    types = {item.value for item in messaging_attributes.MessagingOperationTypeValues}
    assert {span.attributes["messaging.operation.type"] for span in seen.exporter.get_finished_spans()} <= types


def test_pull_task_carries_the_context_in_its_record(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Pulled, lambda task, attempt: None)
    oncetask_cloud.work(Worker(manager))
    manager.create_task(Pulled(number=1))
    stored = manager.locker.show(path_of(manager, Pulled(number=1))).traceparent
    oncetask_cloud.run_until_idle()

    [made], [ran] = seen.producers(), seen.consumers()
    assert stored == f"00-{made.context.trace_id:032x}-{made.context.span_id:016x}-{made.context.trace_flags:02x}"
    assert origins(ran) == [id_of(made)]
    assert ran.parent is None
    assert (made.name, ran.name) == ("create_task pulled", "process pulled")
    assert ran.attributes["messaging.message.id"] == made.attributes["messaging.message.id"]
    assert seen.counts("oncetask.deliveries", "messaging.destination.name", "oncetask.outcome") == {
        ("pulled", "completed"): 1
    }


def test_each_step_of_a_chain_links_to_the_schedule_that_made_it(oncetask_cloud, shop, seen):
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    first, second = seen.producers()
    charged, paid = seen.consumers()
    assert [span.name for span in (first, second)] == ["schedule default"] * 2
    assert [origins(charged), origins(paid)] == [[id_of(first)], [id_of(second)]]
    assert first.parent is None
    assert second.parent.span_id == id_of(charged)
    assert [span.attributes["oncetask.sequence"] for span in (first, second, charged, paid)] == [1, 2, 1, 2]
    assert [span.attributes["oncetask.token"] for span in (charged, paid)] == [1, 2]
    assert outcomes([charged, paid]) == ["continued", "completed"]
    assert [span.attributes["messaging.message.id"] for span in (first, second)] == [
        delivery.task.rpartition("/")[2] for delivery in oncetask_cloud.deliveries
    ]


@pytest.mark.parametrize("model", [Mailed, Pulled])
def test_continue_is_a_schedule_of_the_attempt(oncetask_cloud, seen, model):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(model, lambda task, attempt: Continue() if attempt.step == 1 else None)
    if model is Pulled:
        oncetask_cloud.work(Worker(manager))
    manager.create_task(model(number=1))
    oncetask_cloud.run_until_idle()

    made, following = seen.producers()
    one, two = seen.consumers()
    assert following.attributes["messaging.operation.name"] == "schedule"
    assert following.attributes["oncetask.sequence"] == 2
    assert following.parent.span_id == id_of(one)
    assert [origins(one), origins(two)] == [[id_of(made)], [id_of(following)]]


def test_schedules_in_transactions_are_linked(oncetask_cloud, shop, seen):
    def charge(order, attempt):
        attempt.run_transaction(lambda txn: shop.locker.schedule(order, "/tasks/order", transaction=txn))

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    first, second = seen.producers()
    assert [origins(span) for span in seen.consumers()] == [[id_of(first)], [id_of(second)]]
    assert second.attributes["messaging.message.id"] == oncetask_cloud.deliveries[1].task.rpartition("/")[2]


def test_tasks_created_in_transactions_are_linked(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Mailed, lambda task, attempt: None)
    made = []

    @transactional
    def create(transaction):
        made[:] = [manager.create_task(Mailed(number=1), transaction=transaction)]

    create(manager.locker.client.transaction())
    assert made[0].dispatch()
    oncetask_cloud.run_until_idle()
    [produced], [ran] = seen.producers(), seen.consumers()
    assert origins(ran) == [id_of(produced)]
    assert produced.attributes["messaging.message.id"] == ran.attributes["messaging.message.id"]
    assert produced.attributes["oncetask.document"] == path_of(manager, Mailed(number=1))


def test_every_retry_links_to_the_same_schedule_and_records_its_exception(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)

    def run(task, attempt):
        if attempt.number == 1:
            raise ValueError("no paper")
        if attempt.number == 2:
            raise Retry("still none", after=5)
        return Fail("given up")

    manager.register_task_handler(Mailed, run, retry=ExponentialBackoff(max_attempts=9))
    manager.create_task(Mailed(number=1))
    oncetask_cloud.advance(minutes=5)

    [made], ran = seen.producers(), seen.consumers()
    assert [origins(span) for span in ran] == [[id_of(made)]] * 3
    assert [span.attributes["oncetask.attempt"] for span in ran] == [1, 2, 3]
    assert outcomes(ran) == ["retrying", "retrying", "failed"]
    assert [span.status.status_code for span in ran] == [StatusCode.ERROR] * 3
    assert [span.status.description for span in ran] == ["ValueError: no paper", "still none", "given up"]
    assert [span.attributes["error.type"] for span in ran] == ["ValueError", "retrying", "failed"]
    assert [[event.attributes["exception.message"] for event in span.events] for span in ran] == [["no paper"], [], []]


def test_redelivery_by_the_queue_is_another_attempt_of_the_same_schedule(oncetask_cloud, shop, seen):
    def charge(order, attempt):
        if attempt.number == 1:
            raise ValueError("declined")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.advance(minutes=5)
    [made], ran = seen.producers(), seen.consumers()
    assert [origins(span) for span in ran] == [[id_of(made)]] * 2
    assert outcomes(ran) == ["failed-attempt", "completed"]
    assert [span.status.status_code for span in ran] == [StatusCode.ERROR, StatusCode.UNSET]


def test_delivery_made_by_the_sweeper_is_linked(oncetask_cloud, shop, seen):
    oncetask_cloud.faults.fail("CreateTask", times=2)
    shop.on_charge = lambda order, attempt: None
    assert not shop.locker.schedule(Order(id="42"), "/tasks/order").dispatched
    oncetask_cloud.advance(minutes=2)
    assert oncetask_cloud.sweep().dispatched == 1
    oncetask_cloud.run_until_idle()
    [made], [ran] = seen.producers(), seen.consumers()
    assert origins(ran) == [id_of(made)]


def test_step_that_is_settled_from_the_log_is_linked(oncetask_cloud, shop, seen):
    def charge(order, attempt):
        # A renewal that fails as well would wait for virtual time, which only this thread moves.
        shop.locker._executor.renewals.remove(attempt._running)
        oncetask_cloud.faults.fail("Commit", times=None)
        oncetask_cloud.faults.fail("GetDocument", times=None)
        shop.locker.schedule(order, "/tasks/order")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.faults.clear()
    oncetask_cloud.advance(seconds=65)
    oncetask_cloud.sweep()
    oncetask_cloud.advance(minutes=3)
    first, second = seen.producers()
    assert [origins(span) for span in seen.consumers()] == [[id_of(first)], [id_of(second)]]
    assert second.attributes["error.type"] == "StoreError"
    assert seen.counts("oncetask.takeovers", "oncetask.verdict", "oncetask.outcome") == {("recorded", "recovered"): 1}


def test_reset_keeps_the_link(oncetask_cloud, shop, seen):
    shop.on_charge = lambda order, attempt: Fail("no") if attempt.sequence == 1 else None
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    shop.locker.reset(Order, "42")
    oncetask_cloud.run_until_idle()
    [made], ran = seen.producers(), seen.consumers()
    assert [origins(span) for span in ran] == [[id_of(made)]] * 2
    assert outcomes(ran) == ["failed", "completed"]


def test_handler_that_raises_after_settling_is_an_error(oncetask_cloud, shop, seen):
    def charge(order, attempt):
        shop.locker.complete(order)
        raise ValueError("too late to matter")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    [ran] = seen.consumers()
    assert outcomes([ran]) == ["settled"]
    assert (ran.status.status_code, ran.attributes["error.type"]) == (StatusCode.ERROR, "ValueError")


def test_span_quotes_no_value_of_a_payload(oncetask_cloud, shop, seen):
    """The exception that is recorded has the place of what does not fit, and not the value that pydantic quotes."""

    def act(order, attempt):
        raise RuntimeError("the API said no") from misfit("a validator after")

    shop.on_charge = act
    shop.locker.schedule(Order(id="1", amount=1), "/tasks/order")
    oncetask_cloud.run_until_idle()
    told = "".join(span.to_json() for span in seen.exporter.get_finished_spans())
    assert "a validator refuses it" in told
    assert CANARY not in told


def test_schedule_that_fails_is_an_error(oncetask_cloud, shop, seen):
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    with pytest.raises(AlreadyScheduledError):
        shop.locker.schedule(Order(id="42"), "/tasks/order")
    _, failed = seen.producers()
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "AlreadyScheduledError"
    assert [event.name for event in failed.events] == ["exception"]


def test_attempt_runs_within_the_span_of_its_request(oncetask_cloud, shop, seen):
    tracer = seen.provider.get_tracer("test")
    shop.on_charge = lambda order, attempt: tracer.start_span("card").end()
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    with tracer.start_as_current_span("POST /tasks/order") as request:
        oncetask_cloud.run_until_idle()
        assert trace.get_current_span() is request
    [ran] = seen.consumers()
    [card] = [span for span in seen.exporter.get_finished_spans() if span.name == "card"]
    assert ran.parent.span_id == request.get_span_context().span_id
    assert card.parent.span_id == id_of(ran)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_many_tasks_are_one_send_with_as_many_links_to_it(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Mailed, lambda task, attempt: None)
    assert manager.create_tasks([Mailed(number=number) for number in range(60)]).created == 60
    oncetask_cloud.run_until_idle()
    [made], ran = seen.producers(), seen.consumers()
    assert made.name == "create_tasks default"
    assert made.attributes["messaging.batch.message_count"] == 60
    assert "messaging.message.id" not in made.attributes
    assert [origins(span) for span in ran] == [[id_of(made)]] * 60


def test_each_task_of_a_batch_has_a_span(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_batch_handler(Pulled, lambda tasks, attempts: PerTask({"1": Fail("no")}))
    oncetask_cloud.work(Worker(manager))
    for number in range(3):
        manager.create_task(Pulled(number=number))
    oncetask_cloud.run_until_idle()
    made = {span.attributes["oncetask.document"]: id_of(span) for span in seen.producers()}
    ran = seen.consumers()
    assert {span.attributes["oncetask.document"]: origins(span) for span in ran} == {
        document: [id_] for document, id_ in made.items()
    }
    assert sorted(outcomes(ran)) == ["completed", "completed", "failed"]
    assert seen.counts("oncetask.deliveries", "oncetask.outcome") == {
        "completed": 2,
        "failed": 1,
        "duplicate": 2,
    }


def test_task_of_a_batch_that_settles_itself_ends_its_span(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)

    def run(tasks, attempts):
        for attempt in attempts:
            attempt._running.settle(
                Settlement(kind=SettlementKind.COMPLETE, nonce=attempt._running.runtime.clock.nonce())
            )

    manager.register_batch_handler(Pulled, run)
    for number in range(3):
        manager.create_task(Pulled(number=number))
    oncetask_cloud.clock.advance(4)
    Worker(manager).drain()
    assert outcomes(seen.consumers()) == ["completed"] * 3
    [point] = seen.points("oncetask.start.latency")
    assert (point.count, point.sum) == (3, pytest.approx(12, abs=0.2))


def test_task_of_a_batch_that_can_not_be_settled_is_an_error(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)

    def run(tasks, attempts):
        oncetask_cloud.faults.fail("Commit", times=None)
        oncetask_cloud.faults.fail("BatchGetDocuments", times=None)
        oncetask_cloud.faults.fail("GetDocument", times=None)

    manager.register_batch_handler(Pulled, run, renew=False)
    for number in range(2):
        manager.create_task(Pulled(number=number))
    Worker(manager).drain()
    ran = seen.consumers()
    assert len(ran) == 2
    assert {span.attributes["error.type"] for span in ran} == {"StoreError"}


def test_occurrences_link_to_the_request_for_the_recurrence(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Hourly, lambda task, attempt: None)
    manager.create_task(Hourly(name="a"))
    oncetask_cloud.advance(hours=3)
    [made], ran = seen.producers(), seen.consumers()
    assert len(ran) >= 2
    assert {tuple(origins(span)) for span in ran} == {(id_of(made),)}


def test_newest_request_is_the_one_that_is_linked(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)

    def run(task, attempt):
        if task.data.value == 2:
            manager.create_task(Newest(name="a", value=3))

    manager.register_task_handler(Newest, run)
    manager.create_task(Newest(name="a", value=1))
    manager.create_task(Newest(name="a", value=2))
    oncetask_cloud.run_until_idle()
    _, second, third = seen.producers()
    assert [origins(span) for span in seen.consumers()] == [[id_of(second)], [id_of(third)]]


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_duplicate_is_counted_and_has_no_span(oncetask_cloud, shop, seen):
    shop.on_charge = lambda order, attempt: None
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert oncetask_cloud.duplicate_last() == 200
    assert len(seen.consumers()) == 1
    assert seen.counts("oncetask.duplicates", "messaging.destination.name") == {"default": 1}
    assert seen.counts("oncetask.deliveries", "oncetask.outcome") == {"completed": 1, "duplicate": 1}


@pytest.mark.parametrize("by", ["sweep", "delivery"])
def test_takeover_is_counted_by_its_verdict(oncetask_cloud, shop, seen, by):
    def charge(order, attempt):
        if attempt.number == 1:
            raise Killed

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(seconds=1)
    oncetask_cloud.write_system("Container terminated on signal 9.")
    oncetask_cloud.clock.advance(300)
    if by == "sweep":
        assert oncetask_cloud.sweep().taken_over == 1
    else:
        assert oncetask_cloud.duplicate_last() == 200
    oncetask_cloud.advance(minutes=5)

    [made], ran = seen.producers(), seen.consumers()
    assert [origins(span) for span in ran] == [[id_of(made)]] * 2
    assert [span.attributes["oncetask.token"] for span in ran] == [1, 2]
    assert ran[0].attributes["error.type"] == "Killed"
    assert ran[1].attributes["oncetask.outcome"] == "completed"
    outcome = "retrying" if by == "sweep" else "granted"
    assert seen.counts("oncetask.takeovers", "oncetask.verdict", "oncetask.outcome") == {("died", outcome): 1}


def test_zombie_is_counted_once_and_its_span_says_so(oncetask_cloud, shop, seen):
    told = []

    def charge(order, attempt):
        if attempt.number > 1:
            return
        shop.locker._executor.renewals.remove(attempt._running)
        oncetask_cloud.advance(minutes=13)
        oncetask_cloud.sweep()
        oncetask_cloud.local.tasks.run_due()
        for _ in range(3):
            with pytest.raises(LeaseLostError) as refused:
                shop.locker.save(order)
            told.append(refused.value)
        raise told[0]

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=2)

    assert len(told) == 3
    assert sum(seen.counts("oncetask.leases.lost", "oncetask.finished").values()) == 1
    lost = [span for span in seen.consumers() if str(span.attributes["oncetask.outcome"]).startswith("lost")]
    assert [span.attributes["oncetask.token"] for span in lost] == [1]
    assert lost[0].attributes["error.type"] == "LeaseLostError"
    assert lost[0].status.status_code is StatusCode.ERROR
    assert [event.name for event in lost[0].events] == ["exception"]


def test_next_step_of_a_zombie_is_a_schedule_that_failed(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)

    def run(task, attempt):
        if attempt.number > 1:
            return None
        manager.locker._executor.renewals.remove(attempt._running)
        oncetask_cloud.advance(minutes=13)
        oncetask_cloud.sweep()
        oncetask_cloud.local.tasks.run_due()
        return Continue()

    manager.register_task_handler(Mailed, run, lease_duration=60)
    manager.create_task(Mailed(number=1))
    oncetask_cloud.run_until_idle()
    made, refused = seen.producers()
    assert [span.attributes.get("error.type") for span in (made, refused)] == [None, "LeaseLostError"]
    assert {tuple(origins(span)) for span in seen.consumers()} == {(id_of(made),)}


def test_lost_named_lock_is_counted(oncetask_cloud, seen):
    locker = Locker(config=Config())
    oncetask_cloud.use(locker)
    late, other = locker.lock("graph", ttl=10), locker.lock("graph", ttl=10)
    late.acquire()
    oncetask_cloud.clock.advance(11)
    other.acquire()
    with pytest.raises(LeaseLostError):
        late.refresh()
    assert sum(seen.counts("oncetask.leases.lost", "oncetask.finished").values()) == 1


def test_latency_is_measured_from_when_it_was_due(oncetask_cloud, seen):
    manager = serve(oncetask_cloud)

    def run(task, attempt):
        if attempt.number == 1 and task.data.number == 2:
            raise Retry(after=30)

    manager.register_task_handler(Pulled, run)
    worker = Worker(manager)
    manager.create_task(Pulled(number=1))
    oncetask_cloud.clock.advance(7)
    worker.drain()
    [point] = seen.points("oncetask.start.latency")
    assert point.sum == pytest.approx(7, abs=0.1)
    assert point.attributes["messaging.destination.name"] == "pulled"

    manager.create_task(Pulled(number=2))
    worker.drain()
    oncetask_cloud.clock.advance(34)
    worker.drain()
    [point] = seen.points("oncetask.start.latency")
    assert point.count == 3
    assert point.sum == pytest.approx(7 + 0 + 4, abs=0.1)


def test_latency_of_a_push_task(oncetask_cloud, shop, seen):
    shop.on_charge = lambda order, attempt: None
    shop.locker.schedule(Order(id="42"), "/tasks/order", delay=60)
    oncetask_cloud.clock.advance(72)
    oncetask_cloud.run_until_idle()
    [point] = seen.points("oncetask.start.latency")
    assert (point.count, point.attributes["messaging.destination.name"]) == (1, "default")
    assert point.sum == pytest.approx(12, abs=0.2)


def test_strangers_make_no_series(oncetask_cloud, shop, seen):
    for number in range(3):
        answer = shop.app.test_client().post("/tasks/order", headers={"X-CloudTasks-QueueName": f"made-up-{number}"})
        assert answer.status_code == 401
    [point] = seen.points("oncetask.deliveries")
    assert point.value == 3
    assert dict(point.attributes) == {"messaging.system": "gcp_oncetask", "oncetask.outcome": "unauthorised"}


# --- never in the way -------------------------------------------------------------------------------------------------


def test_without_a_provider_nothing_is_stored_and_nothing_made(oncetask_cloud, shop):
    assert trace._TRACER_PROVIDER is None
    shop.on_charge = lambda order, attempt: shop.locker.schedule(order, "/tasks/order", delay=1) and None
    called: Counter = Counter()

    def profile(frame, event, _):
        if event == "call" and "opentelemetry" in frame.f_code.co_filename:
            called[frame.f_code.co_name] += 1

    # The first one makes the instruments, once in a process.
    shop.locker.schedule(Order(id="0"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    sys.setprofile(profile)
    try:
        shop.locker.schedule(Order(id="42"), "/tasks/order")
        oncetask_cloud.run_until_idle()
    finally:
        sys.setprofile(None)
    assert shop.locker.show("orders/42").traceparent is None
    # Two schedules, attempts and settlings.
    assert called["get_tracer_provider"] <= 6
    assert called["get_meter_provider"] <= 4
    assert {name for name in called if not name.startswith("_")} <= {
        "get_tracer_provider",
        "get_meter_provider",
        "add",
        "record",
    }


WITHOUT = """
import sys, traceback, types

# google-cloud-logging needs the API itself: it gets an empty one, which is gone again before the library comes.
sys.modules["opentelemetry"] = types.ModuleType("opentelemetry")
sys.modules["opentelemetry.trace"] = sys.modules["opentelemetry"].trace = types.ModuleType("opentelemetry.trace")
import google.cloud.logging_v2
for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
    del sys.modules[name]

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            importers = [frame.filename for frame in traceback.extract_stack() if "importlib" not in frame.filename]
            if importers[-2].endswith("gcp_oncetask/observe/telemetry.py"):
                print("asked for", name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbid())

from gcp_oncetask import Config, Locker
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import URL, Order, make_shop

class Resize(TaskData, kind="resize", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)

cloud = OncetaskCloud()
shop = make_shop()
cloud.use(shop.locker)
cloud.mount(URL, shop.app)
manager = TaskManager(shop.locker)
ran = []
manager.register_task_handler(Resize, lambda task, attempt: ran.append(task.id))
cloud.work(Worker(manager))
shop.locker.schedule(Order(id="42"), "/tasks/order")
manager.create_task(Resize(number=1))
cloud.run_until_idle()
cloud.duplicate_last()
cloud.sweep()
lost = shop.locker.lock("graph", ttl=10)
with lost:
    pass
print(shop.receipts, ran, sorted(name for name in sys.modules if name.startswith("opentelemetry")))
print("traceparent" in shop.locker.client.document("orders/42").get().to_dict()["lock"])
"""


def test_without_opentelemetry_everything_works_and_nothing_is_imported():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith("{")]
    assert said == ["['42'] ['1'] []", "False"]


def test_telemetry_costs_no_call(oncetask_cloud, shop, seen):
    shop.locker.schedule(Order(id="0"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert (dict(firestore.counts), firestore.reads, firestore.writes) == ({"Commit": 5}, 0, 5)
    assert len(seen.consumers()) == 4


def test_process_without_telemetry_leaves_no_old_context(oncetask_cloud, shop, seen, monkeypatch):
    def charge(order, attempt):
        provide(monkeypatch, None)
        shop.locker.schedule(order, "/tasks/order")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    assert shop.locker.show("orders/42").traceparent is not None
    oncetask_cloud.run_until_idle()
    assert shop.receipts == ["42"]
    assert shop.locker.show("orders/42").traceparent is None


def test_noop_provider_stores_nothing(oncetask_cloud, shop, monkeypatch):
    provide(monkeypatch, trace.NoOpTracerProvider())
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    assert shop.locker.show("orders/42").traceparent is None
    oncetask_cloud.run_until_idle()
    assert shop.receipts == ["42"]


def test_decision_not_to_sample_travels(oncetask_cloud, shop, seen, monkeypatch):
    provide(monkeypatch, TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    flags = str(shop.locker.show("orders/42").traceparent).rpartition("-")[2]
    assert not int(flags, 16) & trace.TraceFlags.SAMPLED
    oncetask_cloud.run_until_idle()
    assert shop.receipts == ["42"]


class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise RuntimeError("a processor is broken at the start")

    def on_end(self, span):
        raise RuntimeError("a processor is broken at the end")


class BrokenAtEnd(Broken):
    def on_start(self, span, parent_context=None):
        pass


@pytest.mark.parametrize("processor", [Broken, BrokenAtEnd])
def test_broken_telemetry_changes_no_outcome(oncetask_cloud, shop, seen, monkeypatch, caplog, processor):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor())
    provide(monkeypatch, provider)
    with caplog.at_level(logging.WARNING, "gcp_oncetask"):
        shop.locker.schedule(Order(id="42"), "/tasks/order")
        oncetask_cloud.run_until_idle()
    assert shop.receipts == ["42"]
    assert [delivery.status for delivery in oncetask_cloud.deliveries] == [200, 200]
    assert len([record for record in caplog.records if "OpenTelemetry" in record.message]) == 1
    assert trace.get_current_span() is trace.INVALID_SPAN
    instruments._complained = False


def test_damaged_context_is_no_link(oncetask_cloud, shop, seen):
    shop.on_charge = lambda order, attempt: None
    shop.locker.schedule(Order(id="42"), "/tasks/order", delay=5)
    shop.locker.client.document("orders/42").update({"lock.traceparent": "not a context"})
    oncetask_cloud.advance(seconds=10)
    [ran] = seen.consumers()
    assert not ran.links
    assert ran.attributes["oncetask.outcome"] == "completed"
