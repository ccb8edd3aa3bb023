"""
Rules about alerts that are owed: their sender, their time, and whether each is sent by itself or in a digest. Pure.

States of an alert that is owed::

    decided --assigned--> alone --sent--> (gone)       a mail of its own, under its own id, however often it is tried
       |                    ^
       |                    | sending: nothing else is in its group
       '--assigned--> waits (until the window's end) --sending--> lent to a digest, whose id it bears --sent--> (gone)

An alert with the id of a digest is sent by that digest alone, once it is one of the digest's members.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from gcp_oncetask.rules import attention, writes
from gcp_oncetask.rules.decisions import DecisionContext, Put
from gcp_oncetask.rules.record import Lock, PendingAlert
from gcp_oncetask.rules.writes import MAX_GRACE


class Wait(NamedTuple):
    """
    The group and window in which an alert waits for a digest.

    Attributes:
        mark: The mark of the group; it is ``PendingAlert.digest`` until the alert is lent to a digest.
        until: End of the window.
    """

    mark: str
    until: datetime


def is_decided(owed: PendingAlert) -> bool:
    """
    Tell whether the alert is only decided: no process has begun to send it or has assigned how it is sent.
    """
    return owed.tries == 0 and owed.digest is None


def assigned(lock: Lock, turns: Mapping[str, Wait | None], at: DecisionContext) -> Put | None:
    """
    Assign how alerts that are only decided are sent: by this process as mails of their own (None in *turns*), or with a
    group for which they wait. Return None if there are no such alerts.
    """
    owed = tuple(_assigned(o, turns[o.id], at) if o.id in turns and is_decided(o) else o for o in lock.owed)
    return None if owed == lock.owed else Put(writes.with_due(lock, at, owed=owed))


def _assigned(owed: PendingAlert, wait: Wait | None, at: DecisionContext) -> PendingAlert:
    if wait is None:
        return replace(owed, until=at.now + timedelta(seconds=at.alert_retry), tries=1)
    return replace(owed, until=wait.until, digest=wait.mark)


def ripe(lock: Lock, seen: Mapping[str, str | None], read: datetime) -> tuple[str, ...]:
    """
    Return the ids of the alerts that no process is trusted to send at *read*, and whose ``digest`` is still as it was
    *seen*. An alert that was lent to a digest meanwhile is sent by that digest, even if the digest's sender is late.
    """
    return tuple(o.id for o in lock.owed if o.until <= read and o.id in seen and o.digest == seen[o.id])


def sending(lock: Lock, seen: Mapping[str, str | None], at: DecisionContext, digest: str | None = None) -> Put | None:
    """
    Make this process the trusted sender of the alerts that are ``ripe``, as mails of their own or in a *digest*. Return None
    if there are none.
    """
    assert at.read is not None
    mine = ripe(lock, seen, at.read)
    owed = tuple(_lent(o, at, digest) if o.id in mine else o for o in lock.owed)
    return Put(writes.with_due(lock, at, owed=owed)) if mine else None


def _lent(owed: PendingAlert, at: DecisionContext, digest: str | None) -> PendingAlert:
    wait = min(at.alert_retry * 2 ** min(owed.tries, 10), MAX_GRACE)
    return replace(owed, until=at.now + timedelta(seconds=wait), tries=owed.tries + 1, digest=digest)


def put_off(lock: Lock, ids: Collection[str], until: datetime, at: DecisionContext) -> Put | None:
    """
    Let the alerts *ids* wait until their digest is tried again. Return None if none of them is owed any more.
    """
    owed = tuple(replace(o, until=until) if o.id in ids else o for o in lock.owed)
    return None if owed == lock.owed else Put(writes.with_due(lock, at, owed=owed))


def sent(lock: Lock, ids: Collection[str], at: DecisionContext) -> Put | None:
    """
    Remove the alerts *ids*, which were sent. Return None if none of them is owed any more.

    A task that waits for its claim is looked at again soon, because the look that was due may only have sent the alert.
    """
    owed = tuple(o for o in lock.owed if o.id not in ids)
    if owed == lock.owed:
        return None
    after = writes.with_due(lock, at, owed=owed)
    if after.url is not None and attention.age(after, at):
        soon = at.now + timedelta(seconds=at.grace)
        after = writes.look_again(after, at, attention.look_by(after.ready_at, soon, at))
    return Put(after)
