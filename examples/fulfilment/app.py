"""
The fulfilment of an order, from the charge to the label of the last parcel, as one durable handler. Served by gunicorn as
``examples.fulfilment.app:app``; configured by the environment.

The card is charged once: the intent is recorded before the call, and after a crash the payment service is asked. Three days pass
without a process. A person approves a large order by a link. Parcels are packed side by side, and each label is a once-task of
its own. If the order is not approved or a label can't be printed, the money goes back.
"""

import json
import os
import urllib.request
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from flask import Flask
from pydantic import BaseModel

from gcp_oncetask import NOT_DONE, Attempt, ChildFailedError, ConfigError, EventTimeoutError, FixedDelay, Locker
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager

unset = [name for name in ("PAYMENTS_URL", "APPROVALS_URL") if not os.environ.get(name)]
if unset:
    raise ConfigError(f"Not set: {', '.join(unset)}. They name the payment service and the approver (http://...).")

DAY = float(os.environ.get("DEMO_DAY_SECONDS", "86400"))
"""Seconds of a day; the demo has short ones."""
LEASE = float(os.environ.get("DEMO_LEASE_SECONDS", "60"))
TIMEOUT = float(os.environ.get("DEMO_TIMEOUT_SECONDS", "630"))
LARGE = 100_000
"""Orders from this amount on, in cents, need an approval."""


class Fulfil(TaskData, kind="fulfil"):
    order: str
    amount: int
    items: list[str]

    def task_id(self) -> str:
        return self.order


class PrintLabel(TaskData, kind="print-label"):
    parcel: str


class Approval(BaseModel):
    approved: bool


manager = TaskManager(Locker.from_env())
app = Flask(__name__)
app.register_blueprint(blueprint(manager))


@manager.handler(Fulfil, retry=FixedDelay(delay=1, max_attempts=8), lease_duration=LEASE, lease_timeout=TIMEOUT)
def fulfil(task: OnceTask[Fulfil], attempt: Attempt) -> dict[str, Any]:
    order = task.data
    once = attempt.options(once=True, verify=find_charge, verify_after=DAY / 1440)
    charge = once.run("charge", pay, order.order, order.amount, key=attempt.key_of("charge"))
    attempt.sleep("cooling-off", 3 * DAY)
    if order.amount >= LARGE and not approved(attempt, order):
        return {"charge": charge, "refund": refunded(attempt, charge)}
    parcels = attempt.map("pack", pack, order.items, concurrency=4)
    try:
        labels = attempt.run_tasks("label", [PrintLabel(parcel=parcel) for parcel in parcels])
    except ChildFailedError:
        return {"charge": charge, "refund": refunded(attempt, charge)}
    return {"charge": charge, "labels": labels}


def approved(attempt: Attempt, order: Fulfil) -> bool:
    """
    Ask a person by two links, and wait for a week. No answer is a no.
    """
    week, question = timedelta(seconds=7 * DAY), f"Shall order {order.order} be sent?"
    yes = attempt.link("approval", Approval(approved=True), expires=week, text=question, label="Yes, send it")
    no = attempt.link("approval", Approval(approved=False), expires=week, text=question, label="No, refund it")
    attempt.run("ask", tell, order.order, yes, no)
    try:
        return attempt.wait_event("approval", Approval, timeout=week).approved
    except EventTimeoutError:
        return False


def refunded(attempt: Attempt, charge: str) -> str:
    """
    Give the money back; the key lets the payment service recognise a repetition.
    """
    return attempt.run("refund", refund, charge, key=attempt.key_of("refund"))


@manager.handler(PrintLabel, retry=FixedDelay(delay=1, max_attempts=5), lease_duration=LEASE, lease_timeout=TIMEOUT)
def print_label(task: OnceTask[PrintLabel], _: Attempt) -> str:
    if task.data.parcel.startswith("broken"):
        raise ValueError("the printer knows no such parcel")
    return f"label of {task.data.parcel}"


# --- the outside world ------------------------------------------------------------------------------------------------


def pay(order: str, amount: int, key: str) -> str:
    """
    Charge the card, and return the id of the charge.
    """
    return str(post({"order": order, "amount": amount, "key": key, "pid": os.getpid()})["charge"])


def find_charge(key: str) -> object:
    """
    Ask the payment service for the charge of a key.
    """
    with urllib.request.urlopen(f"{os.environ['PAYMENTS_URL']}?key={quote(key)}", timeout=10) as answer:
        charge = json.load(answer)["charge"]
    return NOT_DONE if charge is None else charge


def refund(charge: str, key: str) -> str:
    """
    Give the money of a charge back.
    """
    return str(post({"order": f"refund of {charge}", "amount": 0, "key": key, "pid": os.getpid()})["charge"])


def pack(item: str) -> str:
    """
    Pack an item, and return the name of its parcel.
    """
    return f"{item}-parcel"


def tell(order: str, yes: str, no: str) -> None:
    """
    Hand the links to the person who approves. A real shop sends a mail.
    """
    post({"order": order, "yes": yes, "no": no}, "APPROVALS_URL")


def post(data: dict[str, Any], service: str = "PAYMENTS_URL") -> Any:
    """
    Post JSON data to the *service* whose address has this name in the environment, and return its answer.
    """
    call = urllib.request.Request(os.environ[service], json.dumps(data).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=10) as answer:
        return json.load(answer)
