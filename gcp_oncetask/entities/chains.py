"""
Stored chains: their records and results, and the dispatch of scheduled sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, overload

from pydantic import BaseModel, TypeAdapter

from gcp_oncetask.checks.paths import trouble_with_path
from gcp_oncetask.clock import Duration
from gcp_oncetask.config import Config
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.effects.owed_alerts import DirectAlerts
from gcp_oncetask.entities import models
from gcp_oncetask.entities.models import LockedModel
from gcp_oncetask.errors import (
    NotFinishedError,
    OncetaskError,
    ResultNotStoredError,
    TaskFailedError,
    TaskNotFoundError,
    UsageError,
)
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.finding import searching
from gcp_oncetask.finding.criteria import criteria
from gcp_oncetask.finding.searching import Page
from gcp_oncetask.rules import verbs
from gcp_oncetask.rules.decisions import CallRefused
from gcp_oncetask.rules.delivery import cloud_task_id
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.refusals import ERRORS
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.client import Client
from gcp_oncetask.store.records import record_of
from gcp_oncetask.store.snapshot import Snapshot

M = TypeVar("M", bound=LockedModel)
R = TypeVar("R")


@dataclass(slots=True)
class Scheduled:
    """
    The result of ``schedule``.

    Attributes:
        sequence: The new sequence, 1-based; for a cancelled chain, its last sequence.
        task_name: Full name of the Cloud Task; None if there is none, for instance because the chain was cancelled.
        dispatched: Whether the Cloud Task was created; if not, the sweeper creates it.
        cancelled: Whether the chain was cancelled while the handler ran; then it has ended here.
    """

    sequence: int
    task_name: str | None
    dispatched: bool
    cancelled: bool = False
    _dispatch: Callable[[], bool] | None = field(default=None, repr=False)

    def dispatch(self) -> bool:
        """
        Create the Cloud Task, after the caller's own transaction was committed. Repeated calls are safe.

        Returns:
            Whether the Cloud Task was created.
        """
        if not self.dispatched and self._dispatch is not None:
            self.dispatched = self._dispatch()
        return self.dispatched


class StoredChains:
    """
    The chains of one environment.

    Args:
        executor: Shared parts.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._runtime = executor.runtime
        self._runtime.observe(DirectAlerts(self._runtime))

    @property
    def config(self) -> Config:
        """
        Settings of the library.
        """
        return self._runtime.config

    @property
    def client(self) -> Client:
        """
        Firestore client of this process, for reads and writes of your own.
        """
        return self._runtime.wire.client

    def _dispatched(self, snapshot: Snapshot, *, now: bool = True) -> Scheduled:
        """
        Return the sequence scheduled in *snapshot*. Its Cloud Task is created *now*, or when ``dispatch()`` is called
        on it.
        """
        lock = snapshot.lock
        assert lock is not None
        self._runtime.events.scheduled(snapshot)
        if lock.url is None:
            return Scheduled(lock.sequence, None, dispatched=True)
        task_id = cloud_task_id(snapshot.path, lock)
        send = partial(dispatch, self._runtime, snapshot, task_id)
        name = f"{lock.queue}/tasks/{task_id}"
        return Scheduled(lock.sequence, name, dispatched=now and send(), _dispatch=send)

    @overload
    def result(self, model: type[LockedModel], id: str, *, as_: type[R], **parts: str) -> R: ...
    @overload
    def result(self, model: type[LockedModel], id: str, *, as_: Any = None, **parts: str) -> Any: ...
    def result(self, model: type[LockedModel], id: str, *, as_: Any = None, **parts: str) -> Any:  # noqa: A002
        """
        Return the result of the last completed run.

        Args:
            model: Model of the document.
            id: Id of the document.
            as_: A pydantic model or any type into which the result is read; None: JSON data.
            **parts: The fields that the model's collection names.

        Raises:
            TaskNotFoundError: There is no such document, or it was never scheduled.
            NotFinishedError: It has not completed yet.
            TaskFailedError: It failed, was cancelled or is quarantined.
        """
        path = models.path_of(model, id, parts)
        return result_of(path, self.show(path), as_)

    def find(
        self,
        *,
        status: str | None = None,
        reason: str | None = None,
        collection: str | None = None,
        kind: str | None = None,
        key: str | None = None,
        older_than: Duration | None = None,
        newer_than: Duration | None = None,
        dismissed: bool = False,
        scan: bool = False,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """
        Return records, entities and once-tasks alike, page by page: without a status, those that need a person, the oldest
        first. ``Page.index`` tells which index served the search.

        Args:
            status: ``scheduled``, ``leased``, ``completed``, ``failed``, ``cancelled`` or ``quarantined``.
            reason: Reason for which a person is needed, such as ``failed`` or ``stuck``.
            collection: Collection or template; None: all that are known to this process or registered.
            kind: Kind of once-tasks.
            key: Resource key of once-tasks of that kind.
            older_than: Least age, seconds or a timedelta.
            newer_than: Greatest age, seconds or a timedelta.
            dismissed: Find the records that a person has dismissed, instead of those that need one.
            scan: Read all documents of a collection if no index serves the search, one document read each.
            limit: Most records of the page, 1 to 1000.
            after: ``next`` of the page before.

        Raises:
            UsageError: A value is invalid; or no index serves the search. Then the message has the line of
                ``firestore.indexes.json`` that would make one.
            StoreError: Firestore was unreachable or refused.
        """
        wanted = criteria(
            status=status,
            reason=reason,
            collection=collection,
            kind=kind,
            key=key,
            older_than=older_than,
            newer_than=newer_than,
            dismissed=dismissed,
            scan=scan,
        )
        return searching.find(self._runtime, wanted, limit=limit, after=after)

    def show(self, path: str) -> Lock:
        """
        Return the lock of the document at *path*.

        Raises:
            TaskNotFoundError: There is no such document, or it was never scheduled.
        """
        return stored_chain(self._runtime, path)[1]


def result_of(path: str, lock: Lock, as_: Any = None) -> Any:
    """
    Return the result in a record, as JSON data, or read into *as_*, a pydantic model or any type.

    Raises:
        NotFinishedError: It has not completed yet.
        TaskFailedError: It failed, was cancelled or is quarantined.
        ResultNotStoredError: The run has completed, and its result could not be stored.
    """
    if lock.status in (Status.FAILED, Status.CANCELLED, Status.QUARANTINED):
        last = f": {lock.errors[-1].message}" if lock.errors else ""
        raise TaskFailedError(f"{path}: sequence {lock.sequence} is {lock.status}{last}.", document=path, lock=lock)
    if lock.status is not Status.COMPLETED:
        raise NotFinishedError(f"{path}: sequence {lock.sequence} is {lock.status}.", document=path, lock=lock)
    data = returned_by(path, lock)
    if as_ is None:
        return data
    if isinstance(as_, type) and issubclass(as_, BaseModel):
        return as_.model_validate(data)
    return TypeAdapter(as_).validate_python(data)


def returned_by(path: str, lock: Lock) -> Any:
    """
    Return the result of the completed run, as JSON data.

    Raises:
        ResultNotStoredError: The result could not be stored.
    """
    returned = lock.returned
    if returned.lost is not None:
        raise ResultNotStoredError(
            f"{path}: sequence {lock.sequence} is completed, but its result could not be stored: {returned.lost}",
            document=path,
            sequence=lock.sequence,
            reason=returned.lost,
        )
    return returned.data()


def has_verb(verb: str, snapshot: Snapshot, lock: Lock) -> None:
    """
    Check that the record has *verb*.

    Raises:
        UsageError: The record does not have the verb; the message names the sort of the record, and what to do instead.
    """
    refused = verbs.refusal_of(verb, record_of(snapshot), lock)
    if refused is not None:
        raise ERRORS[refused.refusal](refused.reason, document=snapshot.path, verb=verb)


def checked(path: str) -> str:
    """
    Return *path*, a document's.

    Raises:
        UsageError: It can't be the path of a document.
    """
    trouble = trouble_with_path(path)
    if trouble is not None:
        raise UsageError(f"{path!r:.80} is not the path of a document, as orders/42 is: {trouble}.")
    return path


def refusal(path: str, refused: CallRefused) -> OncetaskError:
    """
    Return the error that the caller of a refused verb gets.
    """
    sentence = f"{path}: {refused.reason}. Nothing was written."
    return ERRORS[refused.refusal](sentence, document=path, refusal=str(refused.refusal))


def stored_chain(runtime: Runtime, path: str) -> tuple[Snapshot, Lock]:
    """
    Return the document at *path* and its lock.

    Raises:
        TaskNotFoundError: There is no such document, or it was never scheduled.
    """
    snapshot = runtime.store.get(checked(path))
    if snapshot.lock is None:
        raise TaskNotFoundError(f"{path} does not exist or was never scheduled.", document=path)
    return snapshot, snapshot.lock


def executor_of(locker: StoredChains) -> Executor:
    """
    Return the executor of *locker*, for the library's own modules.
    """
    return locker._executor  # noqa: SLF001 - hidden from users only


def runtime_of(locker: StoredChains) -> Runtime:
    """
    Return the shared parts of *locker*, for the library's own modules.
    """
    return locker._runtime  # noqa: SLF001 - hidden from users only
