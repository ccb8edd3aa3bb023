"""
An application that reads everything from its environment: entities and once-tasks, some of which fail.
"""

from __future__ import annotations

import sys

from flask import Flask

from gcp_oncetask import Attempt, Fail, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager


class Bill(LockedModel, collection="bills"):
    amount: int


class Reminder(TaskData, kind="reminder"):
    number: str

    def task_id(self) -> str:
        return self.number


locker = Locker.from_env()
manager = TaskManager(locker)
app = Flask(__name__)
app.register_blueprint(blueprint(manager))


def say(line: str) -> None:
    """
    Print a line in one write: print() writes its end by itself, and another thread may print in between.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@app.post("/bills/<number>/<int:amount>")
def take(number: str, amount: int) -> dict[str, bool]:
    made = locker.schedule(Bill(id=number, amount=amount), "/tasks/bill")
    return {"bill": made.dispatched, "reminder": bool(manager.create_task(Reminder(number=number)))}


@app.post("/tasks/bill")
@locked_handler(locker, Bill)
def pay(bill: Bill, attempt: Attempt) -> Fail | None:
    say(f"bill {bill.id} is paid" if bill.amount < 100 else f"bill {bill.id} is too high")
    return Fail("the card was refused") if bill.amount >= 100 else None


@manager.handler(Reminder)
def remind(task: OnceTask[Reminder], attempt: Attempt) -> None:
    say(f"reminder of {task.data.number}")
