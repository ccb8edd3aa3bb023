"""
The changes of a chain by a person, or by code outside a handler.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from gcp_oncetask.checks.values import storable_text
from gcp_oncetask.rules import family, journal, writes
from gcp_oncetask.rules.attempts import complete, continue_
from gcp_oncetask.rules.attention import Reason, attention, reason_of
from gcp_oncetask.rules.cutting import CutJournal
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put, Target
from gcp_oncetask.rules.journal import EntryState, JournalEntry, JournalWrite
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import (
    NO_RESULT,
    Acknowledgement,
    Act,
    Fingerprint,
    Lock,
    Person,
    Result,
    Status,
    superseded,
)
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant

MAX_ACTS: Final = 10
"""Acts of people that a record keeps."""


def cancel(lock: Lock, at: DecisionContext) -> Put | CallRefused:
    """
    Cancel a chain. If it waits, it ends at once, or by one more delivery if there may be a cancellation handler. If it
    runs, it ends at its next settling.
    """
    if lock.finished:
        return CallRefused(Refusal.ENDED, f"sequence {lock.sequence} is {lock.status} already")
    if lock.cancel_requested_at is not None:
        return CallRefused(Refusal.CANCELLING, "its cancellation is under way")
    # Payloads that were requested until now are cancelled with it; later ones are not.
    marked = family.orphaning(lock.but(cancel_requested_at=at.now, granted=lock.wanted))
    if lock.status is Status.LEASED:
        return Put(writes.with_due(marked, at) if marked.orphans else marked)
    return writes.cancelled(marked, at)


def reset(
    lock: Lock,
    nonce: str,
    at: DecisionContext,
    *,
    keep_errors: bool = False,
    fresh: bool = False,
    cut: CutJournal | None = None,
) -> Put | CallRefused:
    """
    Run an ended step again, as a new sequence. A step that did not complete keeps its idempotency key and its journal;
    with *fresh* it keeps neither, with *cut* it keeps its key and that shorter journal.
    """
    if not lock.finished and lock.status is not Status.QUARANTINED:
        return CallRefused(Refusal.NOT_ENDED, f"sequence {lock.sequence} is {lock.status}; only ended ones are reset")
    if lock.erased:
        return CallRefused(Refusal.ERASED, "its payload was erased; only its outcome is kept")
    if lock.scheduled_by is None:
        return CallRefused(
            Refusal.MISSING, "it was never scheduled, so no target is known to which it could be delivered"
        )
    if lock.open:
        return _unanswered(lock)
    target = Target(lock.url, lock.queue, lock.params, lock.headers, traceparent=lock.traceparent)
    again = writes.scheduled(lock, target, nonce, at, base=lock.base + 1)
    renewed = fresh or (lock.status is Status.COMPLETED and cut is None)
    kept = again.keyed if renewed else lock.keyed
    errors = lock.errors if keep_errors else ()
    written = lock.fingerprint
    if written is not None and written.data_hash == str(lock.sequence):
        # The fingerprint is an entity's, whose fields are those of the sequence before.
        written = Fingerprint(str(again.sequence), written.model)
    # A late holder of the step must not take this sequence for its own next one (attempts.was_applied).
    made = again.but(keyed=kept, errors=errors, fingerprint=written, scheduled_token=0)
    if cut is not None:
        if (cut.journal_before, cut.chunks_before) != (lock.journal, lock.chunks):
            return CallRefused(Refusal.MOVED, "its journal has changed meanwhile; look at it again")
        made = made.but(
            journal=cut.journal, chunks=cut.chunks, open=cut.open, mailbox=lock.mailbox, children=lock.children
        )
        made = journal.needing(made)
    elif not renewed and (lock.durable or lock.mailbox) and not superseded(lock):
        # The handler goes on where it has stopped, also with an event that it has taken, and that is in the mailbox alone.
        left = journal.left(lock)
        rows = made.but(journal=left.journal, chunks=left.chunks, mailbox=left.mailbox, children=left.children)
        made = journal.needing(rows)
    return Put(made, dispatch=True)


def _unanswered(lock: Lock) -> CallRefused:
    names = ", ".join(repr(intent.name) for intent in lock.open)
    return CallRefused(
        Refusal.UNDECIDED,
        f"it has begun {names} once, and no answer says yet whether that happened; answer first (resolve --run NAME)",
    )


def answer(lock: Lock, name: str, entry: JournalEntry, nonce: str, at: DecisionContext) -> Put | CallRefused:
    """
    Apply a person's answer about the run *name*, which was begun once and whose result is not known: *entry* has its
    result, or says that it did not happen. After the last answer the step runs again, with its journal and key, and is told
    of a cancellation that was requested; or a newer payload follows.
    """
    found = next((intent for intent in lock.open if intent.name == name), None)
    if lock.status is not Status.QUARANTINED or found is None:
        return CallRefused(
            Refusal.NOT_QUARANTINED, f"it is {lock.status}, and has no question about a run {name!r}{_last_act(lock)}"
        )
    if entry.state is EntryState.WITHDRAWN and at.now < found.over:
        return CallRefused(
            Refusal.RUNNING,
            f"the attempt that began {name!r} may still run until {instant(found.over)}; say so after that",
            found.over,
        )
    write = JournalWrite((entry,), closed=name, progress=True)
    known = journal.applied(lock, write, nonce)
    if known.open:
        return Put(known)
    if superseded(known):
        return writes.following(known.but(settled_by=nonce), at)
    put = reset(known, nonce, at, keep_errors=True)
    if isinstance(put, CallRefused) or known.cancel_requested_at is None:
        return put
    return put._replace(lock=put.lock.but(cancel_requested_at=known.cancel_requested_at))


def replace(lock: Lock, target: Target, nonce: str, at: DecisionContext) -> Put:
    """
    Store a newer payload for a task that exists: the newest payload always runs.

    A task that waits runs with the newer payload instead, as if the task were new. A task that runs is followed by one
    more run, even if this is called several times meanwhile; so is a quarantined task, once it is resolved. A task that
    has ended runs again.

    Source:
        esync's README and its first tests: of several requests with one key only the newest runs, and finishing an older
        one never swallows it.
    """
    newer = lock.but(wanted=lock.wanted + 1, wanted_by=nonce, traceparent=target.traceparent)
    if lock.finished:
        return Put(writes.scheduled(newer, target, nonce, at, base=lock.sequence), dispatch=True)
    if lock.status is not Status.SCHEDULED:
        return Put(newer.but(wait_until=target.wait_until))
    if lock.open:
        return writes.asked(newer, at)
    if lock.durable:
        # The journal is of the payload before.
        now = family.orphaning(newer.but(granted=newer.wanted, cancel_requested_at=None, cancelling=False))
        return Put(writes.scheduled(now, target, nonce, at, base=lock.sequence), dispatch=True)
    moved = target.wait_until != lock.wait_until or lock.cancel_requested_at is not None
    fresh = newer.but(
        granted=newer.wanted,
        attempts=0,
        errors=(),
        wait_until=target.wait_until,
        cancel_requested_at=None,
        cancelling=False,
        dispatches=lock.dispatches + moved,
        ready_at=None if moved else lock.ready_at,
        parked=None if moved else lock.parked,
    )
    return Put(writes.with_due(fresh, at), dispatch=moved)


def redeclare(lock: Lock, target: Target, nonce: str, at: DecisionContext) -> Put | CallRefused:
    """
    Store a newer payload or schedule for a generator; it holds for all occurrences that the generator makes from now on.

    A generator that waits, paused or not, is due at *target*'s time instead; one that has ended recurs again. If *target*
    has no time, the schedule is over, and the generator ends.
    """
    if lock.status is not Status.SCHEDULED and not lock.finished:
        return CallRefused(_occupied(lock), f"it is {lock.status}")
    revision, upcoming = lock.wanted + 1, target.wait_until
    # A generator has no attempts, so the newer payload is in force at once.
    newer = lock.but(wanted=revision, granted=revision, wanted_by=nonce, traceparent=target.traceparent)
    if upcoming is None and lock.finished:
        return CallRefused(Refusal.ENDED, f"it is {lock.status}, and its new schedule has no run left")
    if upcoming is None:
        return writes.ended(newer, Status.COMPLETED, at, Outcome.COMPLETED)
    if lock.finished:
        return Put(writes.scheduled(newer.but(paused=False), target, nonce, at, base=lock.sequence), dispatch=True)
    moved = upcoming != lock.wait_until
    ready_at = None if moved else lock.ready_at
    fresh = newer.but(wait_until=upcoming, dispatches=lock.dispatches + moved, ready_at=ready_at)
    return Put(writes.with_due(fresh, at), dispatch=moved and not lock.paused)


def pause(lock: Lock, at: DecisionContext) -> Put | CallRefused:
    """
    Let a generator make no occurrences until it is resumed.
    """
    if lock.finished:
        return CallRefused(Refusal.ENDED, f"it is {lock.status}; only what recurs can be paused")
    if lock.paused:
        return CallRefused(Refusal.PAUSED, "it is paused already")
    return Put(writes.with_due(lock, at, paused=True))


def resume(lock: Lock, at: DecisionContext) -> Put | CallRefused:
    """
    Let a generator go on; its misfire policy decides about the occurrences that were due meanwhile.
    """
    if not lock.paused:
        return CallRefused(Refusal.NOT_PAUSED, "it is not paused")
    again = writes.with_due(lock, at, paused=False, ready_at=None, dispatches=lock.dispatches + 1)
    return Put(again, dispatch=True)


def resolve(lock: Lock, how: str, nonce: str, at: DecisionContext, *, result: Result = NO_RESULT) -> Put | CallRefused:
    """
    Apply a person's decision about a quarantined step: ``run`` it again, or record it as ``complete`` or ``fail``ed. A step
    that a person has failed is dismissed.
    """
    if lock.status is not Status.QUARANTINED:
        return CallRefused(
            Refusal.NOT_QUARANTINED,
            f"sequence {lock.sequence} is {lock.status}; only quarantined ones are resolved{_last_act(lock)}",
        )
    if lock.open:
        return _unanswered(lock)
    signed = lock.but(settled_by=nonce)
    match how:
        case "run":
            return reset(lock, nonce, at, keep_errors=True)
        case "complete":
            return complete(signed, result, at)
        case _:
            noted = writes.noted(signed, "resolved as failed by a person", at)
            put = writes.ended(noted, Status.FAILED, at, Outcome.FAILED)
            return Put(_dismissed(put.lock, at), put.outcome) if put.lock.status is Status.FAILED else put


def happened(
    lock: Lock, target: Target | None, nonce: str, at: DecisionContext, *, result: Result
) -> Put | CallRefused:
    """
    Record a person's finding that a quarantined or failed step has happened: the chain goes on at *target*, as if the
    handler had returned ``Continue``, with a new idempotency key; or it ends with *result*, if *target* is None.
    """
    if lock.status is not Status.QUARANTINED and (lock.status is not Status.FAILED or not lock.attempts):
        return CallRefused(
            Refusal.NOT_QUARANTINED,
            f"sequence {lock.sequence} is {lock.status}; only a quarantined step, or a failed one that was attempted, can "
            f"have happened{_last_act(lock)}",
        )
    if lock.erased:
        return CallRefused(Refusal.ERASED, "its payload was erased; only its outcome is kept")
    if lock.open:
        return _unanswered(lock)
    signed = lock.but(settled_by=nonce)
    if target is None:
        return complete(signed, result, at)
    put = continue_(signed, target, nonce, at)
    if put.lock.status is not Status.SCHEDULED:
        return put
    known = put.lock.but(result=result.value, result_json=put.lock.note(result.text), scheduled_token=0)
    return put._replace(lock=known)


def dismiss(lock: Lock, at: DecisionContext) -> Put | CallRefused:
    """
    Take a failed record, or one whose result is lost, off the list of those that need a person.
    """
    reason = reason_of(lock)
    if reason in (None, Reason.DISMISSED):
        said = "it is dismissed already" if reason else f"it is {lock.status}, and needs no person"
        return CallRefused(Refusal.NOT_NEEDED, said)
    if reason in (Reason.FAILED, Reason.RESULT_LOST):
        return Put(_dismissed(lock, at))
    then = "decide it by resolve" if reason is Reason.QUARANTINED else "mend its cause"
    return CallRefused(Refusal.UNDECIDED, f"it is {reason}: {then}, or silence its reminders by ack")


def acknowledge(lock: Lock, by: str, until: datetime, at: DecisionContext) -> Put | CallRefused:
    """
    Let no reminder name the record before *until*; its list shows who has promised to attend to it.
    """
    if reason_of(lock) in (None, Reason.DISMISSED):
        return CallRefused(Refusal.NOT_NEEDED, f"it is {lock.status}, and needs no person")
    if until <= at.now:
        return CallRefused(Refusal.ENDED, f"{instant(until)} has passed")
    return Put(lock.but(acknowledged=Acknowledgement(lock.sequence, lock.token, by, until)))


def mark(lock: Lock) -> str:
    """
    Return the mark of the state on which a person decides, in place of a version. The mark changes with each sequence, newer
    payload, cancellation and act of a person, and with each end. It does not change with a renewal, a look of the sweeper or
    an alert that was sent; nor with the attempts of a record that goes on by itself.
    """
    last = lock.acts[-1:]
    parts: list[object] = [lock.keyed, lock.scheduled_by, lock.wanted, lock.wanted_by, lock.cancel_requested_at]
    parts.append(lock.paused)
    parts += [(instant(act.at), act.verb, act.by) for act in last]
    if lock.status not in (Status.SCHEDULED, Status.LEASED):
        parts += [str(lock.status), lock.token, lock.settled_by]
    return f"{lock.sequence}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"


def moved(lock: Lock, wanted: str | None, version: str) -> CallRefused | None:
    """
    Return the refusal of an act that was decided on the *wanted* version or ``mark`` of a record whose *version* is another
    one now; None: it may go on.
    """
    if wanted is None or wanted in (version, mark(lock)):
        return None
    return CallRefused(
        Refusal.MOVED,
        f"it has changed since version {wanted} and is {lock.status} now, at sequence {lock.sequence}{_last_act(lock)}; look "
        "at it again",
    )


def acted(put: Put, act: Act) -> Put:
    """
    Return *put* with a person's *act* in the record, which keeps the last ten.
    """
    return put._replace(lock=put.lock.but(acts=(*put.lock.acts, act)[-MAX_ACTS:]))


def act_of(verb: str, person: Person, lock: Lock, note: str | None, at: datetime) -> Act:
    """
    Return the record of an act on *lock* as it was before.
    """
    text = None if note is None else storable_text(note)[: writes.MAX_MESSAGE]
    return Act(at, verb, person.name, person.proven, person.claimed, str(lock.status), lock.sequence, text)


def _dismissed(lock: Lock, at: DecisionContext) -> Lock:
    return lock.but(attention=attention(lock, at, Reason.DISMISSED))


def _last_act(lock: Lock) -> str:
    """
    Return the last act of a person as the end of a sentence; empty if there is none.
    """
    if not lock.acts:
        return ""
    last = lock.acts[-1]
    beside = f", as {last.claimed}," if last.claimed else ""
    return f"; {last.by}{beside} chose {last.verb} at {instant(last.at)}"


def finish(lock: Lock | None, loaded: int | None, result: Result, nonce: str, at: DecisionContext) -> Put | CallRefused:
    """
    Complete a chain from outside its handler, if it is still at the sequence that was loaded.
    """
    if lock is None:
        return CallRefused(Refusal.MISSING, "it was never scheduled")
    if lock.env != at.env:
        return CallRefused(Refusal.FOREIGN, f"it belongs to environment {lock.env!r}, not {at.env!r}")
    if lock.finished:
        return CallRefused(Refusal.ENDED, f"its chain has ended at sequence {lock.sequence}: {lock.status}")
    if lock.status is not Status.SCHEDULED:
        return CallRefused(_occupied(lock), f"sequence {lock.sequence} is {lock.status}")
    if loaded != lock.sequence:
        return CallRefused(Refusal.MOVED, f"it has moved on to sequence {lock.sequence}; load it again")
    return complete(lock.but(settled_by=nonce), result, at)


def _occupied(lock: Lock) -> Refusal:
    """
    Return the reason for which a record is refused that neither waits nor has ended.
    """
    return Refusal.RUNNING if lock.status is Status.LEASED else Refusal.QUARANTINED
