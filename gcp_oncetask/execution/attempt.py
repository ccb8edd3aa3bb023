"""
The attempt as user code sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime, timedelta
from threading import Event
from typing import Any, Protocol, TypeVar

from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution import fenced_transaction
from gcp_oncetask.execution.held_lease import HeldLease
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.client import Transaction

T = TypeVar("T")


class Attempt:
    """
    One granted lease: one attempt to run one sequence.
    """

    def __init__(self, running: HeldLease) -> None:
        self._running = running

    def __deepcopy__(self, memo: dict[int, Any]) -> Attempt:
        """
        A copied task is still of the same attempt.
        """
        return self

    @property
    def step(self) -> int:
        """
        Step within the chain, 1-based.
        """
        return self._running.granted.step

    @property
    def sequence(self) -> int:
        """
        Sequence of the document, 1-based, never repeated.
        """
        return self._running.granted.sequence

    @property
    def number(self) -> int:
        """
        Number of this attempt among those of the sequence, 1-based.
        """
        return self._running.granted.attempts

    @property
    def token(self) -> int:
        """
        Fencing token of this lease.
        """
        return self._running.granted.token

    @property
    def params(self) -> Any:
        """
        The ``params`` that ``schedule`` was given; JSON data.
        """
        return self._running.granted.params

    @property
    def delivery(self) -> TaskHeaders | None:
        """
        Headers of the Cloud Task, typed: information, never identity; None: a worker pulled the task.
        """
        return self._running.delivery

    @property
    def key(self) -> str:
        """
        Idempotency key, the same for every attempt of this sequence: hand it to remote services.
        """
        return self._running.key

    @property
    def lost(self) -> Event:
        """
        Set as soon as the lease is known to be somebody else's.
        """
        return self._running.lost

    @property
    def cancelled(self) -> bool:
        """
        Whether a cancellation has been seen; looked at with every renewal and checkpoint.
        """
        return self._running.cancelled

    def held_for(self) -> float:
        """
        Seconds for which this process may still believe that it holds the lease; negative: no longer.
        """
        return self._running.held_for()

    def remaining(self) -> float:
        """
        Seconds until ``deadline``; 0 once it has passed or the lease is lost.
        """
        return self._running.remaining()

    @property
    def deadline(self) -> datetime:
        """
        When the attempt must be over: the earliest of run limit, dispatch deadline and request time-out; wall clock, UTC.
        """
        return self._running.runtime.clock.now() + timedelta(seconds=self.remaining())

    def renew(self) -> None:
        """
        Start the lease's length anew; needed only with ``renew=False``, or before a step that must not be interrupted.

        Raises:
            LeaseLostError: The lease is somebody else's.
            StoreError: Firestore was unreachable; the lease goes on until its end.
        """
        self._running.renew()

    def run_transaction(self, fn: Callable[[Transaction], T]) -> T:
        """
        Run ``fn(txn)`` in a Firestore transaction that commits only while the lease is ours; repeated after contention.

        What it writes commits together with ``schedule(..., transaction=txn)`` or ``complete(..., transaction=txn)``, or,
        without either, as a checkpoint: fenced, but the attempt goes on. Under a resource key it is fenced by that as well.

        Raises:
            LeaseLostError: The lease, or the resource key, is somebody else's; nothing was written.
            ContentionError: Others kept changing the documents that it reads; nothing was written.
            UsageError: It is of a function that runs once, which has no transaction.
        """
        return fenced_transaction.run_transaction(running_of(self), fn)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """
        ``with attempt.transaction() as txn``: as ``run_transaction``, but the body runs once.

        Raises:
            LeaseLostError: The lease, or the resource key, is somebody else's; nothing was written.
            ContentionError: Others changed the documents that it reads; nothing was written, and the attempt is retried.
        """
        return fenced_transaction.transaction(running_of(self))


class Middleware(Protocol):
    """
    A function of the application that runs around each handler; see ``Locker``.
    """

    def __call__(self, attempt: Attempt, call_next: Callable[[], Any], /) -> Any:
        """
        Run around a handler.

        Args:
            attempt: The attempt.
            call_next: Runs the next middleware, at last the handler; returns its result or verdict, raises its error. It may be
                called once.

        Returns:
            A result or verdict in place of the handler's; usually that of *call_next*.
        """


current_attempt: ContextVar[Attempt | None] = ContextVar("oncetask_running", default=None)
"""The attempt whose handler runs in this context."""


def running_of(attempt: Attempt) -> RunningAttempt:
    """
    The library's own view of *attempt*.

    Raises:
        UsageError: It is of a function that runs once.
    """
    found = attempt._running  # noqa: SLF001 - hidden from users alone
    if not isinstance(found, RunningAttempt):
        raise UsageError("A function that runs once has no transaction of its attempt; open one of your own.")
    return found
