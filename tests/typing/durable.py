# pyright: strict, reportUnusedFunction=false
"""
What users write in durable handlers, as type checkers see it; see ``api``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from gcp_oncetask import NOT_DONE, Attempt, ExponentialBackoff, LockedModel, Locker, NotDone, RunFailedError
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager

DAY = timedelta(days=1)


class Charge(BaseModel):
    id: str


class Approval(BaseModel):
    by: str


class Order(LockedModel, collection="orders"):
    amount: int


class Fulfil(TaskData, kind="fulfil"):
    amount: int


locker = Locker()
manager = TaskManager(locker)


def pay(amount: int, *, key: str) -> Charge:
    return Charge(id=f"{key}-{amount}")


def untyped(amount: int) -> Any:
    return {"id": str(amount)}


def find(key: str) -> object:
    return NOT_DONE


@manager.handler(Fulfil)
def fulfil(task: OnceTask[Fulfil], attempt: Attempt) -> str:
    # A run returns what its function returns, and takes what it takes.
    assert_type(attempt.run("charge", pay, task.data.amount, key="k"), Charge)
    assert_type(attempt.run("count", len, [1]), int)
    assert_type(attempt.run("note", lambda: None), None)
    assert_type(attempt.run("raw", untyped, 1), Any)
    attempt.run("charge", pay, "7", key="k")  # type: ignore[arg-type]
    attempt.run("charge", pay, 7)  # type: ignore[call-arg]
    attempt.run("charge", pay, 7, key="k", retry=3)  # type: ignore[call-arg]
    attempt.run(pay, 7, key="k")  # type: ignore[arg-type]
    attempt.run("charge", pay, 7, key="k").ident  # type: ignore[attr-defined]

    # Options keep the function's type; result= is a model in place of it.
    surely = attempt.options(once=True, verify=find, verify_after=DAY, not_done=(NotDone, ConnectionError))
    assert_type(surely.run("charge", pay, 7, key="k"), Charge)
    surely.run("charge", pay, "7", key="k")  # type: ignore[arg-type]
    again = attempt.options(retry=ExponentialBackoff(max_attempts=3), strict=True, was="pay")
    assert_type(again.run("count", len, [1]), int)
    assert_type(attempt.options(result=Charge).run("raw", untyped, 1), Charge)
    assert_type(attempt.options(result=Charge, once=True).run("raw", untyped, amount=1), Charge)
    attempt.options(result=Charge).run("raw", untyped, "1")  # type: ignore[arg-type]
    attempt.options(onec=True)  # type: ignore[call-overload]
    attempt.options(retry=3)  # type: ignore[call-overload]
    attempt.options(not_done=Charge)  # type: ignore[arg-type]

    # Waits.
    attempt.sleep("cooling-off", DAY)
    attempt.sleep("until", until=datetime.max)
    attempt.sleep("cooling-off", "3 days")  # type: ignore[arg-type]
    assert_type(attempt.sleep("cooling-off", 3), None)
    assert_type(attempt.wait_event("approval", Approval, timeout=DAY), Approval)
    assert_type(attempt.wait_event("answer", str, timeout=None, event="reply"), str)
    assert_type(attempt.wait_event("either", {"yes": Approval, "no": str}, timeout=DAY), Any)
    attempt.wait_event("approval", Approval)  # type: ignore[call-overload]
    attempt.wait_event("approval", timeout=DAY)  # type: ignore[call-overload]

    # Time and chance have names.
    assert_type(attempt.now("now"), datetime)
    assert_type(attempt.random("chance"), float)
    assert_type(attempt.uuid("id"), UUID)
    assert_type(attempt.key_of("charge"), str)
    assert_type(attempt.replaying, bool)
    attempt.progress({"done": 3})
    attempt.now()  # type: ignore[call-arg]
    try:
        attempt.run("charge", pay, 7, key="k")
    except RunFailedError as error:
        return str(error)
    return ""


@locked_handler(locker, Order)
def entity(order: Order, attempt: Attempt) -> Charge:
    return attempt.run("charge", pay, order.amount, key=attempt.key)


manager.send(Fulfil, "42", "approval", Approval(by="ann"), id="e-1")
manager.send(Fulfil, "42", "approval", {"by": "ann"})
locker.send(Order, "42", "approval", Approval(by="ann"))
manager.send(Fulfil, "42", "approval", Approval(by="ann"), ident="e-1")  # type: ignore[call-arg]
manager.send(Fulfil, 42, "approval")  # type: ignore[arg-type]
