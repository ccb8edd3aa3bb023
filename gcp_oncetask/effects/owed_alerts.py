"""
Owed alerts: they are sent after the commit that decided on them, by one sender at a time, until it is recorded that
they are sent.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.effects.commands import command_line, deciding_lines
from gcp_oncetask.effects.kinship import kinship_of
from gcp_oncetask.effects.windows import DAMAGED, count, retiring, wait_of
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.observe.log_filters import logs_link
from gcp_oncetask.observe.observers import Observer
from gcp_oncetask.rules import choices, floods, verbs
from gcp_oncetask.rules.decisions import NeedTime, Put
from gcp_oncetask.rules.document_paths import is_digest
from gcp_oncetask.rules.record import Event, Failure, Lock, PendingAlert, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.writes import RESULT_LOST
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.lock_codec import WHOLE
from gcp_oncetask.store.snapshot import Changes, Snapshot

_AFTERWARDS: Final = timedelta(minutes=1)
"""Time after the end of a lease, or after the verdict, that the link to the logs shows."""


def newly_owed(before: Lock | None, after: Lock | None) -> tuple[str, ...]:
    """
    Return the ids of the alerts that *after* owes and *before* does not. The process that has committed the change
    sends them first.
    """
    if after is None or not after.owed:
        return ()
    known = {owed.id for owed in before.owed} if before is not None else set()
    return tuple(owed.id for owed in after.owed if owed.id not in known)


def send_newly_owed(runtime: Runtime, before: Lock | None, after: Snapshot, decided: Mark) -> int:
    """
    Send the alerts that the step from *before* to *after* owes, as ``send_owed`` does; return the number of sent alerts.
    """
    return send_owed(runtime, after, newly_owed(before, after.lock), decided)


def send_owed(runtime: Runtime, snapshot: Snapshot, ids: Sequence[str], decided: Mark) -> int:
    """
    Send the alerts on which this process has decided at *decided*, or let them wait; return the number sent.

    A failure is logged. The alerts then stay owed, and a sweep sends them.
    """
    if not ids:
        return 0
    if not runtime.config.alert_window:
        return send_each(runtime, snapshot, ids, decided)
    try:
        return send_in_turn(runtime, snapshot, ids)
    except OncetaskError as error:
        runtime.about(snapshot).log(logging.ERROR, "whether its alerts wait could not be recorded: %s", error)
        return 0


def send_in_turn(runtime: Runtime, snapshot: Snapshot, ids: Sequence[str]) -> int:
    """
    Send the alerts that need not wait; the others wait for the end of a window. It is first recorded which of them
    wait. Return the number sent.

    Raises:
        OncetaskError: As ``Store.change``; nothing was sent.
    """
    decided = [owed for owed in snapshot.lock.owed if owed.id in ids] if snapshot.lock is not None else []
    turns = {}
    for owed in decided:
        if rules.is_decided(owed):
            alert = alert_of(runtime, snapshot, owed)
            turns[owed.id] = wait_of(runtime, alert, owed.id, alert.id)
    mark = runtime.clock.mark()
    mine: list[str] = []

    def decide(seen: Snapshot) -> Put | None:
        if seen.lock is None:
            return None
        mine[:] = [o.id for o in seen.lock.owed if o.id in turns and turns[o.id] is None and rules.is_decided(o)]
        return rules.assigned(seen.lock, turns, runtime.decision_context(seen))

    changed = runtime.store.change(snapshot.path, decide, start=snapshot)
    return send_each(runtime, changed.snapshot, mine, mark) if isinstance(changed.decision, Put) else 0


def send_each(runtime: Runtime, snapshot: Snapshot, ids: Sequence[str], decided: Mark) -> int:
    """
    Send each alert of which this process is the trusted sender since *decided*; return the number sent. After a
    failure, which is logged, an alert stays owed.
    """
    sent = []
    for owed in snapshot.lock.owed if snapshot.lock is not None else ():
        # When the time for which a sender is trusted is over, it must leave the alert to the next sender.
        if owed.id not in ids or elapsed(decided, runtime.clock.mark()) > runtime.config.alert_retry * 0.75:
            continue
        try:
            runtime.alerts.send(alert_of(runtime, snapshot, owed))
        except Exception as error:  # noqa: BLE001 - a channel is user code and may raise anything; no outcome depends on it
            about = runtime.about(snapshot, owed.sequence, owed.attempt)
            about.log(logging.ERROR, "the alert of its %s is still owed: %s", owed.event, error)
        else:
            sent.append(owed.id)
    if sent:
        record_sent(runtime, snapshot, sent)
    return len(sent)


def record_sent(runtime: Runtime, snapshot: Snapshot, sent: Collection[str]) -> None:
    """
    Record that these alerts of the document are sent. A failure is logged, and a sweep comes back to them.
    """
    try:
        note_sent(runtime, snapshot, sent)
    except OncetaskError as error:
        about = runtime.about(snapshot)
        about.log(logging.ERROR, "an alert was sent, but that could not be recorded: %s", error)


def note_sent(runtime: Runtime, snapshot: Snapshot, sent: Collection[str]) -> None:
    """
    Record that these alerts of the document are sent.

    Raises:
        OncetaskError: As ``Store.change``.
    """

    def decide(seen: Snapshot) -> Put | None:
        if seen.lock is None:
            return None
        return rules.sent(seen.lock, sent, runtime.decision_context(seen))

    runtime.store.change(snapshot.path, decide, start=snapshot, changes=Changes(retiring(runtime, snapshot)))


def put_off(runtime: Runtime, snapshot: Snapshot, ids: Collection[str], until: datetime) -> None:
    """
    Let the alerts that a digest reports wait until *until*, when the digest is tried again.

    Raises:
        OncetaskError: As ``Store.change``.
    """

    def decide(seen: Snapshot) -> Put | None:
        if seen.lock is None:
            return None
        return rules.put_off(seen.lock, ids, until, runtime.decision_context(seen))

    runtime.store.change(snapshot.path, decide, start=snapshot)


def take_and_send(runtime: Runtime, snapshot: Snapshot, seen: Mapping[str, str | None]) -> int:
    """
    Become the trusted sender of alerts whose sender is overdue, and send each in a mail of its own; return the number
    sent.

    Args:
        runtime: Shared parts.
        snapshot: The document.
        seen: Ids of the alerts, each with its ``digest``.

    Raises:
        OncetaskError: As ``Store.change``; nothing was sent.
    """
    mark = runtime.clock.mark()
    taken = take(runtime, snapshot, seen)
    return 0 if taken is None else send_each(runtime, *taken, mark)


def take(
    runtime: Runtime, snapshot: Snapshot, seen: Mapping[str, str | None], digest: str | None = None
) -> tuple[Snapshot, tuple[str, ...]] | None:
    """
    Become the trusted sender of alerts whose sender is overdue or whose window is over, to send each in a mail of its
    own, or all in a *digest*.

    Returns:
        The document after the commit, and the ids of these alerts; None if there are none.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    mine: tuple[str, ...] = ()

    def decide(now: Snapshot) -> Put | NeedTime | None:
        nonlocal mine
        if now.lock is None:
            return None
        if now.read is None:
            return NeedTime()
        mine = rules.ripe(now.lock, seen, now.read)
        return rules.sending(now.lock, seen, runtime.decision_context(now), digest)

    changed = runtime.store.change(snapshot.path, decide, start=snapshot)
    return (changed.snapshot, mine) if isinstance(changed.decision, Put) else None


def send_directly(runtime: Runtime, snapshot: Snapshot, id_: str, reason: str, *, waits: bool = True) -> bool:
    """
    Send an alert that the lock can't store. A failure to send it is logged.

    Args:
        runtime: Shared parts.
        snapshot: The document that the alert is about.
        id_: Id of the alert.
        reason: Its reason, as a sentence.
        waits: Whether the alert may wait for others of its kind and reason, so that a digest reports all of them.

    Returns:
        Whether the alert was sent, or a digest will report it.
    """
    return _send(runtime, snapshot, _failure(runtime, snapshot, id_, reason), waits=waits)


class DirectAlerts(Observer):
    """
    Sends the alerts of events that no record can store.

    Args:
        runtime: Shared parts.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def person_needed(self, snapshot: Snapshot, name: str, reason: str) -> None:
        owed, lock = _failure(self._runtime, snapshot, name, reason), snapshot.lock
        _send(self._runtime, snapshot, owed if lock is None else replace(owed, attempt=lock.attempts))


def send_daily(runtime: Runtime, snapshot: Snapshot, id_: str, reason: str) -> bool:
    """
    Send an alert as ``send_directly`` does, but once a day (UTC) in each process. It is for trouble that goes on until
    a person ends it. On one day, the Message-ID is the same in all processes.

    Returns:
        Whether the alert was sent today.
    """
    return send_once(runtime, snapshot, _failure(runtime, snapshot, f"{id_}-{day_of(runtime)}", reason))


def send_once(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert) -> bool:
    """
    Send an alert directly, if this process has not sent it today; return whether it was sent today.
    """
    name, day = f"{snapshot.path} {owed.id}", day_of(runtime)
    if runtime.told.get(name) != day:
        if not _send(runtime, snapshot, owed):
            return False
        for old in [one for one, then in runtime.told.items() if then != day]:
            runtime.told.pop(old, None)
        runtime.told[name] = day
    return True


def day_of(runtime: Runtime) -> str:
    """
    Return the date of today, in UTC.
    """
    return f"{runtime.clock.now():%Y%m%d}"


def _failure(runtime: Runtime, snapshot: Snapshot, id_: str, reason: str) -> PendingAlert:
    now = runtime.clock.now()
    sequence = 0 if snapshot.lock is None else snapshot.lock.sequence
    return PendingAlert(id_, Event.FAILURE, now, now, sequence, 0, reason)


def _send(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert, *, waits: bool = True) -> bool:
    alert = alert_of(runtime, snapshot, owed)
    if waits and runtime.config.alert_window:
        # An alert that is sent again can't be told from another one with the same name, so each gets a new id here.
        wait = wait_of(runtime, alert, owed.id, runtime.clock.nonce())
        if wait is not None and count(runtime, wait, alert):
            return True
    return _sent_now(runtime, snapshot, alert)


def _sent_now(runtime: Runtime, snapshot: Snapshot, alert: Alert) -> bool:
    try:
        runtime.alerts.send(alert)
    except Exception as error:  # noqa: BLE001 - a channel is user code and may raise anything
        runtime.about(snapshot).log(logging.ERROR, "an alert (%s) could not be sent: %s", alert.reason, error)
        return False
    return True


def alert_of(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert) -> Alert:
    """
    Return the alert for *owed*, with all facts that a person needs and without the payload.
    """
    return _digest_of(runtime, snapshot, owed) if is_digest(snapshot.path) else _alert_of(runtime, snapshot, owed)


def _alert_of(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert) -> Alert:
    lock = snapshot.lock or Lock(env=runtime.config.env, sequence=0, status=Status.SCHEDULED)
    lost, damaged = owed.id.endswith(RESULT_LOST), owed.id.startswith(DAMAGED)
    # An owed alert stays owed while the task goes on, and its id stays the same.
    since = instant(owed.at) if owed.id in {each.id for each in lock.owed} else lock.scheduled_by or ""
    identity = (runtime.project(), runtime.config.database, lock.env, snapshot.path, since, owed.id)
    alert = Alert(
        id=hashlib.sha256("\n".join(identity).encode()).hexdigest()[:40],
        event=owed.event,
        env=lock.env,
        project=runtime.project(),
        database=runtime.config.database,
        document=snapshot.path,
        sequence=owed.sequence,
        attempt=owed.attempt,
        step=lock.step_of(owed.sequence),
        max_attempts=lock.max_attempts,
        at=owed.at,
        reason=owed.reason,
        evidence=owed.evidence,
        errors=lock.errors,
        commands=(command_line(runtime, "show", snapshot.path),),
        status=lock.status if snapshot.lock is not None else "unknown",
        url=lock.url,
        result_lost=lost,
        damaged=damaged,
        kind=floods.kind_of(snapshot.path),
        kin=_kin_of(runtime, snapshot),
    )
    return replace(_with_commands(runtime, snapshot, owed, alert), **_attempt_of(runtime, snapshot, owed))


def _kin_of(runtime: Runtime, snapshot: Snapshot) -> tuple[str, ...]:
    """
    Return the parent, and the children that still run, need a person or were cancelled, as texts; none if they can't be read.
    """
    try:
        found = kinship_of(runtime, snapshot)
    except OncetaskError:
        return ()
    kept = tuple(row for row in found.children if row[1] not in (Status.COMPLETED, Status.FAILED))
    return tuple(f"{label} {text}" for label, text in found._replace(children=kept).rows())


def _with_commands(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert, alert: Alert) -> Alert:
    path, sort = snapshot.path, verbs.record_of(snapshot.path, snapshot.lock, {}).sort
    if alert.damaged or snapshot.lock is None:
        # No command can turn a ``lock`` that is no map into one.
        resets = sort in verbs.VERBS["reset"] and not owed.id.startswith(f"{DAMAGED}{WHOLE}-")
        return replace(alert, commands=(*alert.commands, command_line(runtime, "reset", path))) if resets else alert
    found = deciding_lines(runtime, path, sort, snapshot.lock)
    lines, effects = tuple(line for line, _ in found), tuple(effect for _, effect in found)
    return replace(alert, commands=(*alert.commands, *lines), effects=("", *effects))


def _attempt_of(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert) -> dict[str, Any]:
    """
    Return the attributes of an alert that are about the last attempt, if the alert is about that.
    """
    lock = snapshot.lock
    last = None if lock is None else choices.last_attempt(snapshot.path, lock)
    asks = lock is not None and (bool(lock.open) or choices.halted(lock) is not None)
    if lock is not None and asks and lock.sequence == owed.sequence:
        # Such a record has no holder, and each run has a key of its own.
        return {"question": choices.question(snapshot.path, lock) or ""}
    if lock is None or last is None or (lock.sequence, lock.attempts) != (owed.sequence, owed.attempt):
        return {}
    until = max(last.lease_ends, owed.at) + _AFTERWARDS
    return {
        "question": choices.question(snapshot.path, lock) or "",
        "key": last.key,
        "granted_at": last.granted_at,
        "lease_ends": None if owed.event is Event.FAILURE else last.lease_ends,
        "logs": logs_link(runtime.project(), last.holder, last.granted_at, until),
    }


def _digest_of(runtime: Runtime, snapshot: Snapshot, owed: PendingAlert) -> Alert:
    """
    Return the alert for a digest, made from its document.
    """
    told = {name: decode(snapshot.fields[name]) for name in ("kind", "count", "first")}
    first = told["first"]
    documents = tuple(str(each["document"]) for each in first)
    return replace(
        _alert_of(runtime, snapshot, owed),
        document=documents[0],
        step=0,
        errors=tuple(Failure(e["at"], e["attempt"], e["sequence"], e["reason"]) for e in first),
        commands=tuple(dict.fromkeys(command_line(runtime, "show", path) for path in documents)),
        effects=(),
        status="",
        kind=told["kind"],
        count=told["count"],
        documents=documents,
    )
