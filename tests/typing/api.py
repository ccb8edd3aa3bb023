# pyright: strict, reportUnusedFunction=false, reportUnusedClass=false
"""
What users write, as type checkers see it: never run, checked by mypy and by pyright in ``make check``.

``assert_type`` says what is inferred. A line with ``type: ignore`` must be rejected by both: one that is not is an unused
comment, which both report.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, assert_type

from flask import Flask
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from gcp_oncetask import (
    Attempt,
    Config,
    ExponentialBackoff,
    ItemFailure,
    LockBusyError,
    LockedModel,
    Locker,
    NamedLock,
    Scheduled,
    Snooze,
    Status,
    Swept,
    locked,
    once,
    sweep,
)
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import (
    Created,
    CreatedMany,
    OnceTask,
    PerTask,
    Recurrence,
    Request,
    TaskData,
    TaskManager,
    TaskStatus,
    cron,
    every,
    queue_kind,
)
from gcp_oncetask.testing import OncetaskCloud
from gcp_oncetask.worker import Worker

HOUR = timedelta(hours=1)


class Receipt(BaseModel):
    amount: int


# --- settings and entities --------------------------------------------------------------------------------------------

locker = Locker(config=Config(verify="platform", log_level="debug", shards=4))
Config(verify="tokn")  # type: ignore[arg-type]
Config(log_level="DEBUGG")  # type: ignore[arg-type]
Config(quue="default")  # type: ignore[call-arg]
Locker(cofnig=Config())  # type: ignore[call-arg]


class Order(LockedModel, collection="orders", str_strip_whitespace=True):
    amount: int
    email: str


class Line(LockedModel, collection="customers/{customer_id}/orders"):
    customer_id: str


class Misspelt(LockedModel, colection="orders"): ...  # type: ignore[call-arg]


class MisspeltSetting(LockedModel, collection="orders", str_strip_whitespaces=True): ...  # type: ignore[call-arg]


order = Order(id="42", amount=1, email="ann@example.com")
Order(id="42", amuont=1, email="ann@example.com")  # type: ignore[call-arg]
assert_type(order.lock.status, Status | Any)
assert_type(order.amount, int)
assert_type(order.document_path, str)
order.lock.sequenze  # type: ignore[union-attr]

assert_type(locker.get(Order, "42").lock.status, Status | Any)
assert_type(locker.get(Order, "42").amount, int | Any)
locker.get(Order, "42").lokc  # type: ignore[union-attr]
locker.get(Order, "42").lock.stauts  # type: ignore[union-attr]
locker.get(Line, "42", customer_id=7)  # type: ignore[arg-type]
locker.get(Receipt, "42")  # type: ignore[type-var]


def looked_up() -> str:
    found = locker.get(Order, "42")
    if found is None:
        return "none"
    return found.email


assert_type(locker.schedule(order, "/tasks/order", delay=HOUR, params={"a": 1}), Scheduled)
locker.schedule(order, "/tasks/order", dely=HOUR)  # type: ignore[call-arg]
locker.schedule(order, "/tasks/order", at="tomorrow")  # type: ignore[arg-type]
locker.complete(order, reslt=1)  # type: ignore[call-arg]

assert_type(locker.result(Order, "42"), Any)
assert_type(locker.result(Order, "42", as_=Receipt), Receipt)
assert_type(locker.result(Line, "42", customer_id="7", as_=list[int]), list[int])
locker.result(Order, "42", has=Receipt)  # type: ignore[call-overload]
assert_type(locker.cancel(Order, "42"), bool)
assert_type(locker.reset(Order, "42", keep_errors=True), Scheduled)
locker.reset(Order, "42", keep_error=True)  # type: ignore[arg-type]
assert_type(locker.resolve(Order, "42", "run"), Scheduled)
locker.resolve(Order, "42", "complete", result={"charge": "c1"})
locker.resolve(Line, "42", "fail", customer_id="7")
locker.resolve(Order, "42", "rnu")  # type: ignore[call-overload]
locker.resolve(Order, "42", "run", result=1)  # type: ignore[call-overload]
assert_type(sweep(locker, limit=10), Swept)
sweep(locker, limt=10)  # type: ignore[call-arg]


# --- handlers of entities ---------------------------------------------------------------------------------------------

app = Flask(__name__)
app.register_blueprint(blueprint(locker))


@locked_handler(locker, Order, retry=ExponentialBackoff(max_attempts=3), on_unknown="quarantine", alert_on=("failure",))
def fulfil(order: Order, attempt: Attempt, region: str) -> Receipt | Snooze:
    assert_type(attempt.step, int)
    attempt.setp  # type: ignore[attr-defined]
    return Receipt(amount=order.amount) if attempt.number > 1 else Snooze(HOUR)


assert_type(fulfil(region="eu"), ResponseReturnValue)
fulfil(regoin="eu")  # type: ignore[call-arg]
locked_handler(locker, Order, retri=None)  # type: ignore[call-arg]
locked_handler(locker, Order, on_unknown="takover")  # type: ignore[arg-type]
locked_handler(locker, Order, alert_on=["failures"])  # type: ignore[list-item]
ExponentialBackoff(max_attempt=3)  # type: ignore[call-arg]


@locked_handler(locker, Order)  # type: ignore[arg-type]
def of_lines(order: Line, attempt: Attempt) -> None: ...


def stock(attempt: Attempt) -> int:
    assert_type(attempt.run_transaction(lambda txn: 3, name="stock"), int)
    return attempt.run_transaction(lambda txn: 3)


def measured(size: int) -> Receipt:
    return Receipt(amount=size)


def page(after: str | None) -> tuple[list[int], str | None]:
    return [1], after


def state(before: Receipt | None) -> Receipt:
    return before or Receipt(amount=0)


def durable(attempt: Attempt) -> None:
    retrying = attempt.options(retry=ExponentialBackoff(max_attempts=3))
    read = attempt.options(result=Receipt, retry=ExponentialBackoff(max_attempts=3))
    assert_type(attempt.map("measure", measured, [1, 2], key=str, concurrency=4), list[Receipt])
    assert_type(retrying.map("again", measured, [1, 2]), list[Receipt])
    assert_type(retrying.map("some", measured, [1, 2], tolerate=1), list[Receipt | ItemFailure])
    assert_type(read.map("read", str, [1, 2]), list[Receipt])
    assert_type(read.map("read-some", str, [1, 2], tolerate=1), list[Receipt | ItemFailure])
    attempt.map("texts", measured, ["1"])  # type: ignore[arg-type]
    for row in attempt.pages("rows", page):
        assert_type(row, int)
    assert_type(attempt.poll("ready", state, until=lambda found: found.amount > 1, every=HOUR, timeout=None), Receipt)
    attempt.poll("ready", state, until=lambda found: found.total > 1, every=HOUR, timeout=None)  # type: ignore[attr-defined]


# --- once-tasks -------------------------------------------------------------------------------------------------------

manager = TaskManager(locker, on_error=lambda task, error: print(task.id, error))


class ChargeCard(TaskData, kind="charge-card", on_conflict="raise", retention=HOUR, tombstone=True, frozen=True):
    amount: int

    def recurrence(self) -> Recurrence:
        return cron("30 2 * * *", tz="Europe/Berlin", misfire="latest", overlap="skip")


class Notify(TaskData, kind="notify", pull=True, unique="queued", on_refused=lambda data: print(data)):
    user: str


class MisspeltArgument(TaskData, kind="a", tombston=True): ...  # type: ignore[call-arg]


class MisspeltWord(TaskData, kind="a", on_conflict="rais"): ...  # type: ignore[arg-type]


class MisspeltUnique(TaskData, kind="a", unique="queud"): ...  # type: ignore[arg-type]


class NoName(TaskData, name="a"): ...  # type: ignore[call-arg]


card = ChargeCard(amount=3)
assert_type(manager.create_task(card), Created)
manager.create_task(card, transacton=None)  # type: ignore[call-arg]
manager.create_task(order)  # type: ignore[arg-type]
assert_type(manager.create_tasks([card, Notify(user="ann")], parallel=4), CreatedMany)
manager.create_tasks([card], paralel=4)  # type: ignore[call-arg]
assert_type(manager.get_task(ChargeCard, "42").data.amount, int | Any)
assert_type(manager.get_tasks_by_ids(Notify, ["1"])[0].data.user, str)
manager.get_task(ChargeCard, "42").data.amuont  # type: ignore[union-attr]
assert_type(manager.count(ChargeCard)[TaskStatus.COMPLETED], int)

assert_type(manager.result(ChargeCard, "42"), Any)
assert_type(manager.result(ChargeCard, "42", as_=str), str)
assert_type(manager.result(ChargeCard, "42", as_=Receipt).amount, int)
assert_type(manager.result(ChargeCard, "42", as_=dict[str, int]), dict[str, int])
manager.result(ChargeCard, "42", as_=Receipt).amuont  # type: ignore[attr-defined]
manager.result(ChargeCard, "42", has=Receipt)  # type: ignore[call-overload]


def cleaned(task: OnceTask[ChargeCard], attempt: Attempt) -> None: ...
def notified(task: OnceTask[Notify], attempt: Attempt) -> None: ...


@manager.handler(ChargeCard, retry=ExponentialBackoff(), lease_duration=HOUR, on_unknown="takeover", on_cancel=cleaned)
def charge_card(task: OnceTask[ChargeCard], attempt: Attempt) -> Receipt:
    assert_type(task.data.amount, int)
    return Receipt(amount=task.data.amount)


assert_type(charge_card, Callable[[OnceTask[ChargeCard], Attempt], Receipt])
manager.register_task_handler(Notify, notified, alert_on=("takeover", "quarantine"), renew=False)
manager.handler(ChargeCard, retri=3)  # type: ignore[call-arg]
manager.handler(ChargeCard, retry=3)  # type: ignore[arg-type]
manager.handler(ChargeCard, on_unknown="takeovr")  # type: ignore[arg-type]
manager.handler(ChargeCard, on_cancel=notified)  # type: ignore[arg-type]
manager.register_task_handler(Notify, notified, renwe=False)  # type: ignore[call-arg]
manager.register_task_handler(Notify, notified, alert_on=("failures",))  # type: ignore[arg-type]
manager.register_task_handler(Notify, cleaned)  # type: ignore[arg-type]


@manager.handler(Notify)  # type: ignore[arg-type]
def of_cards(task: OnceTask[ChargeCard], attempt: Attempt) -> None: ...


def all_of_a_key(tasks: list[OnceTask[Notify]], attempts: list[Attempt]) -> PerTask:
    return PerTask.finished(tasks[:1], again=HOUR)


manager.register_resource_key_handler(Notify, all_of_a_key, retry=ExponentialBackoff())
manager.register_batch_handler(Notify, all_of_a_key, size=10, lease_timeout=700)
manager.register_resource_key_handler(Notify, all_of_a_key, retri=3)  # type: ignore[call-arg]
manager.register_batch_handler(Notify, all_of_a_key, sise=10)  # type: ignore[call-arg]
manager.register_batch_handler(ChargeCard, all_of_a_key)  # type: ignore[arg-type]

assert_type(every(HOUR, misfire="all", misfire_limit=3, exdates=[datetime.min]), Recurrence)
Recurrence("FREQ=DAILY", "2026-01-01T00:00:00Z", misfire="lates")  # type: ignore[arg-type]
cron("@daily", misfir="all")  # type: ignore[call-arg]
cron("@daily", overlap="queu")  # type: ignore[arg-type]
every(HOUR, misfire="lates")  # type: ignore[arg-type]

CRM = queue_kind("crm", pull=True, unique="running")
assert_type(CRM, type[Request])
assert_type(manager.add_task("crm", "customer-7", {"stage": "new"}, delay=30).replaced, bool)
queue_kind("crm", pul=True)  # type: ignore[call-arg]
queue_kind("crm", unique="runing")  # type: ignore[arg-type]
manager.add_task("crm", "customer-7", dely=30)  # type: ignore[call-arg]

Worker(manager, kinds=[Notify, "crm"], concurrency={"crm": 2}).run()
Worker(manager, concurency=8)  # type: ignore[call-arg]
Worker(manager, kinds=[Order])  # type: ignore[list-item]


# --- named locks and functions that run once --------------------------------------------------------------------------

with locker.lock("index", ttl=60, timeout=HOUR) as lock:
    assert_type(lock, NamedLock)
    assert_type(lock.token, int)
    assert_type(lock.acquire(blocking=False), bool)
locker.lock("index", tll=60)  # type: ignore[call-arg]


@locked(locker, ttl=300)
def surely(customer: str) -> int:
    return len(customer)


@locked(locker, key="all", on_busy="skip")
def maybe(customer: str) -> int:
    return len(customer)


@locked(locker, on_busy="wait", timeout=10)
def later(customer: str) -> int:
    return len(customer)


def busy(error: LockBusyError, customer: str) -> str:
    return customer


@locked(locker, on_busy=busy)
def instead(customer: str) -> int:
    return len(customer)


assert_type(surely("7"), int)
assert_type(maybe(customer="7"), int | None)
assert_type(later("7"), int)
assert_type(instead("7"), int | str)
surely(7)  # type: ignore[arg-type]
surely(custumer="7")  # type: ignore[call-arg]
locked(locker, on_bsy="skip")  # type: ignore[call-overload]
locked(locker, on_busy="skp")  # type: ignore[call-overload]
locked(locker, timeout=10)  # type: ignore[call-overload]


@once(locker, result=Receipt, retention=HOUR)
def paid(amount: int) -> dict[str, int]:
    return {"amount": amount}


@once(locker, key="ever")
def same(amount: int) -> list[int]:
    return [amount]


assert_type(paid(3), Receipt)
assert_type(same(amount=3), list[int])
once(locker, retension=HOUR)  # type: ignore[call-overload]
once(locker, run_limit="an hour")  # type: ignore[call-overload]


# --- tests of applications --------------------------------------------------------------------------------------------


def test_charged(oncetask_cloud: OncetaskCloud) -> None:
    oncetask_cloud.use(locker)
    oncetask_cloud.mount("https://orders.test", app)
    oncetask_cloud.assert_scheduled(Order, url="/tasks/order", at=datetime.max)
    oncetask_cloud.faults.fail("Commit", when="after")
    assert_type(oncetask_cloud.advance(minutes=11), int)
    assert_type(oncetask_cloud.deliveries[0].status, int | None)
    oncetask_cloud.advance(minute=11)  # type: ignore[call-arg]
    oncetask_cloud.assert_scheduled(Order, ulr="/tasks/order")  # type: ignore[call-arg]
    oncetask_cloud.faults.fail("Commit", when="befor")  # type: ignore[arg-type]
