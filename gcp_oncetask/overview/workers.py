"""
The workers that pull tasks: their sessions, and their shares of the shards.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import sessions


class WorkerRow(NamedTuple):
    """
    The session of a worker.

    Attributes:
        id: Id of the session.
        host: Machine and process; empty: not known.
        kinds: Kinds whose tasks it pulls.
        beat_at: Server time of its last heartbeat; None: it has left.
        ttl: Seconds after a heartbeat after which it counts as dead.
        left_at: Time at which it left; None: it has not.
        alive: Whether it counts as alive.
    """

    id: str
    host: str
    kinds: tuple[str, ...]
    beat_at: datetime | None
    ttl: float
    left_at: datetime | None
    alive: bool


class Workers(NamedTuple):
    """
    The workers of an environment.

    Attributes:
        rows: The sessions: those alive first, then those that left in the last day.
        damaged: Paths of sessions that can't be read.
        read: Server time of the read.
    """

    rows: list[WorkerRow]
    damaged: tuple[str, ...]
    read: datetime


def workers(runtime: Runtime) -> Workers:
    """
    Return the sessions of an environment's workers, by two queries.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    env = runtime.config.env
    damaged: list[str] = []
    found, read = sessions.described(runtime.store, env, damaged.append)
    rows = [
        WorkerRow(
            one.id,
            one.host,
            one.kinds,
            one.beat_at,
            one.ttl,
            one.left_at,
            one.beat_at is not None and (read - one.beat_at).total_seconds() < one.ttl,
        )
        for one in found
    ]
    return Workers(sorted(rows, key=lambda row: (not row.alive, row.host, row.id)), tuple(damaged), read)
