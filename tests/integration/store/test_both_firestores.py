"""
The store against both Firestores: the embedded one always, Google's emulator wherever it is installed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from google.cloud import firestore

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.firestore.google import find
from gcp_emulator.tasks import WsgiTransport
from gcp_oncetask import Attempt, Config, LeaseLostError, LockBusyError, Status, once, sweep
from gcp_oncetask.entities.subject import Entities
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.pipeline import execute
from gcp_oncetask.rules.decisions import Policy
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from tests.support.branches import Branch
from tests.support.orders import URL, Order, Shop, make_shop
from tests.support.patience import patient

KINDS = [
    "embedded",
    pytest.param(
        "google",
        marks=[pytest.mark.google, pytest.mark.skipif(find() is None, reason="Google's emulator is not installed")],
    ),
]


class Quiet:
    """
    A stream for the trail.
    """

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """
        Nothing is held back.
        """


@pytest.fixture(scope="module", params=KINDS)
def local(request: pytest.FixtureRequest) -> Iterator[LocalCloud]:
    """
    A local cloud on the machine's clock, whose tasks are delivered when the test says so.
    """
    cloud = LocalCloud(firestore=request.param, auto=False, transport=WsgiTransport({}), smtp=False)
    cloud.start()
    before = os.environ.get("FIRESTORE_EMULATOR_HOST")
    os.environ["FIRESTORE_EMULATOR_HOST"] = cloud.firestore.address
    try:
        yield cloud
    finally:
        if before is None:
            del os.environ["FIRESTORE_EMULATOR_HOST"]
        else:
            os.environ["FIRESTORE_EMULATOR_HOST"] = before
        cloud.stop()


@pytest.fixture
def shop(local: LocalCloud, request: pytest.FixtureRequest) -> Shop:
    """
    A shop in a project of its own.
    """
    project = f"p{abs(hash(request.node.name)) % 10**8}"
    local.tasks.create_queue(f"projects/{project}/locations/l/queues/default")
    config = Config(
        project=project,
        location="l",
        base_url=URL,
        verify="off",
        tasks_emulator=local.tasks.address,
        logging_emulator=local.logging.address,
        dispatch_grace=0.05,
        log_interval=0,
    )
    made = make_shop(config)
    made.locker._runtime.trail_to(Quiet())
    assert isinstance(local.tasks.transport, WsgiTransport)
    local.tasks.transport.mount(URL, made.app)
    return made


def test_chain_and_late_duplicate(local: LocalCloud, shop: Shop) -> None:
    """
    Two steps, each once, then a late copy: acknowledged, nothing runs.
    """
    shop.locker.schedule(Order(id="42", amount=5), "/tasks/order")
    local.tasks.run_due()
    assert local.tasks.duplicate_last() == 200

    order = shop.locker.get(Order, "42")
    assert order is not None
    assert order.lock is not None
    assert (order.lock.status, order.amount, shop.receipts) == (Status.COMPLETED, 5, ["42"])
    assert len(shop.charges) == 1


def test_user_write_between_the_steps_is_kept(local: LocalCloud, shop: Shop) -> None:
    """
    A field that somebody else writes while the handler runs is kept, and the settling goes through with a read more.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        shop.locker.client.document("orders/42").update({"note": "urgent", "extra": {"a": [1, 2.5, None]}})
        order.amount = 7
        shop.locker.schedule(order)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42", amount=5), "/tasks/order")
    local.tasks.run_due()

    stored = shop.locker.client.document("orders/42").get().to_dict()
    assert stored is not None
    assert (stored["amount"], stored["note"], stored["extra"]) == (7, "urgent", {"a": [1, 2.5, None]})
    assert stored["lock"]["status"] == "completed"


def test_conflicting_write_fails_the_attempt_and_loses_nothing(local: LocalCloud, shop: Shop) -> None:
    """
    A field that both the handler and somebody else changed is a failed attempt; the other's value stays.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        if attempt.number == 1:
            shop.locker.client.document("orders/42").update({"note": "theirs"})
            order.note = "ours"
        shop.locker.schedule(order)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    local.tasks.run_due()

    lock = shop.locker.show("orders/42")
    assert (lock.status, len(lock.errors)) == (Status.SCHEDULED, 1)
    assert "note changed while the handler ran" in lock.errors[0].message
    assert shop.locker.client.document("orders/42").get().get("note") == "theirs"


def test_simultaneous_claims_have_one_winner(local: LocalCloud, shop: Shop) -> None:
    """
    Sixteen copies of one delivery at the same instant: one runs, the others are refused, quickly.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    [task] = [t for t in local.tasks.tasks() if shop.locker._runtime.project() in t.name]
    ran: list[int] = []
    gate = threading.Barrier(16)
    spec = HandlerSpec(Entities(Order), lambda order, attempt: ran.append(attempt.token), Policy(), None, renew=False)

    def deliver(_: int) -> Outcome:
        gate.wait(patient(30))
        body = task.http_request.body
        delivery = Delivery.from_json(body)
        return execute(shop.locker._executor, spec, delivery, TaskHeaders(), None, {}).outcome

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(deliver, range(16)))

    assert ran == [1]
    assert outcomes.count(Outcome.COMPLETED) == 1
    assert {Outcome.COMPLETED, Outcome.BUSY, Outcome.DUPLICATE} >= set(outcomes)


def test_cancellation_between_reading_and_settling_is_seen(local: LocalCloud, shop: Shop) -> None:
    """
    A cancellation that comes while the handler runs ends the chain at its next settling.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        assert shop.locker.cancel(Order, "42")
        made = shop.locker.schedule(order)
        assert made.cancelled

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    local.tasks.run_due()

    assert Status.CANCELLED is shop.locker.show("orders/42").status
    assert shop.receipts == []


def test_transaction_commits_with_the_settling(local: LocalCloud, shop: Shop) -> None:
    """
    The attempt's transaction writes stock and lock together, also where transactions take locks.
    """
    stock = shop.locker.client.document("stock/blue")
    stock.set({"left": 3})

    def charge(order: Order, attempt: Attempt) -> None:
        def body(txn: firestore.Transaction) -> None:
            [found] = txn.get(stock)
            txn.update(stock, {"left": found.get("left") - 1})
            shop.locker.schedule(order, transaction=txn)

        attempt.run_transaction(body)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    local.tasks.run_due()

    assert (stock.get().get("left"), shop.locker.show("orders/42").status) == (2, Status.COMPLETED)


def test_deleted_document_loses_the_lease_and_is_not_resurrected(local: LocalCloud, shop: Shop) -> None:
    """
    A document that is deleted while its handler runs stays deleted; the handler learns LeaseLostError.
    """
    told: list[Exception] = []

    def charge(order: Order, attempt: Attempt) -> None:
        shop.locker.client.document("orders/42").delete()
        try:
            shop.locker.schedule(order)
        except LeaseLostError as error:
            told.append(error)
            raise

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    local.tasks.run_due()

    assert len(told) == 1
    assert shop.locker.get(Order, "42") is None


def test_sweep_finds_what_is_due_in_collections_and_groups(local: LocalCloud, shop: Shop) -> None:
    """
    The sweep's range query finds an overdue document by collection and by collection group, and only that.
    """
    local.faults.fail("CreateTask", times=4)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.schedule(Branch(id="42", shop="7"), "/tasks/branch")
    waiter: Any = threading.Event()
    waiter.wait(0.2)
    runtime = shop.locker._runtime
    shown = sweep(shop.locker, collections=("elsewhere",))
    assert shown.looked == 0

    assert sweep(shop.locker, collections=("malls/{any}/branches",)).looked == 0
    assert sweep(shop.locker, collections=("shops/{shop}/branches",)).looked == 1
    assert sweep(shop.locker, collections=("orders",)).looked == 1
    runtime.config = replace(runtime.config, env="OTHER")
    assert sweep(shop.locker, collections=("orders",)).looked == 0


def test_collection_is_registered_forgotten_and_remembered(shop: Shop) -> None:
    """
    By two processes, each of which finds what the other one has written; times are the server's.
    """
    runtime, other = shop.locker._runtime, make_shop(shop.locker.config).locker._runtime
    for each in (runtime, other):
        each.registry.register("orders")
    [made], _ = runtime.registry.all()
    runtime.registry.forget("orders")
    other.registry.forget("orders")
    [forgotten], now = runtime.registry.all()
    other.registry.register("orders")
    [remembered], _ = runtime.registry.all()

    assert made == remembered == ("orders", None)
    assert forgotten.forgotten_at is not None
    assert forgotten.forgotten_at <= now
    document = next(iter(shop.locker.client.collection("onceLocks").stream())).to_dict()
    assert document.pop("createdAt") < forgotten.forgotten_at
    assert document == {"registry": "DEFAULT", "collection": "orders", "schema": 1}


def test_named_lock_is_held_refreshed_taken_over_and_retired(local: LocalCloud, shop: Shop) -> None:
    """
    Expiry by the server's clock, fenced release, tokens that go up also after the document was deleted.
    """
    old, new = shop.locker.lock("graph", ttl=2.5), shop.locker.lock("graph", ttl=60)
    assert old.acquire()
    old.refresh()
    assert not new.acquire(blocking=False)
    assert new.acquire(timeout=10)
    token = new.token
    assert token > old.token
    before = shop.locker.show(new.document)
    with pytest.raises(LeaseLostError):
        old.release()
    assert before == shop.locker.show(new.document)
    new.release()

    shop.locker.client.document(new.document).delete()
    assert new.acquire(blocking=False)
    assert new.token > token


def test_waiting_threads_hold_a_lock_one_at_a_time(local: LocalCloud, shop: Shop) -> None:
    """
    Eight threads, three unguarded increments each: none is lost, and nobody waits for ever.
    """
    counter = shop.locker.client.document("counters/c")
    tokens: list[int] = []

    def work(_: int) -> None:
        lock = shop.locker.lock("counter", keep_alive=30)
        for _ in range(3):
            with lock:
                tokens.append(lock.token)
                found = counter.get()
                counter.set({"n": (found.get("n") if found.exists else 0) + 1})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    assert counter.get().get("n") == 24
    assert len(tokens) == 24
    assert all(before < after for before, after in pairwise(tokens))


def test_function_runs_once_for_simultaneous_calls(local: LocalCloud, shop: Shop) -> None:
    """
    Eight calls for one key at the same instant: one runs, the others are told that it runs, or get its result.
    """
    ran: list[int] = []
    start = threading.Barrier(8)

    @once(shop.locker, name="book", ttl=30)
    def book(event: str) -> str:
        ran.append(1)
        return f"booked {event}"

    def call(_: int) -> str:
        start.wait(patient(30))
        try:
            return book("e1")
        except LockBusyError:
            return "busy"

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(8)))

    assert len(ran) == 1
    assert {"booked e1"} <= set(answers) <= {"booked e1", "busy"}
    assert book("e1") == "booked e1"
