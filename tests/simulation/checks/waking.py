"""
How soon workers begin a task that is created while all is quiet, and a waiter gets a lock that is released then: at once
where a listener is open, else at the next poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_oncetask.locks import lock as lock_module
from gcp_oncetask.worker.listening import LONGEST_PAUSE
from tests.simulation.hub import SECOND, Promise
from tests.simulation.troubles.listeners import BROKEN

if TYPE_CHECKING:
    from tests.simulation.locks.history import LocksHistory
    from tests.simulation.workers.history import WorkersHistory

SETTLED = 60
"""Seconds after which the shards of somebody who has joined are shared."""
SOON = 5.0
"""Seconds in which a listener has woken its worker, and the worker has begun the task."""


def check_waking(history: WorkersHistory) -> None:
    """
    Create tasks: while no listener can be open, when listeners are open again, and none for a while.
    """
    world = history.world
    world.no_listeners = True
    for _, stream in list(world.streams):
        stream.end(history.draw.choice(BROKEN))
    history.hub.sleep(1.0)
    _begun_within(history, "polled", history.workers_plan.poll + SOON, "no listener is open")
    world.no_listeners = False
    if not history.workers_plan.listen:
        return
    history.hub.sleep(LONGEST_PAUSE + SOON)
    _begun_within(history, "woken", SOON, "listeners can be open")
    before, begun = world.counts["looks"], history.hub.now - SETTLED * SECOND
    history.hub.sleep(3 * history.workers_plan.poll)
    # Shards move when somebody has joined, and those that are new to a worker are looked at.
    if history.joined < begun and world.counts["looks"] > before:
        history.checker.broken("the workers", "they look for tasks though their listeners have shown none")


def _begun_within(history: WorkersHistory, name: str, seconds: float, when: str) -> None:
    path = history.created_now(name)
    history.hub.sleep(seconds)
    history.world.counts[f"tasks {name}"] += 1
    if not any(entered[0] == path for entered in history.checker.entered):
        history.checker.broken(path, f"no worker has begun it within {seconds:g} s though {when}")
    # Its run goes on, and its key, if any, goes to the next one.
    history.hub.sleep(60)


def check_waiters(history: LocksHistory) -> None:
    """
    One waits for a lock while no listener can be open, and another one when they can.
    """
    for no_listeners, seconds in ((True, lock_module._LONGEST_PAUSE + 1.0), (False, 2.0)):
        history.world.no_listeners = no_listeners
        _granted_within(history, f"awaited{seconds:g}", seconds)
    history.world.no_listeners = False


def _granted_within(history: LocksHistory, name: str, seconds: float) -> None:
    hub, world = history.hub, history.world
    process = world.some_process()
    holder, waiter = (process.locker.lock(name, keep_alive=60.0, listen=True) for _ in range(2))
    granted = Promise(hub)

    def wait() -> None:
        granted.give(waiter.acquire(timeout=300.0))
        waiter.release()

    def hold() -> None:
        holder.acquire(timeout=0.0)
        hub.spawn(process, wait)
        # Long enough for its pauses to be at their longest.
        hub.sleep(90.0)
        holder.release()
        released.give(True)

    released = Promise(hub)
    hub.spawn(process, hold)
    released.wait(120.0)
    granted.wait(seconds)
    world.counts["waits for a lock that ended"] += 1
    # The waiter gives the lock back.
    hub.sleep(10.0)
    if not (released.given and granted.given and granted.value):
        history.checker.broken(name, f"who waits for it has not got it within {seconds:g} s of its release")
