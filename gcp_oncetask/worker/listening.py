"""
The listener that wakes a worker: one stream that shows the first due task of each kind and shard, and sessions that end.

While it runs, the worker makes no queries and no reads. If the listener can't be opened or breaks, the worker polls, and
the listener is opened again with back-off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import due_of, head_query
from gcp_oncetask.store.sessions import leaving_query

FIRST_PAUSE: Final = 1.0
"""Seconds before a broken listener is opened again; doubled each time it breaks again, with jitter."""
LONGEST_PAUSE: Final = 300.0


@dataclass(frozen=True, slots=True)
class _Head:
    """
    The first due task of a kind and shard.

    Attributes:
        name: Full name of its document.
        due: Time at which it is due.
        count: Number of the change that has shown it.
    """

    name: str
    due: datetime
    count: int


class Listener:
    """
    Listens for the first due task of each kind and shard, and for sessions that end.

    Args:
        runtime: Shared parts.
        shards: The shards of each kind to listen to; if empty, the listener only shows sessions.
        wake: Function that is called at each change, in another thread.

    Raises:
        OncetaskError: There is no client, or Firestore was unreachable.
    """

    def __init__(self, runtime: Runtime, shards: Mapping[str, Sequence[int]], wake: Callable[[], object]) -> None:
        env = runtime.config.env
        self._wake = wake
        self._places = [(kind, shard) for kind, owned in sorted(shards.items()) for shard in owned]
        self._heads: dict[int, _Head] = {}
        self._count = 0
        self._guard = threading.Lock()
        self._current: set[int] = set()
        self._closed = False
        self.broken = False
        self.departures = 0
        queries = [head_query(env, kind, shard) for kind, shard in self._places]
        changes, self._close = runtime.wire.listen([*queries, leaving_query(runtime.store, env)])
        self._thread = threading.Thread(target=self._run, args=(changes,), name="oncetask-listener", daemon=True)
        self._thread.start()

    def _run(self, changes: object) -> None:
        reason = "Firestore ended it"
        try:
            for place, name, document in changes:  # type: ignore[attr-defined]  # an iterator of triples
                with self._guard:
                    if place < 0:
                        self._current.add(-1 - place)
                    elif place == len(self._places):
                        self.departures += document is not None
                    elif document is not None:
                        self._count += 1
                        self._heads[place] = _Head(name, due_of(document), self._count)
                    elif place in self._heads and self._heads[place].name == name:
                        # It is due no more. The head that takes its place may have been shown before.
                        del self._heads[place]
                self._wake()
        except WireError as error:
            reason = str(error)
        finally:
            if not self._closed:
                LOGGER.warning("listening for tasks ended (%s); polling until it is open again", reason)
            self.broken = True
            self._wake()

    @property
    def healthy(self) -> bool:
        """
        True if the listener surely shows every due task.
        """
        return not self.broken and len(self._current) > len(self._places)

    def first_due(self) -> datetime | None:
        """
        Return the time at which the next task is due, as far as the stream has shown it; None if it has shown none.
        """
        with self._guard:
            return min((head.due for head in self._heads.values()), default=None)

    def shown(self) -> int:
        """
        Return the number of changes shown so far.
        """
        with self._guard:
            return self._count

    def looked(self, now: datetime, shown: int) -> None:
        """
        Forget the tasks that were due by *now* and are among the first *shown* changes, because a query has asked for them
        since.
        """
        with self._guard:
            self._heads = {place: head for place, head in self._heads.items() if head.due > now or head.count > shown}

    def close(self) -> None:
        """
        Stop listening.
        """
        self._closed = self.broken = True
        self._close()


class ListenerSupervisor:
    """
    Keeps a listener open: another one is opened when it breaks, and when the shards change.

    Args:
        runtime: Shared parts.
        wake: Called when something has changed; from another thread.
    """

    def __init__(self, runtime: Runtime, wake: Callable[[], object]) -> None:
        self._runtime = runtime
        self._wake = wake
        self._shards: dict[str, tuple[int, ...]] | None = None
        self._tried: Mark | None = None
        self._failures = 0
        self._pause = 0.0
        self._told = 0
        self.listener: Listener | None = None

    def to(self, shards: Mapping[str, tuple[int, ...]]) -> None:
        """
        Listen to *shards* from now on.
        """
        self._shards = dict(shards)
        self._failures = 0
        self._open()

    def distrust(self) -> None:
        """
        Close the listener, so that it is opened again. The connection is in doubt, and a stream may hang without an error.
        """
        if self.listener is not None and not self.listener.broken:
            self.listener.close()

    def tend(self) -> None:
        """
        Open the listener again if it is broken and its pause is over.
        """
        if self._shards is None or self.due_in() > 0:
            return
        self._open()

    def due_in(self) -> float:
        """
        Return the seconds until the listener should be opened again; infinity while it runs.
        """
        if self._shards is None or self._tried is None:
            return float("inf")
        if self.listener is not None and not self.listener.broken:
            if self.listener.healthy:
                self._failures = 0
            return float("inf")
        if not self._pause:
            self._failures += 1
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20))
            self._pause = longest * (0.5 + self._runtime.clock.random() / 2)
        return max(0.0, self._pause - elapsed(self._tried, self._runtime.clock.mark()))

    def _open(self) -> None:
        self.close()
        self._tried, self._pause, self._told = self._runtime.clock.mark(), 0.0, 0
        assert self._shards is not None
        try:
            self.listener = Listener(self._runtime, self._shards, self._wake)
        except OncetaskError as error:
            LOGGER.warning("no listener: %s", error)
        except Exception as error:  # noqa: BLE001 - a channel that can't stream may raise anything; polling goes on
            LOGGER.warning("no listener on this channel: %r", error)

    def departed(self) -> bool:
        """
        Tell whether a session has ended since the last call.
        """
        now = 0 if self.listener is None else self.listener.departures
        told, self._told = self._told, now
        return now > told

    @property
    def healthy(self) -> bool:
        """
        True if the listener surely shows every due task.
        """
        return self.listener is not None and self.listener.healthy

    def close(self) -> None:
        """
        Stop listening.
        """
        if self.listener is not None:
            self.listener.close()
            self.listener = None
