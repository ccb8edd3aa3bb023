"""
Being woken: one stream that shows, of each kind and shard, the task that is due first.

While it runs nothing is asked and nothing read; where it can't be opened, or breaks, the worker polls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from gcp_oncetask.engine import LOGGER, Engine
from gcp_oncetask.store.queries import due_of, head_query
from gcp_oncetask.store.wire import WireError


class Listener:
    """
    Listens for the first due task of each kind and shard.

    Args:
        engine: Shared parts.
        shards: Of each kind, the shards to listen to.
        wake: Called when something has changed; from another thread.
    """

    def __init__(self, engine: Engine, shards: Mapping[str, Sequence[int]], wake: Callable[[], object]) -> None:
        env = engine.config.env
        self._wake = wake
        self._places = [(kind, shard) for kind, owned in sorted(shards.items()) for shard in owned]
        self._heads: dict[int, tuple[datetime, int]] = {}
        self._count = 0
        self._guard = threading.Lock()
        self._current = 0
        self.broken = False
        self._close: Callable[[], None] = lambda: None
        if not self._places:
            return
        changes, self._close = engine.wire.listen([head_query(env, kind, shard) for kind, shard in self._places])
        self._thread = threading.Thread(target=self._run, args=(changes,), name="oncetask-listener", daemon=True)
        self._thread.start()

    def _run(self, changes: object) -> None:
        try:
            for place, document in changes:  # type: ignore[attr-defined]  # an iterator of pairs
                with self._guard:
                    if place < 0:
                        self._current += 1
                    elif document is not None:
                        self._count += 1
                        self._heads[place] = due_of(document), self._count
                self._wake()
        except WireError as error:
            if not self.broken:
                LOGGER.warning("listening for tasks ended (%s); polling until it is open again", error)
        finally:
            self.broken = True
            self._wake()

    @property
    def healthy(self) -> bool:
        """
        Whether it surely shows everything that is due.
        """
        return not self.broken and self._current >= len(self._places)

    def first_due(self) -> datetime | None:
        """
        When the next task is due, as far as is shown.
        """
        with self._guard:
            return min((due for due, _ in self._heads.values()), default=None)

    def shown(self) -> int:
        """
        How many changes were shown so far.
        """
        with self._guard:
            return self._count

    def looked(self, now: datetime, shown: int) -> None:
        """
        Forget what was due by *now* and among the first *shown* changes: it has been asked for since.
        """
        with self._guard:
            self._heads = {place: head for place, head in self._heads.items() if head[0] > now or head[1] > shown}

    def close(self) -> None:
        """
        Stop listening.
        """
        self.broken = True
        self._close()
