"""
Send one mail for each slot in which a reminder is due, however many sweeps there are.

Shape:
    onceLocks/{2 hex}:{env}:reminder: ``lookAt`` (no mail is due before it), ``slot`` (hour of the last mail), ``at`` (time at
    which that mail was decided), ``sendUntil`` (time until which its sender is trusted), ``told`` (whether it was sent). The
    last four are absent until the first mail.

Guarantee
    The mail of a slot is claimed by a commit on the version that was read, and is sent once, under one Message-ID. It is sent
    again only if its sender failed, or died before it could record that the mail was sent.

Cost
    A sweep before ``lookAt`` reads nothing in a process that knows ``lookAt``, and one document in any other. Once an hour a
    sweep also reads the registry, makes one query for each collection, and writes the document. If records need a person, it
    reads them as a search does, at that time and when a mail is due.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.finding.searching import MOST
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.reminders.letters import letter
from gcp_oncetask.reminders.unattended import InNeed, in_need
from gcp_oncetask.rules import reminders
from gcp_oncetask.rules.document_paths import reminder_path
from gcp_oncetask.rules.reminders import LastReminder
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot

COUNTED: Final = 10_000
"""Most records that a mail counts."""
_AFTER_AN_ERROR: Final = timedelta(minutes=10)


class _Known(NamedTuple):
    """
    The document of an environment.
    """

    snapshot: Snapshot
    look_at: datetime | None
    last: LastReminder | None
    told: bool
    send_until: datetime | None


def remind(runtime: Runtime) -> int:
    """
    Send the mail about the records of the environment that still need a person, if it is due. Errors are logged; a later sweep
    tries again.

    Returns:
        Number of mails sent: 0 or 1.
    """
    known = runtime.remind_at
    if known is not None and runtime.store.estimate() < known:
        return 0
    try:
        return _remind(runtime, _read(runtime))
    except OncetaskError as error:
        runtime.remind_at = runtime.store.estimate() + _AFTER_AN_ERROR
        LOGGER.error("whether a reminder is due is not known: %s", error)
        return 0


def _read(runtime: Runtime) -> _Known:
    path = reminder_path(runtime.config.env)
    snapshot = runtime.store.read_all([path])[path]
    stored = {name: decode(value) for name, value in snapshot.fields.items()}
    # Values that a person has written by hand are skipped.
    times = {name: value for name, value in stored.items() if isinstance(value, datetime)}
    last = LastReminder(times["slot"], times["at"]) if {"slot", "at"} <= times.keys() else None
    told = last is None or stored.get("told") is not False
    return _Known(snapshot, times.get("lookAt"), last, told, times.get("sendUntil"))


def _remind(runtime: Runtime, known: _Known) -> int:
    now = runtime.store.estimate()
    wait = known.look_at if known.told else known.send_until
    if wait is not None and now < wait:
        runtime.remind_at = wait
        return 0
    found = in_need(runtime, MOST)
    if known.told and not reminders.is_reminder_due(found.all, known.last, now):
        _note(runtime, known, found, now)
        return 0
    # A mail that is sent again has its first slot and date.
    last = LastReminder(reminders.slot_of(now), now) if known.told or known.last is None else known.last
    return _claim_and_send(runtime, known, in_need(runtime, COUNTED) if found.more else found, last)


def _note(runtime: Runtime, known: _Known, found: InNeed, now: datetime) -> None:
    """
    Write the time of the next look. If another process has written it meanwhile, this process reads it at its next sweep.
    """
    look_at = reminders.next_look(found.all, known.last, now)
    if runtime.store.put_fields(known.snapshot, _fields(look_at, known.last, known.send_until or now, told=True)):
        runtime.remind_at = look_at


def _claim_and_send(runtime: Runtime, known: _Known, found: InNeed, last: LastReminder) -> int:
    now = runtime.store.estimate()
    look_at, until = reminders.next_look(found.all, last, now), now + timedelta(seconds=runtime.config.alert_retry)
    mine = runtime.store.put_fields(known.snapshot, _fields(look_at, last, until, told=False))
    if mine is None:
        return 0
    # If no record needs a person any more, the mail that was not sent is not needed.
    if found.rows and not _sent(runtime, found, last):
        return 0
    runtime.store.put_fields(mine, _fields(look_at, last, until, told=True))
    runtime.remind_at = look_at
    return 1 if found.rows else 0


def _fields(look_at: datetime, last: LastReminder | None, until: datetime, *, told: bool) -> dict[str, Any]:
    mail = {} if last is None else {"slot": last.slot, "at": last.at, "sendUntil": until, "told": told}
    return {"lookAt": look_at, **mail}


def _sent(runtime: Runtime, found: InNeed, last: LastReminder) -> bool:
    try:
        runtime.alerts.send(letter(runtime, found, last))
    except Exception as error:  # noqa: BLE001 - a channel is user code and may raise anything
        LOGGER.error("the reminder of %s could not be sent: %s", instant(last.slot), error)
        return False
    return True
