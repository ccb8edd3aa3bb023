"""
Query due tasks. One query serves several claims, shards take turns, and tasks that can't run now are skipped.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.effects import damage, refused
from gcp_oncetask.errors import OncetaskError, StoreError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.queries import due_for_workers, shard_of
from gcp_oncetask.store.snapshot import Snapshot

LEFT_ALONE: Final = 5.0
"""Seconds for which this worker skips a task that it could not run."""
LONGEST: Final = 300.0
"""Most seconds for which a task is skipped that this version of the program can't run."""
FRESH: Final = 1.0
"""Seconds for which tasks that were read ahead are used."""
TURN: Final = 8
"""One query of so many begins with the shards that belong to others."""


@dataclass(slots=True)
class _KindState:
    """
    The state of the queries for one kind.

    Attributes:
        next_shard: Shard at which the next query begins.
        ahead: Tasks that were read and not yet handed out.
        asked: Time of the last query.
        taken: Number of tasks handed out since.
        queries: Number of queries.
    """

    next_shard: int = 0
    ahead: list[Snapshot] = field(default_factory=list)
    asked: Mark | None = None
    taken: int = 0
    queries: int = 0


@dataclass(frozen=True, slots=True)
class _Left:
    """
    A task that is skipped for a while.

    Attributes:
        since: Begin of the time.
        seconds: Length of the time.
        kept: Seconds after which this entry is forgotten.
    """

    since: Mark
    seconds: float
    kept: float


class Fetcher:
    """
    Queries due tasks.

    It reads ahead about as many tasks as were run in the last second. So short tasks share a query, and long ones are not
    read for nothing. Another worker may have taken a task that was read ahead; the claim detects that.

    Args:
        runtime: Shared parts.
        limits: Most tasks of each kind that run at once.
        alive: Tells whether the worker's session is alive; no query is made after it has died.
    """

    def __init__(self, runtime: Runtime, limits: Mapping[str, int], alive: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._limits = limits
        self._alive = alive
        self._kinds = {kind: _KindState() for kind in limits}
        self._guard = threading.Lock()
        self._later: dict[str, _Left] = {}
        self.failed = False

    def begin(self) -> None:
        """
        Begin a round of queries for all kinds. Tasks that were skipped for long enough by now are found by its queries. One
        whose time ends during the round may be missed by it, so its entry stays until the next round.
        """
        self.failed, now = False, self._runtime.clock.mark()
        with self._guard:
            self._later = {path: one for path, one in self._later.items() if elapsed(one.since, now) < one.kept}

    def leave(self, path: str, *, longer: bool = False) -> None:
        """
        Skip the task at *path* for a while. If it waits for another version of the program, skip it *longer* each time,
        because each query reads all skipped tasks.
        """
        mark = self._runtime.clock.mark()
        with self._guard:
            before = self._later.get(path)
            seconds = LEFT_ALONE if before is None or not longer else min(2 * before.seconds, LONGEST)
            self._later[path] = _Left(mark, seconds, 2 * seconds if longer else seconds)

    @property
    def again_in(self) -> float:
        """
        Seconds after which a query must be repeated, because tasks were skipped or a query failed; infinity if it need not
        be.
        """
        with self._guard:
            left = min((one.seconds for one in self._later.values()), default=float("inf"))
        return LEFT_ALONE if self.failed else left

    def forget(self) -> None:
        """
        Forget the tasks that were read ahead, because the shards have changed.
        """
        for one in self._kinds.values():
            one.ahead.clear()

    def due(
        self, kind: str, shards: Sequence[int], limit: int, *, others: Sequence[int] = (), most: int | None = None
    ) -> list[Snapshot]:
        """
        Return at most *limit* tasks of *kind* that are due in *shards*, without those that are skipped.

        Args:
            kind: The kind.
            shards: The shards, ascending.
            limit: Number of tasks that can be run now.
            others: Shards that probably belong to other workers by now, ascending. They are queried if *shards* have fewer
                tasks, and first by each eighth query, because the worker that they belong to may not know of them yet.
            most: Most tasks that are read ahead; None: no such limit.
        """
        known, now = self._kinds[kind], self._runtime.clock.mark()
        with self._guard:
            later = {path for path, one in self._later.items() if elapsed(one.since, now) < one.seconds}
        since = None if known.asked is None else elapsed(known.asked, now)
        if since is None or since >= FRESH:
            known.ahead.clear()
        known.ahead = [one for one in known.ahead if one.path not in later]
        if len(known.ahead) < limit:
            pace = 0 if since is None else int(known.taken * FRESH / max(since, FRESH))
            extra = min(2 * self._limits[kind], pace, limit if most is None else most)
            known.asked, known.taken = now, 0
            known.ahead = self._ask(kind, known, shards, others, limit + extra, later)
        found, known.ahead = known.ahead[:limit], known.ahead[limit:]
        known.taken += len(found)
        return found

    def _ask(
        self,
        kind: str,
        known: _KindState,
        shards: Sequence[int],
        others: Sequence[int],
        limit: int,
        later: set[str],
    ) -> list[Snapshot]:
        """
        Query the shards in turn. Firestore returns tasks in the order of the shards; so that the first shards can't starve
        the others, a query begins after the shard that was served last.
        """
        place = bisect_left(shards, known.next_shard)
        parts = [shards[place:], shards[:place]]
        known.queries += 1
        parts.insert(len(parts) if known.queries % TURN else 0, others)
        found: list[Snapshot] = []
        for part in parts:
            # The session may have died during the first query.
            if part and len(found) < limit and self._alive():
                found += [one for one in self._query(kind, part, limit + len(later)) if one.path not in later]
        last = shard_of(found[limit - 1]) if len(found) >= limit else -1
        if last not in others:
            known.next_shard = last + 1
        return found[:limit]

    def _query(self, kind: str, shards: Sequence[int], limit: int) -> list[Snapshot]:
        runtime = self._runtime
        try:
            return due_for_workers(
                runtime.store, runtime.config.env, kind, shards, limit, partial(damage.set_aside, runtime)
            )
        except OncetaskError as error:
            self.fail(kind, error)
            return []

    def fail(self, which: str, error: OncetaskError) -> None:
        """
        Note that *which* tasks could not be looked for because of *error*, so that the worker soon looks again; tell a
        person if Firestore refuses for good.
        """
        self.failed = True
        LOGGER.warning("looking for %s tasks failed: %s", which, error)
        if isinstance(error, StoreError) and error.final:
            refused.tell(self._runtime, error)
