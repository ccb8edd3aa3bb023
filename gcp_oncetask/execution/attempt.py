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

from gcp_oncetask.execution import durable_transaction, fenced_transaction
from gcp_oncetask.execution.durable_words import DurableWords
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.execution.value_words import running_of
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.client import Transaction

T = TypeVar("T")


class Attempt(DurableWords):
    """
    One granted lease: one attempt to run one sequence.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Attempt:
        """
        Return this attempt itself: a copied task belongs to the same attempt.
        """
        return self

    @property
    def step(self) -> int:
        """
        Number of the step within its chain, 1-based.
        """
        return self._running.granted.step

    @property
    def sequence(self) -> int:
        """
        Number of the document's sequence, 1-based, never repeated.
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
        The ``params`` given to ``schedule``; JSON data.
        """
        return self._running.granted.params

    @property
    def delivery(self) -> TaskHeaders | None:
        """
        Headers of the Cloud Task, typed; None if a worker pulled the task. They are information and prove no identity.
        """
        return self._running.delivery

    @property
    def key(self) -> str:
        """
        Idempotency key for calls of remote services; it is the same for every attempt of this sequence.
        """
        return self._running.key

    @property
    def lost(self) -> Event:
        """
        Event that is set as soon as this process knows that the lease is lost.
        """
        return self._running.lost

    @property
    def cancelled(self) -> bool:
        """
        True if a cancellation has been seen; each renewal and each checkpoint looks for one.
        """
        return self._running.cancelled

    def held_for(self) -> float:
        """
        Return the seconds for which this process may still rely on its lease; negative after the end of that time.
        """
        return self._running.held_for()

    def remaining(self) -> float:
        """
        Return the seconds until ``deadline``; 0 once it has passed or the lease is lost.
        """
        return self._running.remaining()

    @property
    def deadline(self) -> datetime:
        """
        Time by which the attempt must be over, by the wall clock in UTC. The time is the earliest of run limit, dispatch
        deadline and request time-out. If the lease is not renewed, its end counts, too.
        """
        return self._running.runtime.clock.now() + timedelta(seconds=self.remaining())

    def renew(self) -> None:
        """
        Renew the lease, so that its full length counts from now. This is needed only with ``renew=False``, or before a
        step that must not be interrupted.

        Raises:
            LeaseLostError: The attempt does not hold its lease any more.
            StoreError: Firestore was unreachable; the lease goes on until its end.
        """
        self._running.renew()

    def run_transaction(self, fn: Callable[[Transaction], T], *, name: str | None = None) -> T:
        """
        Run ``fn(txn)`` in a Firestore transaction that commits only while this attempt holds its lease. After
        contention it is repeated.

        Its writes commit together with ``schedule(..., transaction=txn)`` or ``complete(..., transaction=txn)``.
        Without either they commit as a checkpoint: they are fenced, and the attempt goes on. Under a resource key they
        are fenced by the key as well.

        With a *name* it is a word of a durable handler: the writes and the result commit together, exactly once. A later
        attempt returns the result, and does not call *fn*. The transaction can't end the attempt then.

        Args:
            fn: A plain function; it may be called several times.
            name: Name of the word, unique in the handler; None: no result is kept.

        Raises:
            LeaseLostError: The attempt does not hold its lease or its resource key any more; nothing was written.
            ContentionError: Others kept changing the documents that *fn* reads; nothing was written.
            UsageError: The attempt belongs to a function that runs once, which has no transaction; or the result can't be
                kept under the name; nothing was written.
            StoreError: Firestore was unreachable or refused. If the commit may be applied (``unknown``), the attempt is
                over; the next one finds out.
        """
        if name is not None:
            return durable_transaction.answer(journal_of(running_of(self)), name, fn)
        return fenced_transaction.run_transaction(running_of(self), fn)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """
        Open a transaction, ``with attempt.transaction() as txn``; as ``run_transaction``, but the body runs once.

        Raises:
            LeaseLostError: The attempt does not hold its lease or its resource key any more; nothing was written.
            ContentionError: Others changed the documents that the body reads; nothing was written, and the attempt is
                retried.
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
            call_next: Runs the next middleware, and finally the handler. It returns its result or verdict, and raises
                its error. It may be called once.

        Returns:
            The result or verdict of the attempt, usually the one that *call_next* has returned.
        """


current_attempt: ContextVar[Attempt | None] = ContextVar("oncetask_running", default=None)
"""The attempt whose handler runs in this context."""
