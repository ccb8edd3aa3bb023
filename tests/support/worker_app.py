"""
The process of the worker tests: ``python -m tests.support.worker_app ledger|hold``, its settings in the environment.

``ledger``: each parcel writes an entry of a ledger together with its own end. ``hold``: each parcel asks the test, and goes on
when it answers.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

from google.cloud.firestore import Transaction

from gcp_oncetask import Attempt, Locker
from gcp_oncetask.rules.decisions import Settlement, SettlementKind
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.worker import Worker


class Parcel(TaskData, kind="parcel", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


def tell(event: str, **facts: Any) -> None:
    """
    Tell the test, and go on when it answers.
    """
    body = json.dumps({"event": event, "pid": os.getpid(), **facts}).encode()
    with urllib.request.urlopen(os.environ["CONTROL_URL"], data=body, timeout=600) as answer:
        answer.read()


def main() -> None:
    """
    Work until a signal comes.
    """
    manager = TaskManager(Locker.from_env())

    def ledger(task: OnceTask[Parcel], attempt: Attempt) -> None:
        def enter(txn: Transaction) -> None:
            entry = {"pid": os.getpid(), "attempt": attempt.number}
            txn.create(manager.locker.client.document(f"ledger/{task.id}"), entry)
            attempt._running.settle(
                Settlement(kind=SettlementKind.COMPLETE, nonce=attempt._running.runtime.clock.nonce()), transaction=txn
            )

        attempt.run_transaction(enter)

    def hold(task: OnceTask[Parcel], attempt: Attempt) -> str:
        tell("running", id=task.id, attempt=attempt.number)
        return "delivered"

    handler = {"ledger": ledger, "hold": hold}[sys.argv[1]]
    lease = float(os.environ["WORKER_LEASE"])
    manager.register_task_handler(Parcel, handler, lease_duration=lease, lease_timeout=2 * lease)
    worker = Worker(
        manager,
        concurrency=int(os.environ.get("WORKER_CONCURRENCY", "8")),
        session_ttl=float(os.environ["WORKER_TTL"]),
        poll_interval=3600,
    )
    worker.run()
    tell("over", done=worker.done)


if __name__ == "__main__":
    main()
