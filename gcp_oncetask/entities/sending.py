"""
Events for durable handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.chains import checked, refusal
from gcp_oncetask.errors import TaskNotFoundError, UsageError
from gcp_oncetask.execution.fenced_transaction import after_commit, fencing
from gcp_oncetask.execution.journaling import checked_name
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.waits import LONGEST_EVENT_ID, MAX_MAILBOX, SentEvent
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.json_data import parameters
from gcp_oncetask.store.needs import check_needs
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot


@dataclass(slots=True)
class Sent:
    """
    The result of ``send``.

    Attributes:
        id: Id of the event.
        stored: Whether this call stored it; False: an event with this id was stored before. That may have been by this call,
            too, if the *id* was given, an answer of Firestore was lost, and the handler took the event before the call asked
            again.
        woke: Whether the handler waited for it, so that it is delivered now.
        late: Whether the handler's wait for it had timed out.
        dispatched: Whether the Cloud Task that wakes the handler was created; if not, the sweeper creates it.
        created: Whether this call created the task for its event (``create=``).
    """

    id: str
    stored: bool
    woke: bool = False
    late: bool = False
    dispatched: bool = False
    created: bool = False
    _dispatch: Callable[[], bool] | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.stored

    def dispatch(self) -> bool:
        """
        Create the Cloud Task, after the caller's own transaction was committed. Repeated calls are safe.

        Returns:
            Whether the Cloud Task was created, or none is needed.
        """
        if self._dispatch is None:
            return True
        if not self.dispatched:
            self.dispatched = self._dispatch()
        return self.dispatched


class Creation(NamedTuple):
    """
    The creation of a record that does not exist when its first event comes.

    Attributes:
        decide: Decides about a document that does not exist.
        changes: Returns the fields that are stored with the decision.
    """

    decide: Callable[[Snapshot], Put | CallRefused]
    changes: Callable[[Snapshot], Changes]


def send(
    runtime: Runtime,
    path: str,
    name: str,
    payload: Any = None,
    *,
    id_: str | None = None,
    transaction: Transaction | None = None,
    create: Creation | None = None,
) -> Sent:
    """
    Send an event to the handler of the record at *path*: one commit, and one Cloud Task if the handler waits for it.

    Args:
        runtime: Shared parts.
        path: The document.
        name: Name of the event.
        payload: JSON data or a pydantic model.
        id_: Id by which a repeated event is dropped; None: one is drawn, which this call keeps when it repeats its commit.
        transaction: Transaction of which the write becomes a part.
        create: Creates the record, if the document does not exist, in the same commit.

    Raises:
        TaskNotFoundError: There is no such document, or it was never scheduled.
        AlreadyFinishedError: The task has ended.
        MailboxFullError: The mailbox is full of events that no wait has taken.
        UsageError: The name, the id or the payload is invalid.
        StoreError: Firestore was unreachable or refused.
    """
    checked(path)
    drawn = id_ is None
    if id_ is None:
        id_ = runtime.clock.nonce()
    elif not isinstance(id_, str) or not 0 < len(id_) <= LONGEST_EVENT_ID:
        raise UsageError(f"id is {values.shown(id_)}; it must be a text of 1 to {LONGEST_EVENT_ID} characters.")
    data = parameters(payload, "the event")
    checked_name(name)
    nonce = runtime.clock.nonce()
    late = created = False
    tried: dict[bytes, Put] = {}

    def decide(seen: Snapshot) -> Put | CallRefused:
        nonlocal late, created
        created = create is not None and not seen.exists
        new = create.decide(seen) if create is not None and created else None
        if isinstance(new, CallRefused):
            return new
        lock = seen.lock if new is None else new.lock
        if lock is None:
            raise TaskNotFoundError(f"{path} does not exist or was never scheduled.", document=path)
        at = runtime.decision_context(seen)
        event = SentEvent(id_, name, at.now, data)
        if len(event.to_bytes()) > MAX_MAILBOX:
            raise UsageError(f"The event has more than {MAX_MAILBOX:,} bytes. Store it elsewhere, and send its name.")
        late = rules.is_late(lock, event)
        put = rules.send(lock, event, nonce, at)
        if isinstance(put, CallRefused):
            return put
        tried[event.to_bytes()] = put
        return put if new is None else put._replace(dispatch=new.dispatch)

    def changes(seen: Snapshot) -> Changes:
        return NO_CHANGES if create is None or seen.exists else create.changes(seen)

    if transaction is not None:
        made = _join(runtime, path, decide, changes, id_, transaction)
        made.created, made.late = made.stored and created, made.stored and late
        return made
    changed = runtime.store.change(path, decide, changes=changes, room=create is not None)
    decision = changed.decision
    if isinstance(decision, CallRefused):
        if decision.refusal is not Refusal.DUPLICATE:
            raise refusal(path, decision)
        if not _is_own(changed.snapshot.lock, tried, drawn=drawn):
            return Sent(id_, stored=False)
        # An earlier try of this call was applied, its answer was lost, and a later commit has overwritten its nonce.
        return Sent(id_, stored=True, woke=list(tried.values())[-1].dispatch)
    made = Sent(id_, stored=True, woke=decision.dispatch and not created, late=late, created=created)
    then = "its handler is woken" if made.woke else "no wait has taken it yet"
    runtime.events.event_sent(runtime.about(changed.snapshot), f"the event {name!r} is stored; {then}")
    if decision.dispatch and decision.lock.url is not None:
        runtime.events.scheduled(changed.snapshot)
        made._dispatch = partial(dispatch, runtime, changed.snapshot)  # noqa: SLF001 - our own class
        made.dispatch()
    return made


def _is_own(lock: Lock | None, tried: Mapping[bytes, Put], *, drawn: bool) -> bool:
    """
    Tell whether a known event is one that this call has *tried* to store: no other call has an id that was *drawn* for this one.
    """
    return bool(tried) and (drawn or (lock is not None and not tried.keys().isdisjoint(lock.mailbox)))


def _join(
    runtime: Runtime,
    path: str,
    decide: Callable[[Snapshot], Put | CallRefused],
    changes: Callable[[Snapshot], Changes],
    id_: str,
    transaction: Transaction,
) -> Sent:
    snapshot = transactions.read_in(runtime.store, transaction, path)
    check_needs(snapshot)
    decision = decide(snapshot)
    if isinstance(decision, CallRefused):
        if decision.refusal is Refusal.DUPLICATE:
            return Sent(id_, stored=False)
        raise refusal(path, decision)
    transactions.add_write(runtime.store, transaction, snapshot, decision, changes(snapshot))
    made = Sent(id_, stored=True, woke=decision.dispatch and snapshot.exists)
    if decision.dispatch and decision.lock.url is not None:
        later = Snapshot(path, None, None, decision.lock, whole=False)
        made._dispatch = partial(dispatch, runtime, later)  # noqa: SLF001 - our own class
        attempt = fencing(transaction)
        if attempt is not None:
            after_commit(attempt, made.dispatch, transaction)
    return made
