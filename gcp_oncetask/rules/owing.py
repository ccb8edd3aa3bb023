"""
Alerts that are owed: who sends them, when, and by themselves or in a digest. Pure.

States of an alert that is owed::

    decided --assigned--> alone --sent--> (gone)       a mail of its own, under its own id, however often it is tried
       |                    ^
       |                    | sending: nothing else is in its group
       '--assigned--> waits (until the window's end) --sending--> lent to a digest, whose id it bears --sent--> (gone)

What bears the id of a digest is told by that digest, and by nothing else, once it is one of its members.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from gcp_oncetask.rules import writes
from gcp_oncetask.rules.decisions import DecisionContext, Put
from gcp_oncetask.rules.record import Lock, PendingAlert
from gcp_oncetask.rules.writes import MAX_GRACE


class Wait(NamedTuple):
    """
    What an alert waits for.

    Attributes:
        mark: The group: ``PendingAlert.digest`` until it is lent.
        until: The window's end.
    """

    mark: str
    until: datetime


def is_decided(owed: PendingAlert) -> bool:
    """
    Whether nobody has begun to send it, and it is not said how it is to be sent.
    """
    return owed.tries == 0 and owed.digest is None


def assigned(lock: Lock, turns: Mapping[str, Wait | None], at: DecisionContext) -> Put | None:
    """
    Say of those alerts of which it is not said how they are sent: by this process as mails of their own (None), or that they
    wait. None if there are none.
    """
    owed = tuple(_assigned(o, turns[o.id], at) if o.id in turns and is_decided(o) else o for o in lock.owed)
    return None if owed == lock.owed else Put(writes.with_due(lock, at, owed=owed))


def _assigned(owed: PendingAlert, wait: Wait | None, at: DecisionContext) -> PendingAlert:
    if wait is None:
        return replace(owed, until=at.now + timedelta(seconds=at.alert_retry), tries=1)
    return replace(owed, until=wait.until, digest=wait.mark)


def ripe(lock: Lock, seen: Mapping[str, str | None], read: datetime) -> tuple[str, ...]:
    """
    Ids of those alerts that nobody sends at *read*, and whose ``digest`` is still as it was *seen*: what was lent meanwhile is
    told by the digest that it was lent to, however late its sender is.
    """
    return tuple(o.id for o in lock.owed if o.until <= read and o.id in seen and o.digest == seen[o.id])


def sending(lock: Lock, seen: Mapping[str, str | None], at: DecisionContext, digest: str | None = None) -> Put | None:
    """
    Make this process the trusted sender of those alerts that are ``ripe``, as mails of their own or in a *digest*; None if there
    are none.
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
    Those alerts wait until their digest is tried again; None if none of them is owed any more.
    """
    owed = tuple(replace(o, until=until) if o.id in ids else o for o in lock.owed)
    return None if owed == lock.owed else Put(writes.with_due(lock, at, owed=owed))


def sent(lock: Lock, ids: Collection[str], at: DecisionContext) -> Put | None:
    """
    Those alerts are sent; None if none of them is owed any more.
    """
    owed = tuple(o for o in lock.owed if o.id not in ids)
    return None if owed == lock.owed else Put(writes.with_due(lock, at, owed=owed))
