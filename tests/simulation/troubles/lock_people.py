"""
People among named locks and functions that run once: they delete documents.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from gcp_oncetask import Status
from gcp_oncetask.rules.named import ends_at
from gcp_oncetask.rules.record import Lock
from tests.simulation.chains.checker import ROOT
from tests.simulation.locks.checker import PROMPT

if TYPE_CHECKING:
    from tests.simulation.locks.history import LocksHistory

LOOK = timedelta(milliseconds=PROMPT)
"""A person who deletes a document has looked at it first."""


def set_up(history: LocksHistory) -> None:
    """
    Let them begin.
    """
    if history.plan.has("deletes") or history.plan.has("seizures"):
        history.hub.spawn(history.world.cloud, _delete, history)


def _delete(history: LocksHistory) -> None:
    """
    Delete documents that nobody holds, at any moment; and now and then one that is held.
    """
    world, hub, checker = history.world, history.hub, history.checker
    while world.trouble:
        hub.sleep(history.draw.expovariate(1 / 15))
        for path, lock in list(checker.locks.items()):
            if lock.granted_at is None or hub.time() < lock.granted_at + LOOK:
                continue
            if _is_held(lock, history):
                if world.hit("seizures", 0.03):
                    checker.seizures.seizes(path, lock, hub.now)
                    world.write(delete=ROOT + path)
            elif world.hit("deletes", 0.3):
                world.counts[f"{lock.status} documents deleted by a person"] += 1
                world.write(delete=ROOT + path)


def _is_held(lock: Lock, history: LocksHistory) -> bool:
    end = ends_at(lock) if lock.status is Status.LEASED else None
    return lock.status is Status.LEASED and (end is None or history.hub.time() < end)
