"""
Documents that another version of the program has written and this one can't read, as there are during a rolling deployment: they
are left to that version, and no attempt is burned.
"""

from __future__ import annotations

import logging
from typing import Final

from gcp_oncetask import courier, lease
from gcp_oncetask.attempt import Attempt
from gcp_oncetask.decision import Kind, Put, Refused, Settlement
from gcp_oncetask.delivery import Delivery, Outcome, TaskHeaders
from gcp_oncetask.engine import Engine
from gcp_oncetask.job import Job
from gcp_oncetask.logs import context_at
from gcp_oncetask.settling import Ended, delivered
from gcp_oncetask.store.snapshot import Snapshot

UNHANDLED_ALERT: Final = 10
"""At this retry of a delivery that nobody here can handle, a person is told: some minutes after the first."""


def judge(engine: Engine, job: Job, seen: Snapshot, nonce: str) -> Put | Refused | None:
    """
    What becomes of a document that could be claimed for *job*; None: it can be read here, or the attempt is to fail.
    """
    lock = seen.lock
    reason = job.subject.unread(engine, seen)
    if lock is None or reason is None:
        return None
    ready = [each for each in (job.subject.written_at(seen), lock.wait_until) if each is not None]
    since = lock.ready_since or max(ready, default=None)
    return lease.left(lock, reason, since, nonce, engine.moment(seen))


def leave(engine: Engine, delivery: Delivery, headers: TaskHeaders | None, reason: str) -> Ended:
    """
    The answer to a delivery that nobody here can handle: it comes again, and after a time a person is told.
    """
    context_at(delivery.document, delivery.env, None, delivery.sequence).log(logging.ERROR, "%s", reason)
    if headers is not None and headers.retry_count == UNHANDLED_ALERT:
        snapshot = Snapshot(delivery.document, None, None, None)
        courier.send_directly(engine, snapshot, f"{delivery.sequence}-unhandled", reason)
    return Ended(Outcome.UNHANDLED, reason, delivered(delivery))


def give_back(engine: Engine, attempt: Attempt) -> None:
    """
    Release the lease of an attempt whose document can't be read, without burning it.

    Raises:
        OncetaskError: As ``Attempt.settle``.
    """
    put = attempt.settle(Settlement(kind=Kind.RELEASE, nonce=attempt.nonce()))
    if put.dispatch:
        engine.dispatch(attempt.snapshot)
