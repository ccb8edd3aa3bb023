"""
Who looks at which shard: every worker computes the same answer from the list of live sessions. Pure.

Source:
    go-session-lock gives each session an equal share of the open tasks, under one row that all of them lock. Here the shards of
    the index are shared instead of the tasks, so nobody waits for a row that all write; where two workers disagree for a moment
    both look at a shard, and the claims' fences decide.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Session:
    """
    A worker that is alive, or was.

    Attributes:
        id: Its nonce.
        kinds: What it runs.
        beat_at: Server time of its last heartbeat.
        ttl: Seconds for which a heartbeat counts.
    """

    id: str
    kinds: tuple[str, ...]
    beat_at: datetime
    ttl: float

    def alive(self, now: datetime) -> bool:
        """
        Whether its last heartbeat still counts at *now*, by the server's clock.
        """
        return now < self.beat_at + timedelta(seconds=self.ttl)

    def left(self, now: datetime) -> float:
        """
        Seconds from *now* until it counts as dead unless it beats.
        """
        return (self.beat_at - now).total_seconds() + self.ttl


def shares(sessions: Sequence[Session], kind: str, shards: int, now: datetime) -> dict[str, tuple[int, ...]]:
    """
    The shards of *kind* by session: all of them are given out, and no two live sessions differ by more than one.
    """
    able = sorted(session.id for session in sessions if kind in session.kinds and session.alive(now))
    if not able:
        return {}
    # Each kind begins elsewhere, so that the first session is not the first for all of them.
    start = zlib.crc32(kind.encode())
    return {
        id_: tuple(shard for shard in range(shards) if (shard + start) % len(able) == place)
        for place, id_ in enumerate(able)
    }
