"""
The step of a generator that is due: the occurrences it spawns, and the time when it is due again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from gcp_oncetask.tasks.recurrence.value import Recurrence
from gcp_oncetask.tasks.recurrence.zones import require_aware

MISFIRE_GRACE: Final = timedelta(minutes=1)
"""A run that is late by no more than this is on time under ``misfire="skip"``, because deliveries have latency."""

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Advance:
    """
    The step of a generator.

    Attributes:
        spawn: Nominal times of the occurrences to create, oldest first, aware UTC.
        next: When the generator is due again, aware UTC and later than now; None: it has ended.
        dropped: Whether the misfire policy left out runs that had fallen due.
    """

    spawn: tuple[datetime, ...]
    next: datetime | None
    dropped: bool


def advance(recurrence: Recurrence, due: datetime, now: datetime) -> Advance:
    """
    Decide for a generator that waits for *due* and runs at *now*.

    The runs in [due, now] have fallen due. One is the ordinary case. More than one, or a late one, is an outage:

    - ``latest`` (the default): the newest run is spawned, because one run brings the work up to date. The ancestor spawns
      one too, but with the oldest nominal time.
    - ``skip``: the newest run is spawned if it is at most ``MISFIRE_GRACE`` late, else none.
    - ``all``: all runs are spawned, but at most the newest ``misfire_limit``.

    Deciding again after a crash, at a later *now*, is safe: occurrence ids come from the nominal times.
    The cost grows with the runs spawned, not with those missed.

    Args:
        recurrence: Recurrence of the generator.
        due: Nominal time for which the generator waits (``waitUntil``), aware.
        now: Server time, aware. Before *due* nothing is spawned.

    Raises:
        RecurrenceError: A time is naive.
    """
    due, now = require_aware(due, "due"), require_aware(now, "now")
    schedule = recurrence.schedule
    if now < due:
        return Advance((), schedule.first(due), dropped=False)
    limit = recurrence.misfire_limit if recurrence.misfire == "all" else 1
    spawn: list[datetime] = []
    bound, step = now + timedelta(microseconds=1), _SECOND
    while len(spawn) < limit and (found := schedule.latest(due, bound, step)) is not None:
        step = max(_SECOND, bound - found)
        spawn.append(found)
        bound = found
    dropped = bool(spawn) and (oldest := schedule.first(due)) is not None and oldest < spawn[-1]
    if recurrence.misfire == "skip" and spawn and now - spawn[0] > MISFIRE_GRACE:
        spawn, dropped = [], True
    return Advance(tuple(reversed(spawn)), recurrence.next_after(now), dropped=dropped)


def occurrence_id(generator_id: str, nominal: datetime) -> str:
    """
    Return the id of a generator's run at a nominal time, ``{generator id}_occ_{instant}``, like
    ``report_occ_2026-01-31T08:00:00Z``. Every process computes the same id.

    Source:
        The oncetask ancestor.

    Raises:
        RecurrenceError: The time is naive.
    """
    return f"{generator_id}_occ_{require_aware(nominal, 'nominal').astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
