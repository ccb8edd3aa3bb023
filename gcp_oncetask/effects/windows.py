"""
The windows in which alerts for the same reason wait, and the documents that owe their digests.

Shape:
    onceLocks/{2 hex}:{env}:windows:{digest of event and kind}: ``event``, ``kind``, ``windows`` (cause -> ``until``,
    ``first``). The alert that opens a window writes it.
    onceLocks/{2 hex}:{env}:digest:{id}: ``lock`` (a completed record that owes one alert: the digest), ``kind``,
    ``group``, ``count``, ``first`` (the first ``NAMED`` of its alerts), ``members`` (the entries of other documents
    that it reports; empty if no document could owe its alerts), ``expireAt`` once it is sent. A release that does not
    know digests sends it as any other alert.

Guarantee
    A digest is sent as other owed alerts are: once, under one Message-ID. It is sent again only if its sender died
    before that was recorded. Its document holds the whole content of its mail, and does not change after a sender has
    begun to send it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.checks.values import storable_text
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import floods, writes
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.document_paths import digest_path, is_digest, windows_path
from gcp_oncetask.rules.floods import Group, Turn, Window
from gcp_oncetask.rules.record import Lock, PendingAlert, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.writes import RESULT_LOST
from gcp_oncetask.runtime.gathering import Brought
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Value, decode, encode
from gcp_oncetask.store.snapshot import Changes, Snapshot

NAMED: Final = 20
"""Most alerts that a digest names."""
DAMAGED: Final = "damaged-"
"""Begin of the id of an alert about a damaged lock; the name of the attribute follows."""
_KEPT: Final = timedelta(days=30)
_TRIES: Final = 5
_LONGEST_REASON: Final = 200


# --- windows ----------------------------------------------------------------------------------------------------------


def wait_of(runtime: Runtime, alert: Alert, name: str, id_: str) -> rules.Wait | None:
    """
    Return the window for whose end an alert waits; None: it is sent at once. It is sent at once, too, if the windows
    can't be read.

    Args:
        runtime: Shared parts.
        alert: The alert.
        name: Id of the alert within its document.
        id_: Id by which the alert is recognised if it asks twice.
    """
    group = floods.group_of(alert.event, alert.document, name, alert.reason)
    try:
        turn = _turn(runtime, group, id_)
    except OncetaskError as error:
        LOGGER.error("whether alerts like that of %s wait is not known, so it is sent: %s", alert.document, error)
        return None
    return None if turn.until is None else rules.Wait(group._replace(cause=turn.cause).mark, turn.until)


def _turn(runtime: Runtime, group: Group, id_: str) -> Turn:
    path = windows_path(runtime.config.env, group.event, group.kind)
    length, now = runtime.config.alert_window, runtime.store.estimate()
    # An open window stays open, so it need not be read again.
    known = runtime.windows.get(path, {}).get(group.cause)
    if known is not None and known.first != id_ and now < known.until:
        return Turn(group.cause, known.until, None)
    for _ in range(_TRIES):
        stored = runtime.store.read_all([path])[path]
        windows = _windows(stored)
        turn = floods.turn_of(windows, group.cause, id_, runtime.store.estimate(), length)
        if turn.windows is None or runtime.store.put_fields(stored, _fields(group, turn.windows)) is not None:
            runtime.windows[path] = turn.windows or windows
            return turn
    # Others open windows all the time, so the alert does not wait.
    return Turn(group.cause, None, None)


def _windows(stored: Snapshot) -> dict[str, Window]:
    found = decode(stored.fields["windows"]) if "windows" in stored.fields else {}
    # Values that a person has written by hand are skipped.
    found = found if isinstance(found, dict) else {}
    known = {cause: (each.get("until"), each.get("first")) for cause, each in found.items() if isinstance(each, dict)}
    return {cause: Window(until, str(first)) for cause, (until, first) in known.items() if isinstance(until, datetime)}


def _fields(group: Group, windows: dict[str, Window]) -> dict[str, Any]:
    return {
        "event": group.event.value,
        "kind": group.kind,
        "windows": {cause: window._asdict() for cause, window in windows.items()},
    }


# --- digests ----------------------------------------------------------------------------------------------------------


def entry_id(path: str, owed: PendingAlert) -> str:
    """
    Return the id under which a digest lists an alert that the document at *path* owes.
    """
    return hashlib.sha256(f"{path}\n{owed.id}\n{instant(owed.at)}".encode()).hexdigest()[:32]


def owe(runtime: Runtime, id_: str, group: str, alerts: Sequence[Alert], members: Sequence[str]) -> Snapshot | None:
    """
    Write the document that owes the digest *id_* of *alerts*, with this process as its sender. Return None if there is
    one already.

    Args:
        runtime: Shared parts.
        id_: Id of the digest, which its entries hold.
        group: ``Group.mark`` of its alerts.
        alerts: The alerts, in order.
        members: The ``entry_id`` of each alert.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    first, nonce = [_line(alert) for alert in alerts[:NAMED]], runtime.clock.nonce()

    def decide(seen: Snapshot) -> Put | None:
        if seen.lock is not None:
            return None
        at = runtime.decision_context(seen)
        until = at.now + timedelta(seconds=at.alert_retry)
        owed = PendingAlert(
            _name(id_, alerts[0]), alerts[0].event, alerts[0].at, until, 0, 0, _reason(len(alerts), first), tries=1
        )
        return Put(writes.with_due(_record(runtime, nonce), at, owed=(owed,)))

    contents = Changes(_contents(alerts[0].kind, group, len(alerts), first, members))
    changed = runtime.store.change(digest_path(runtime.config.env, id_), decide, changes=contents)
    return changed.snapshot if isinstance(changed.decision, Put) else None


def count(runtime: Runtime, wait: rules.Wait, alert: Alert) -> bool:
    """
    Add an alert that no document can owe to the digest at the end of its window; return whether that was done. If not, the
    caller sends the alert.

    One thread of this process writes, and takes along the alerts that others bring meanwhile. Each of them waits until its
    alert is stored: if the process ended before, nothing would know of the alert.
    """
    mine = runtime.gathering.bring(wait.mark, (wait, alert))
    if not mine.first:
        return mine.wait()
    taken: list[Brought[tuple[rules.Wait, Alert]]] = []
    try:
        while taken := runtime.gathering.take(wait.mark):
            for each, group in groupby(taken, lambda entry: entry.thing[0]):
                entries = list(group)
                added = _count(runtime, each, [entry.thing[1] for entry in entries])
                for entry in entries:
                    entry.end(written=added)
    except BaseException:
        runtime.gathering.leave(wait.mark, [entry for entry in taken if not entry.written])
        raise
    return mine.written


def _count(runtime: Runtime, wait: rules.Wait, alerts: list[Alert]) -> bool:
    try:
        for number in range(_TRIES):
            name = f"{wait.mark}\n{instant(wait.until)}\n{number}"
            if _added(runtime, hashlib.sha256(name.encode()).hexdigest()[:24], wait, alerts):
                return True
            # The window is over, and a process sends its digest, so the next one is tried.
    except OncetaskError as error:
        LOGGER.error("%d alert(s) could not be counted, so they are sent: %s", len(alerts), error)
    return False


def _added(runtime: Runtime, id_: str, wait: rules.Wait, alerts: list[Alert]) -> bool:
    nonce = runtime.clock.nonce()

    def decide(seen: Snapshot) -> Put | None:
        at, lock = runtime.decision_context(seen), seen.lock or _record(runtime, nonce)
        if seen.lock is None:
            owed = PendingAlert(_name(id_, alerts[0]), alerts[0].event, alerts[0].at, wait.until, 0, 0, "")
        elif lock.owed and lock.owed[0].tries == 0:
            owed = lock.owed[0]
        else:
            return None
        owed = replace(owed, reason=_reason(*_known(seen, alerts)))
        return Put(writes.with_due(lock, at, owed=(owed,), settled_by=nonce))

    def contents(seen: Snapshot) -> Changes:
        return Changes(_contents(alerts[0].kind, wait.mark, *_known(seen, alerts), ()))

    changed = runtime.store.change(digest_path(runtime.config.env, id_), decide, changes=contents)
    return isinstance(changed.decision, Put)


def _known(seen: Snapshot, more: Sequence[Alert]) -> tuple[int, list[dict[str, Any]]]:
    """
    Return the number of alerts of a digest and the first of them, with *more* added.
    """
    stored = seen.fields
    known = decode(stored["count"]) if "count" in stored else 0
    first = list(decode(stored["first"])) if "first" in stored else []
    return known + len(more), [*first, *map(_line, more)][:NAMED]


def _record(runtime: Runtime, nonce: str) -> Lock:
    return Lock(env=runtime.config.env, sequence=1, status=Status.COMPLETED, settled_by=nonce)


def _name(id_: str, alert: Alert) -> str:
    # A damage and a lost result are marked as in the ids of other alerts.
    return f"{DAMAGED if alert.damaged else ''}{id_}{f'-{RESULT_LOST}' if alert.result_lost else ''}"


def _reason(count: int, first: Sequence[Mapping[str, Any]]) -> str:
    return f"{count} alert(s), the first of them: {first[0]['reason']}"[: rules.MAX_MESSAGE]


def _line(alert: Alert) -> dict[str, Any]:
    return {
        "document": alert.document,
        "sequence": alert.sequence,
        "attempt": alert.attempt,
        "at": alert.at,
        "reason": storable_text(alert.reason)[:_LONGEST_REASON],
    }


def _contents(
    kind: str, group: str, count: int, first: Sequence[Mapping[str, Any]], members: Sequence[str]
) -> dict[str, Value]:
    found = {"kind": kind, "group": group, "count": count, "first": list(first), "members": list(members)}
    return {name: encode(value) for name, value in found.items()}


def retiring(runtime: Runtime, seen: Snapshot) -> dict[str, Value]:
    """
    Return the fields that the commit that records an alert of *seen* as sent writes beside the lock: the time after
    which a digest may be deleted.
    """
    return {"expireAt": encode(runtime.store.estimate() + _KEPT)} if is_digest(seen.path) else {}
