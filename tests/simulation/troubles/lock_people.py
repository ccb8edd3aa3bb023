"""
People among named locks and functions that run once: they delete documents, and damage and repair them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gcp_oncetask import Status
from gcp_oncetask.rules.named import ends_at
from gcp_oncetask.rules.record import Lock
from tests.simulation.clients import ROOT
from tests.simulation.locks.checker import PROMPT
from tests.simulation.troubles import damage
from tests.support.damages import DAMAGES, Damage

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
    if history.plan.has("damages"):
        history.hub.spawn(history.world.cloud, _damage, history)


def _delete(history: LocksHistory) -> None:
    """
    Delete documents that nobody holds, at any moment; and now and then one that is held.
    """
    world, hub, checker = history.world, history.hub, history.checker
    while world.trouble:
        hub.sleep(history.draw.expovariate(1 / 15))
        for path, lock in list(checker.locks.items()):
            if path in checker.damages.now or lock.granted_at is None or hub.time() < lock.granted_at + LOOK:
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


def _damage(history: LocksHistory) -> None:
    """
    Damage documents, held and free, and repair them by hand after a while: who calls meanwhile is told.
    """
    world, hub, draw, checker = history.world, history.hub, history.draw, history.checker
    while world.trouble:
        hub.sleep(draw.expovariate(1 / 60))
        for path, lock in list(checker.locks.items()):
            hows = [how for how in DAMAGES if lock.status in how.statuses and how.field != "due"]
            if path in checker.damages.now or not world.hit("damages", 0.1):
                continue
            how = draw.choice(hows)
            kept = damage.strike(history, path, how)
            if kept is not None:
                world.counts[f"damaged {'while held' if lock.status is Status.LEASED else 'while free'}"] += 1
                hub.spawn(world.cloud, _repair, history, path, how, kept)


def _repair(history: LocksHistory, path: str, how: Damage, kept: dict[str, Any]) -> None:
    world, hub, checker = history.world, history.hub, history.checker
    hub.sleep(history.draw.choice((5.0, 40.0, 200.0)))
    if path in checker.damages.now:
        world.tell("a person", f"repairs {path}")
        world.counts["locks repaired by hand"] += 1
        damage.write(history, path, damage.names_of(how), kept)
