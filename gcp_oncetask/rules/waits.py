"""
Waits of suspended sequences, and the events that end them. Pure.

A suspended sequence is scheduled and has a wait. The commit that grants its next attempt writes the end of the wait into
it, so that all later attempts see the same end; the next commit of the journal moves that into an entry.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.rules.record import HandlerWait, Lock, Status, WaitFor, Woken
from gcp_oncetask.rules.timestamps import instant, parse_instant

MAX_EVENTS: Final = 100
"""Most events of a mailbox."""
MAX_MAILBOX: Final = 65_536
"""Most bytes of a mailbox."""
LONGEST_EVENT_ID: Final = 200
"""Most characters of the id of an event."""
REMEMBERED: Final = 1000
"""Ids of events that a record remembers."""
REMEMBERED_FOR: Final = timedelta(days=30)
"""Time for which an id is remembered."""
WAITING: Final = timedelta(days=30)
"""After this time without an end, a person is told of a wait that has no time-out."""
_DIGEST: Final = 8
_ROW: Final = _DIGEST + 4
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SentEvent(NamedTuple):
    """
    An event for a durable handler, as its mailbox keeps it.

    Attributes:
        id: Id, by which a repeated event is dropped.
        name: Name, for which a handler waits.
        at: Time at which it was stored (estimate of the server's clock).
        data: Its payload; JSON data.
        wait: Name of the wait for which alone it counts, if it came through a link; None: it counts for any.
    """

    id: str
    name: str
    at: datetime
    data: Any = None
    wait: str | None = None

    def to_bytes(self) -> bytes:
        """
        Return the stored form: compact JSON.
        """
        told = {"i": self.id, "n": self.name, "a": instant(self.at), "d": self.data}
        if self.wait is not None:
            told["w"] = self.wait
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def of(cls, stored: bytes) -> SentEvent:
        """
        Read the form that ``to_bytes`` made.

        Raises:
            KeyError, TypeError, ValueError: ``to_bytes`` did not make it.
        """
        told = json.loads(stored)
        return cls(told["i"], told["n"], parse_instant(told["a"]), told["d"], told.get("w"))


def events(lock: Lock) -> tuple[SentEvent, ...]:
    """
    Return the events of the mailbox, oldest first.
    """
    return tuple(SentEvent.of(stored) for stored in lock.mailbox)


def first_for(lock: Lock, wait: HandlerWait) -> SentEvent | None:
    """
    Return the oldest event that ends *wait*; None if there is none.
    """
    if not wait.events or not lock.mailbox:
        return None
    return next((e for e in events(lock) if e.name in wait.events and e.wait in (None, wait.name)), None)


def woken(lock: Lock, now: datetime) -> HandlerWait | None:
    """
    Return the wait of *lock* with its end; None if it goes on at *now*, or if there is none. A cancellation comes before an
    event, and an event before the time-out.
    """
    wait = lock.wait
    if wait is None or wait.ended is not None:
        return wait
    if lock.cancel_requested_at is not None and not lock.cancelling:
        return replace(wait, ended=Woken.CANCELLED)
    event = first_for(lock, wait)
    if event is not None:
        return replace(wait, ended=Woken.EVENT, event=event.id)
    if wait.until is not None and now >= wait.until:
        return replace(wait, ended=Woken.TIME)
    return None


def waits(lock: Lock, now: datetime) -> bool:
    """
    Tell whether the sequence is suspended, and its wait goes on at *now*.
    """
    return lock.status is Status.SCHEDULED and lock.wait is not None and woken(lock, now) is None


def without(lock: Lock, taken: tuple[str, ...]) -> Lock:
    """
    Return *lock* without the events whose ids are *taken*.
    """
    if not taken:
        return lock
    return lock.but(mailbox=tuple(stored for stored in lock.mailbox if SentEvent.of(stored).id not in taken))


def to_data(wait: HandlerWait) -> dict[str, Any]:
    """
    Return *wait*, which nothing has ended yet, as JSON data.
    """
    return {
        "name": wait.name,
        "sort": str(wait.sort),
        "ordinal": wait.ordinal,
        "since": instant(wait.since),
        "until": None if wait.until is None else instant(wait.until),
        "events": list(wait.events),
        "nonce": wait.nonce,
        "tolerate": wait.tolerate,
    }


def from_data(data: dict[str, Any]) -> HandlerWait:
    """
    Read a wait from *data*, which ``to_data`` made.

    Raises:
        KeyError, TypeError, ValueError: ``to_data`` did not make *data*.
    """
    return HandlerWait(
        data["name"],
        WaitFor(data["sort"]),
        int(data["ordinal"]),
        parse_instant(data["since"]),
        None if data["until"] is None else parse_instant(data["until"]),
        tuple(data["events"]),
        data["nonce"],
        tolerate=int(data.get("tolerate", 0)),
    )


# --- ids of events ----------------------------------------------------------------------------------------------------


def _digest(id_: str) -> bytes:
    return hashlib.blake2b(id_.encode(), digest_size=_DIGEST).digest()


def is_known(lock: Lock, id_: str) -> bool:
    """
    Tell whether an event with this id was stored before.
    """
    known, wanted = lock.received, _digest(id_)
    return any(known[at : at + _DIGEST] == wanted for at in range(0, len(known), _ROW))


def remembered(lock: Lock, id_: str, now: datetime) -> Lock:
    """
    Return *lock*, which remembers the id of one more event; ids that are too old or too many are forgotten.
    """
    oldest = (now - REMEMBERED_FOR - _EPOCH).days
    rows = [lock.received[at : at + _ROW] for at in range(0, len(lock.received), _ROW)]
    kept = [row for row in rows if int.from_bytes(row[_DIGEST:]) >= oldest]
    kept.append(_digest(id_) + (now - _EPOCH).days.to_bytes(4))
    return lock.but(received=b"".join(kept[-REMEMBERED:]))
