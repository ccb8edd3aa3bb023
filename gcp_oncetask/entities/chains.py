"""
Stored chains: their results, the verbs of a person (cancel, reset, resolve), and the dispatch of scheduled sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeVar, get_args, overload

from pydantic import BaseModel, TypeAdapter

from gcp_oncetask import rules
from gcp_oncetask.checks import values, words
from gcp_oncetask.checks.paths import trouble_with_path
from gcp_oncetask.config import Config
from gcp_oncetask.effects import damage, keys
from gcp_oncetask.effects.dispatch import cloud_task_name, dispatch
from gcp_oncetask.effects.owed_alerts import DirectAlerts
from gcp_oncetask.entities import models
from gcp_oncetask.entities.models import LockedModel
from gcp_oncetask.errors import (
    DamagedError,
    NotFinishedError,
    OncetaskError,
    ResultNotStoredError,
    TaskFailedError,
    TaskNotFoundError,
    UsageError,
)
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.rules import verbs
from gcp_oncetask.rules.decisions import CallRefused, NeedTime, Put
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.refusals import ERRORS, Refusal
from gcp_oncetask.rules.retention import too_late
from gcp_oncetask.runtime import addressing
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.client import Client
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.json_data import given_result
from gcp_oncetask.store.retiring import expiry_of
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot

M = TypeVar("M", bound=LockedModel)
R = TypeVar("R")
How = Literal["run", "complete", "fail"]
"""A person's decision on a quarantined step."""
_REVIVING: Final = frozenset({"reset", "resolve"})
"""Verbs that are refused when the retention is over."""


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
        made = Scheduled(
            lock.sequence,
            cloud_task_name(snapshot),
            dispatched=False,
            _dispatch=partial(dispatch, self._runtime, snapshot),
        )
        if now:
            made.dispatch()
        return made

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

    def show(self, path: str) -> Lock:
        """
        Return the lock of the document at *path*.

        Raises:
            TaskNotFoundError: There is no such document, or it was never scheduled.
        """
        return stored_chain(self._runtime, path)[1]

    # --- the verbs of a person ---

    def cancel(self, model: type[LockedModel], id: str, **parts: str) -> bool:  # noqa: A002 - the usual name
        """
        Cancel a chain. A waiting chain ends at once. A running one ends at its next settling; ``attempt.cancelled``
        shows the cancellation to its handler.

        Returns:
            True if this call cancelled the chain; False if it has ended, or if its cancellation is under way.

        Raises:
            TaskNotFoundError: There is no such document, or it was never scheduled.
            TaskConflictError: The document belongs to another environment.
            UsageError: The record is no chain, but a named lock for instance; the message says what to do instead.
        """
        return self.cancel_path(models.path_of(model, id, parts))

    def reset(
        self,
        model: type[LockedModel],
        id: str,  # noqa: A002 - the usual name
        *,
        keep_errors: bool = False,
        new_key: bool = False,
        step: int | None = None,
        **parts: str,
    ) -> Scheduled:
        """
        Run an ended step again, as a new sequence at the same URL. A step that did not complete keeps its
        ``attempt.key``.

        A damaged record in any status is written anew, with all values that can be read.

        Args:
            model: Model of the document.
            id: Its id.
            keep_errors: Whether to keep the list of failed attempts.
            new_key: Run a damaged step whose ``attempt.key`` can't be read with a new key.
            step: The step to run, 1-based; only for a damaged record whose step can't be read.
            **parts: The fields that the model's collection names.

        Raises:
            TaskNotFoundError, TaskConflictError, UsageError: As ``cancel``.
            AlreadyScheduledError: The step has not ended, or its record is damaged and its last lease may be held.
            DamagedError: The record can't be written anew with these arguments; the message says which one to add, or
                what to repair by hand.
        """
        path = models.path_of(model, id, parts)
        return self.reset_path(path, keep_errors=keep_errors, new_key=new_key, step=step)

    @overload
    def resolve(self, model: type[LockedModel], id: str, how: Literal["run"], **parts: str) -> Scheduled: ...
    @overload
    def resolve(
        self, model: type[LockedModel], id: str, how: Literal["complete"], *, result: Any = None, **parts: str
    ) -> None: ...
    @overload
    def resolve(self, model: type[LockedModel], id: str, how: Literal["fail"], **parts: str) -> None: ...
    def resolve(
        self,
        model: type[LockedModel],
        id: str,  # noqa: A002 - the usual name
        how: How,
        *,
        result: Any = None,
        **parts: str,
    ) -> Scheduled | None:
        """
        Resolve a quarantined step by a person's decision.

        Args:
            model: Model of the document.
            id: Its id.
            how: ``"run"``: run the step again; ``"complete"`` or ``"fail"``: end it as completed or failed.
            result: The result of the run; only with ``"complete"``.
            **parts: The fields that the model's collection names.

        Returns:
            The new sequence with ``"run"``, else None.

        Raises:
            TaskNotFoundError, TaskConflictError, UsageError: As ``cancel``.
            AlreadyScheduledError: The step is not quarantined.
        """
        return self.resolve_path(models.path_of(model, id, parts), how, result=result)

    def cancel_path(self, path: str) -> bool:
        """
        Cancel by the document's path; see ``cancel``.
        """
        decision, snapshot = self._by_hand(
            path, "cancel", lambda lock, seen: rules.cancel(lock, self._runtime.decision_context(seen))
        )
        if not isinstance(decision, Put):
            return False
        if decision.dispatch:
            dispatch(self._runtime, snapshot)
        if decision.lock.status is not Status.LEASED:
            keys.give_up_reservation(self._runtime, snapshot)
        return True

    def reset_path(
        self, path: str, *, keep_errors: bool = False, new_key: bool = False, step: int | None = None
    ) -> Scheduled:
        """
        Reset by the document's path; see ``reset``.
        """
        addressing.account(self._runtime)
        if step is not None:
            values.whole(step, "step")
        nonce = self._runtime.clock.nonce()
        decision: Put | CallRefused
        try:
            decision, snapshot = self._by_hand(
                path,
                "reset",
                lambda lock, seen: rules.reset(
                    lock, nonce, self._runtime.decision_context(seen), keep_errors=keep_errors
                ),
                schedules=True,
            )
        except DamagedError as error:
            decision, snapshot = self._anew(error, rules.Wishes(keep_errors, new_key, step))
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        return self._dispatched(snapshot)

    def _anew(self, error: DamagedError, wishes: rules.Wishes) -> tuple[Put | CallRefused, Snapshot]:
        """
        Write the record of a damaged chain anew.
        """
        if verbs.record_of(error.document, None, {}).sort not in verbs.VERBS["reset"]:
            raise UsageError(f"{error} It has no reset: delete the document. Nothing was written.") from error
        self._runtime.register(self._template_of(error.document), None)
        changed = damage.reset(
            self._runtime, error.document, wishes._replace(queue=addressing.queue_name(self._runtime, None))
        )
        return changed.decision, changed.snapshot

    def resolve_path(self, path: str, how: How, *, result: Any = None) -> Scheduled | None:
        """
        Resolve by the document's path; see ``resolve``.
        """
        words.check("how", how, get_args(How))
        addressing.account(self._runtime)
        nonce, kept = self._runtime.clock.nonce(), given_result(result)
        decision, snapshot = self._by_hand(
            path,
            "resolve",
            lambda lock, seen: rules.resolve(lock, how, nonce, self._runtime.decision_context(seen), result=kept),
            schedules=how == "run",
        )
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        return self._dispatched(snapshot) if decision.dispatch else None

    def _by_hand(
        self, path: str, verb: str, rule: Callable[[Lock, Snapshot], Put | CallRefused], *, schedules: bool = False
    ) -> tuple[Put | CallRefused, Snapshot]:
        env = self.config.env

        def decide(seen: Snapshot) -> Put | CallRefused | NeedTime:
            if seen.lock is None:
                return CallRefused(Refusal.MISSING, "it does not exist or was never scheduled")
            if seen.lock.env != env:
                return CallRefused(Refusal.FOREIGN, f"it belongs to environment {seen.lock.env!r}, not {env!r}")
            has_verb(verb, seen, seen.lock)
            late = too_late(expiry_of(seen), self._runtime.decision_context(seen)) if verb in _REVIVING else None
            return late or rule(seen.lock, seen)

        def changes(seen: Snapshot) -> Changes:
            template = self._template_of(seen.path)
            if schedules and seen.lock is not None:
                if seen.lock.url is not None:
                    addressing.check_target(self._runtime, seen.lock.url, seen.lock.queue or "", seen.lock.headers)
                # The commit comes next. From here on every sweep must know the collection.
                self._runtime.register(template, seen.lock.url)
            return NO_CHANGES

        # The document is read together with the server's time, which decides whether the retention is over.
        start = self._runtime.store.read(_checked(path)) if verb in _REVIVING else None
        changed = self._runtime.store.change(_checked(path), decide, start=start, changes=changes)
        decision = changed.decision
        if isinstance(decision, CallRefused) and decision.refusal in (Refusal.MISSING, Refusal.FOREIGN):
            raise refusal(path, decision)
        assert isinstance(decision, Put | CallRefused)
        return decision, changed.snapshot

    def _template_of(self, path: str) -> str:
        """
        Return the collection in which the record at *path* counts.

        Raises:
            UsageError: The record counts in no collection.
        """
        template = self._runtime.registry.template_of(path, self._runtime.collections, forgotten=True)
        if template is None:
            collection = path.rpartition("/")[0]
            raise UsageError(
                f"{path}: its record does not count. This library has never scheduled anything in {collection!r:.200}, "
                "so another writer of the document may have made the record up. If it is yours, set "
                f"ONCETASK_COLLECTIONS={collection[:200]}. Nothing was written.",
                document=path,
            )
        return template


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


def record_of(snapshot: Snapshot) -> verbs.Record:
    """
    Return the sort of the record: a chain, a once-task, a named lock, ...
    """
    fields = snapshot.fields
    known: dict[str, Any] = {name: decode(fields[name]) for name in ("name", "key", "recurrence") if name in fields}
    return verbs.record_of(snapshot.path, snapshot.lock, known)


def has_verb(verb: str, snapshot: Snapshot, lock: Lock) -> None:
    """
    Check that the record has *verb*.

    Raises:
        UsageError: The record does not have the verb; the message names the sort of the record, and what to do instead.
    """
    refused = verbs.refusal_of(verb, record_of(snapshot), lock)
    if refused is not None:
        raise ERRORS[refused.refusal](refused.reason, document=snapshot.path, verb=verb)


def _checked(path: str) -> str:
    trouble = trouble_with_path(path)
    if trouble is not None:
        raise UsageError(f"{path!r:.80} is not the path of a document, as orders/42 is: {trouble}.")
    return path


def refusal(path: str, refused: CallRefused) -> OncetaskError:
    """
    Return the error that the caller of a refused verb gets.
    """
    return ERRORS[refused.refusal](f"{path}: {refused.reason}. Nothing was written.", document=path)


def stored_chain(runtime: Runtime, path: str) -> tuple[Snapshot, Lock]:
    """
    Return the document at *path* and its lock.

    Raises:
        TaskNotFoundError: There is no such document, or it was never scheduled.
    """
    snapshot = runtime.store.get(_checked(path))
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
