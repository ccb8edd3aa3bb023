"""
Looking for what is due: one query for several claims, no shard before the others for ever, nothing that can't run in the way.
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
"""Seconds for which a task that could not be run here is left alone by this worker."""
LONGEST: Final = 300.0
"""Seconds for which at most it is left alone if it can't be run by this version of the program."""
FRESH: Final = 1.0
"""Seconds for which what was read ahead is used."""


@dataclass(slots=True)
class _KindState:
    """
    What is known of one kind.

    Attributes:
        next_shard: Where the next question begins.
        ahead: Read and not yet handed out.
        asked: When the last question was asked.
        taken: How many were handed out since.
    """

    next_shard: int = 0
    ahead: list[Snapshot] = field(default_factory=list)
    asked: Mark | None = None
    taken: int = 0


@dataclass(frozen=True, slots=True)
class _Left:
    """
    A task that is left alone.

    Attributes:
        since: From when on.
        seconds: For how long.
        kept: After so many seconds it is forgotten.
    """

    since: Mark
    seconds: float
    kept: float


class Fetcher:
    """
    Asks for due tasks.

    Reads ahead about as many as were run in the last second: short tasks share a query, long ones are not read for nothing.
    What was read ahead may be somebody else's by then: the claim finds out.

    Args:
        runtime: Finds the shared parts when it is called, since a test may exchange them.
        limits: How many of each kind run at once.
        alive: Whether the worker's session counts; nothing is asked for one that has died.
    """

    def __init__(self, runtime: Callable[[], Runtime], limits: Mapping[str, int], alive: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._limits = limits
        self._alive = alive
        self._kinds = {kind: _KindState() for kind in limits}
        self._guard = threading.Lock()
        self._later: dict[str, _Left] = {}
        self.failed = False

    def leave(self, path: str, *, longer: bool = False) -> None:
        """
        Leave the task at *path* alone for a while; *longer* each time, where it waits for another version of the program, since
        each look reads all that are left alone.
        """
        mark = self._runtime().clock.mark()
        with self._guard:
            before = self._later.get(path)
            seconds = LEFT_ALONE if before is None or not longer else min(2 * before.seconds, LONGEST)
            self._later[path] = _Left(mark, seconds, 2 * seconds if longer else seconds)

    @property
    def again_in(self) -> float:
        """
        Seconds after a look at which it is to be repeated, since tasks were left alone or could not be asked for.
        """
        with self._guard:
            left = min((one.seconds for one in self._later.values()), default=float("inf"))
        return LEFT_ALONE if self.failed else left

    def forget(self) -> None:
        """
        The shards are others now: forget what was read ahead.
        """
        for one in self._kinds.values():
            one.ahead.clear()

    def due(self, kind: str, shards: Sequence[int], limit: int, *, most: int | None = None) -> list[Snapshot]:
        """
        At most *limit* tasks of *kind* that are due in *shards*, but for those that are left alone.

        Args:
            kind: The kind.
            shards: Ascending.
            limit: How many can be run now.
            most: Read no more than so many ahead.
        """
        known, now = self._kinds[kind], self._runtime().clock.mark()
        with self._guard:
            self._later = {path: one for path, one in self._later.items() if elapsed(one.since, now) < one.kept}
            later = {path for path, one in self._later.items() if elapsed(one.since, now) < one.seconds}
        since = None if known.asked is None else elapsed(known.asked, now)
        if since is None or since >= FRESH:
            known.ahead.clear()
        known.ahead = [one for one in known.ahead if one.path not in later]
        if len(known.ahead) < limit:
            pace = 0 if since is None else int(known.taken * FRESH / max(since, FRESH))
            extra = min(2 * self._limits[kind], pace, limit if most is None else most)
            known.asked, known.taken = now, 0
            known.ahead = self._ask(kind, known, shards, limit + extra, later)
        found, known.ahead = known.ahead[:limit], known.ahead[limit:]
        known.taken += len(found)
        return found

    def _ask(self, kind: str, known: _KindState, shards: Sequence[int], limit: int, later: set[str]) -> list[Snapshot]:
        """
        Firestore answers in the order of the shards: so that the first ones can't starve the others, it goes on after the one
        that was served last.
        """
        place = bisect_left(shards, known.next_shard)
        found: list[Snapshot] = []
        for part in (shards[place:], shards[:place]):
            # The first question may have taken longer than the session lives.
            if part and len(found) < limit and self._alive():
                found += [one for one in self._query(kind, part, limit + len(later)) if one.path not in later]
        known.next_shard = shard_of(found[limit - 1]) + 1 if len(found) >= limit else 0
        return found[:limit]

    def _query(self, kind: str, shards: Sequence[int], limit: int) -> list[Snapshot]:
        runtime = self._runtime()
        try:
            return due_for_workers(
                runtime.store, runtime.config.env, kind, shards, limit, partial(damage.set_aside, runtime)
            )
        except OncetaskError as error:
            self.failed = True
            LOGGER.warning("looking for %s tasks failed: %s", kind, error)
            if isinstance(error, StoreError) and error.final:
                refused.tell(runtime, error)
            return []
