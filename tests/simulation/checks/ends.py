"""
A step whose end line was visible in time is not run again: as it is seen when a handler is entered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.checks.wire import Record
from tests.simulation.hub import SECOND
from tests.simulation.world import Process, World

LOG_GRACE = 120 * SECOND
TIMEOUT = 630 * SECOND
"""Defaults of the library: a holder is judged without its lines only that long after its grant, and the grace."""


class Step(NamedTuple):
    """
    One sequence of one life of a document; its cancellation handler is another step.
    """

    document: str
    life: int
    sequence: int
    cleans: bool


class Said(NamedTuple):
    """
    The last end line of a holder that says that its step is done: when it was written, and what it said.
    """

    at: int
    kind: str


class Ends:
    """
    Watches the end lines of one world.
    """

    def __init__(self, world: World, broken: Callable[[str, str], None]) -> None:
        self._world = world
        self._broken = broken
        self._said: dict[str, Said] = {}
        self._taken: dict[Step, list[tuple[int, str]]] = {}

    def line(self, process: Process, own: dict[str, str], delay: float | None) -> None:
        """
        A process has written a line, which can be read after *delay*; None: never.
        """
        if own["event"] != "returned":
            return
        self._said.pop(own["holder"], None)
        settlement = own.get("settlement")
        # A line that is dated by a wrong clock is not among those that recovery asks for.
        if settlement and delay is not None and delay * SECOND <= LOG_GRACE and not process.skew:
            kind = json.loads(settlement)["kind"]
            if kind in ("complete", "continue"):
                self._said[own["holder"]] = Said(self._world.hub.now, kind)

    def changed(self, path: str, life: int, before: Record | None, after: Record) -> None:
        """
        A commit has changed a record.
        """
        if before is not None and before.status == "scheduled" and after.wanted > before.wanted:
            # A newer payload runs as if the task were new, in the same sequence.
            for cleans in (False, True):
                self._taken.pop(Step(path, life, before.sequence, cleans), None)
        if before is None or before.status != "leased" or after.sequence != before.sequence:
            return
        if (after.status, after.token) == (before.status, before.token):
            return
        said, now = self._said.get(before.holder), self._world.hub.now
        in_time = said is not None and said.at <= before.ends_at and now <= before.granted_at + TIMEOUT + LOG_GRACE
        # A settlement that makes its document too large can't be written, neither by its holder nor from the log.
        if in_time and not self._world.refusals.was_large(path):
            step = Step(path, life, before.sequence, before.cancelling)
            self._taken.setdefault(step, []).append((before.token, before.holder))

    def begins(self, path: str, life: int, sequence: int, token: int, *, cleans: bool) -> None:
        """
        A handler is entered.
        """
        for earlier, holder in self._taken.get(Step(path, life, sequence, cleans), ()):
            said = self._said.get(holder)
            if said is not None and earlier < token:
                self._broken(path, f"sequence {sequence} runs again, and token {earlier} had said in time: {said.kind}")
