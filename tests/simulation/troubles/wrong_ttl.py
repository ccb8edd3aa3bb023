"""
People, or old programs, who write a wrong time of expiry on a document that lives or owes an alert; and TTL, which deletes it
some time later.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gcp_oncetask import Status
from gcp_oncetask.store.codec import encode
from tests.simulation.clients import ROOT
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.locks.history import LocksHistory
    from tests.simulation.tasks.history import TasksHistory

_LATER = (1.0, 60.0, 600.0, 3600.0)
"""Seconds after which TTL comes: the service takes up to a day."""


def set_up(history: TasksHistory) -> None:
    """
    Let them begin among once-tasks.
    """
    if history.plan.has("wrong_ttl"):
        history.hub.spawn(history.world.cloud, _among_tasks, history)


def set_up_locks(history: LocksHistory) -> None:
    """
    Let them begin among named locks and functions that run once.
    """
    if history.plan.has("wrong_ttl"):
        history.hub.spawn(history.world.cloud, _among_locks, history)


def _write(world: World, path: str) -> datetime:
    world.tell("a person", f"lets {path} expire")
    expires = world.hub.time() - timedelta(seconds=world.hub.rng.choice((0, 3600)))
    world.write(
        update={"name": ROOT + path, "fields": {"expireAt": encode(expires)}},
        update_mask={"field_paths": ["expireAt"]},
        current_document={"exists": True},
    )
    return expires


def _among_tasks(history: TasksHistory) -> None:
    world, checker = history.world, history.checker
    while world.trouble:
        history.hub.sleep(history.draw.expovariate(1 / 90))
        for path, lock in list(checker.locks.items()):
            lives = not lock.finished or bool(lock.owed)
            known = path in checker.damages.now or path in checker.wrong_ttl.now
            if lives and not known and world.hit("wrong_ttl", 0.06):
                _write(world, path)
                history.hub.spawn(world.cloud, _expire_task, history, path, checker.lives[path])


def _expire_task(history: TasksHistory, path: str, life: int) -> None:
    world, checker = history.world, history.checker
    history.hub.sleep(history.draw.choice(_LATER))
    lock = checker.locks.get(path)
    if lock is None or checker.lives[path] != life or path not in checker.wrong_ttl.now:
        return
    state = "indebted" if lock.finished else str(lock.status)
    world.counts[f"deleted by a wrong TTL: {state}"] += 1
    world.write(delete=ROOT + path)


def _among_locks(history: LocksHistory) -> None:
    world, checker = history.world, history.checker
    while world.trouble:
        history.hub.sleep(history.draw.expovariate(1 / 60))
        for path, lock in list(checker.locks.items()):
            held = lock.status is Status.LEASED and path not in checker.damages.now
            if held and world.hit("wrong_ttl", 0.1):
                checker.let_expire[path] = _write(world, path)
                history.hub.spawn(world.cloud, _expire_lock, history, path)


def _expire_lock(history: LocksHistory, path: str) -> None:
    world, checker = history.world, history.checker
    history.hub.sleep(history.draw.choice((1.0, 10.0, 60.0)))
    lock = checker.locks.get(path)
    if lock is None or path in checker.damages.now:
        return
    if checker.read(path)[1].get("expireAt") != checker.let_expire[path]:
        # Its holder has refreshed it, or given it back.
        return
    if lock.status is Status.LEASED:
        checker.seizures.seizes(path, lock, world.hub.now)
    world.counts[f"{lock.status} documents deleted by a wrong TTL"] += 1
    world.write(delete=ROOT + path)
