"""
Distribute shards among workers: every worker computes the same shares from the list of live sessions. Pure.

Source:
    go-session-lock gives each session an equal share of the open tasks, under one row that all of them lock. Here the
    shards of the index are shared instead of the tasks, so that no worker waits for a row that all write. If two workers
    disagree for a moment, both query a shard, and the claims' fences decide.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Session:
    """
    The session of a worker, alive or dead.

    Attributes:
        id: Its nonce.
        kinds: The kinds that the worker runs.
        beat_at: Server time of its last heartbeat.
        ttl: Seconds for which a heartbeat counts.
    """

    id: str
    kinds: tuple[str, ...]
    beat_at: datetime
    ttl: float

    def alive(self, now: datetime) -> bool:
        """
        Tell whether its last heartbeat still counts at *now*, by the server's clock.
        """
        return now < self.beat_at + timedelta(seconds=self.ttl)

    def left(self, now: datetime) -> float:
        """
        Return the seconds from *now* until the session counts as dead, if no heartbeat comes.
        """
        return (self.beat_at - now).total_seconds() + self.ttl


def shares(sessions: Sequence[Session], kind: str, shards: int, now: datetime) -> dict[str, tuple[int, ...]]:
    """
    Return the shards of *kind* by session. All shards are given out, and the shares of any two live sessions differ by at
    most one shard.
    """
    able = sorted(session.id for session in sessions if kind in session.kinds and session.alive(now))
    if not able:
        return {}
    # Each kind begins at another session, so that the first session does not get the larger share of all kinds.
    start = zlib.crc32(kind.encode())
    return {
        id_: tuple(shard for shard in range(shards) if (shard + start) % len(able) == place)
        for place, id_ in enumerate(able)
    }
