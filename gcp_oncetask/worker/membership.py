"""
The session of one worker, and its share of each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.engine import LOGGER, Engine
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.store import sessions
from gcp_oncetask.worker.shares import Session, shares

BEATS: Final = 3.0
"""Heartbeats per time to live, so that two may fail."""
_FIRST_PAUSE: Final = 0.5
"""Seconds before a heartbeat that failed is tried again; doubled each time, up to the ordinary interval."""


class Membership:
    """
    Keeps a session alive and knows its shards.

    A session whose heartbeats failed for its time to live counts as dead: it takes nothing more, and the next heartbeat begins
    a new one.

    Args:
        engine: Shared parts.
        kinds: What this worker runs.
        ttl: Seconds for which a heartbeat counts.
    """

    def __init__(self, engine: Engine, kinds: Sequence[str], ttl: float) -> None:
        self._engine = engine
        self._kinds = tuple(kinds)
        self._ttl = ttl
        self._beaten: Mark | None = None
        self._tried: Mark | None = None
        self._failures = 0
        self._next_death: float | None = None
        self.id = engine.clock.nonce()
        self.shards: dict[str, tuple[int, ...]] = {}
        self.sessions = 0

    def due_in(self) -> float:
        """
        Seconds until the next heartbeat.
        """
        if self._tried is None:
            return 0.0
        pause = self._ttl / BEATS
        if self._failures:
            pause = min(pause, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20))
        elif self._next_death is not None:
            # Whoever lives beats long before that; the shards of one who does not are shared out at once.
            pause = min(pause, self._next_death)
        return max(0.0, pause - elapsed(self._tried, self._engine.clock.mark()))

    def beat(self) -> bool:
        """
        Say that the session is alive, and share anew; returns whether the shards have changed.
        """
        engine = self._engine
        mark = self._tried = engine.clock.mark()
        if self._beaten is not None and elapsed(self._beaten, mark) >= self._ttl:
            LOGGER.warning("worker session %s has died of missing heartbeats; another one begins", self.id)
            self.id, self.shards, self._beaten = engine.clock.nonce(), {}, None
        before = self.shards
        try:
            sessions.beat(
                engine.store, engine.config.env, self.id, kinds=self._kinds, host=engine.instance(), ttl=self._ttl
            )
            self._beaten = mark
            found, now = sessions.all_of(engine.store, engine.config.env)
        except OncetaskError as error:
            self._failures += 1
            LOGGER.warning("a heartbeat of worker session %s failed: %s", self.id, error)
            return False
        self._failures = 0
        self._share([Session(*one) for one in found], now)
        return self.shards != before

    def _share(self, found: Sequence[Session], now: datetime) -> None:
        self.sessions = sum(session.alive(now) for session in found)
        others = [session.left(now) for session in found if session.alive(now) and session.id != self.id]
        self._next_death = min(others, default=None)
        count = self._engine.config.pull_shards
        self.shards = {kind: shares(found, kind, count, now).get(self.id, ()) for kind in self._kinds}

    @property
    def failing(self) -> bool:
        """
        Whether its last heartbeat failed.
        """
        return self._failures > 0

    def alive(self) -> bool:
        """
        Whether this process may still believe that its session counts.
        """
        return self._beaten is not None and elapsed(self._beaten, self._engine.clock.mark()) < self._ttl

    def end(self) -> None:
        """
        Free its shards at once.
        """
        if self._beaten is None:
            return
        self._beaten, self.shards = None, {}
        try:
            sessions.end(self._engine.store, self._engine.config.env, self.id)
        except OncetaskError as error:
            LOGGER.warning("ending worker session %s failed: %s It runs out by itself.", self.id, error)
