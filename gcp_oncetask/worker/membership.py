"""
The session of one worker, and its share of each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.effects import refused
from gcp_oncetask.errors import OncetaskError, StoreError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import sessions
from gcp_oncetask.worker.shares import Session, shares

BEATS: Final = 3.0
"""Heartbeats per time to live, so that two may fail."""
SETTLING: Final = 1.0
"""Seconds after which a worker looks at the sessions again if they have changed."""
_FIRST_PAUSE: Final = 0.5
"""Seconds before a heartbeat that failed is tried again; doubled each time, up to the ordinary interval."""


class Membership:
    """
    Keeps a worker's session alive and computes its shards.

    A session whose heartbeats failed for its time to live counts as dead. It takes no more tasks, and the next heartbeat
    begins a new session.

    Workers learn of each other at different times; until all have, a shard may be in no worker's share. So a worker that
    sees a change of the sessions looks again soon. It also goes on watching its former shards until every worker has had a
    heartbeat.

    Args:
        runtime: Shared parts.
        kinds: The kinds that this worker runs.
        ttl: Seconds for which a heartbeat counts.

    Attributes:
        shards: The worker's share, by kind.
        watched: The shards that the worker queries, by kind: its share, and for a while its former ones.
        sessions: Number of living sessions.
    """

    def __init__(self, runtime: Runtime, kinds: Sequence[str], ttl: float) -> None:
        self._runtime = runtime
        self._kinds = tuple(kinds)
        self._ttl = ttl
        self._beaten: Mark | None = None
        self._version: Any | None = None
        self._tried: Mark | None = None
        self._failures = 0
        self._next_death: float | None = None
        self.id = runtime.clock.nonce()
        self.shards: dict[str, tuple[int, ...]] = {}
        self.watched: dict[str, tuple[int, ...]] = {}
        self.sessions = 0
        self._seen: frozenset[str] = frozenset()
        self._settled = False
        self._had: dict[str, tuple[int, ...]] = {}
        self._had_since: Mark | None = None

    def due_in(self) -> float:
        """
        Return the seconds until the next heartbeat.
        """
        if self._tried is None:
            return 0.0
        pause = self._ttl / BEATS
        if self._failures:
            pause = min(pause, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20))
        elif self._next_death is not None:
            # A living session has its next heartbeat long before that; the shards of a dead one are distributed at once.
            pause = min(pause, self._next_death)
        if not self._failures and not self._settled:
            pause = min(pause, SETTLING)
        return max(0.0, pause - elapsed(self._tried, self._runtime.clock.mark()))

    def beat(self) -> bool:
        """
        Write a heartbeat and compute the shares again; return True if the watched shards have changed.
        """
        runtime = self._runtime
        mark = self._tried = runtime.clock.mark()
        if self._beaten is not None and elapsed(self._beaten, mark) >= self._ttl:
            LOGGER.warning("worker session %s has died of missing heartbeats; another one begins", self.id)
            self.id, self.shards, self.watched, self._beaten = runtime.clock.nonce(), {}, {}, None
            self._version = None
        before = self.watched
        try:
            self._version = sessions.beat(
                runtime.store,
                runtime.config.env,
                self.id,
                kinds=self._kinds,
                host=runtime.instance(),
                ttl=self._ttl,
                version=self._version,
            )
            self._beaten = mark
            found, now = sessions.all_of(runtime.store, runtime.config.env, _warn)
        except OncetaskError as error:
            self._failures += 1
            LOGGER.warning("a heartbeat of worker session %s failed: %s", self.id, error)
            if isinstance(error, StoreError) and error.final:
                refused.tell(runtime, error)
            return False
        self._failures = 0
        self._share([Session(*one) for one in found], now, mark)
        return self.watched != before

    def _share(self, found: Sequence[Session], now: datetime, mark: Mark) -> None:
        alive = frozenset(session.id for session in found if session.alive(now))
        self.sessions = len(alive)
        self._settled, self._seen = alive == self._seen, alive
        others = [session.left(now) for session in found if session.alive(now) and session.id != self.id]
        self._next_death = min(others, default=None)
        count = self._runtime.config.pull_shards
        share = {kind: shares(found, kind, count, now).get(self.id, ()) for kind in self._kinds}
        if share != self.shards:
            # Keep all watched shards, because the worker may learn of several new sessions one by one.
            self._had, self._had_since, self.shards = self.watched, mark, share
        if self._had_since is not None and elapsed(self._had_since, mark) >= self._ttl / BEATS:
            self._had, self._had_since = {}, None
        self.watched = {kind: tuple(sorted({*own, *self._had.get(kind, ())})) for kind, own in share.items()}

    @property
    def failing(self) -> bool:
        """
        True if the last heartbeat failed.
        """
        return self._failures > 0

    def alive(self) -> bool:
        """
        Tell whether this process may still rely on its session being alive.
        """
        return self._beaten is not None and elapsed(self._beaten, self._runtime.clock.mark()) < self._ttl

    def end(self) -> None:
        """
        End the session, which frees its shards at once.
        """
        if self._beaten is None:
            return
        self._beaten, self.shards, self.watched = None, {}, {}
        try:
            sessions.end(self._runtime.store, self._runtime.config.env, self.id, self._version)
        except OncetaskError as error:
            LOGGER.warning("ending worker session %s failed: %s It runs out by itself.", self.id, error)


def _warn(path: str) -> None:
    LOGGER.warning("%s is damaged and does not count; its worker writes it anew, if it lives", path)
