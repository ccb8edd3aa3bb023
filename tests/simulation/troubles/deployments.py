"""
Two deployments of one release at once: the later one has another address, longer leases and twice as many attempts, and its
model of chains has one field more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gcp_oncetask.rules.record import Lock, Status
from tests.simulation.process import ENV, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

NEXT = "https://next.test"
"""Address of the later deployment; both deployments serve both."""
LEASE, LONGER = 60.0, 300.0
"""Seconds of a lease."""
EARLIER, LATER = "earlier", "later"


def deployed(world: World, process: Process, origin: str, *, later: bool = False) -> str:
    """
    Let *process* be of the later deployment, or not; *later*: it is. Returns the address that is configured there.
    """
    if "deployments" not in world.plan.troubles or process.env != ENV or process.released:
        return origin
    world.origins[NEXT] = ENV
    process.deployment = LATER if later else world.hub.rng.choice((EARLIER, LATER))
    if process.deployment == EARLIER:
        return origin
    world.later.add(process.name)
    world.counts["processes of a later deployment"] += 1
    return NEXT


def complete(world: World, locks: Iterable[Lock]) -> None:
    """
    Deploy the later deployment once more, if a task waits for its address and none of its processes is left: processes of
    the earlier one, and of the release before, may not send its tasks there.
    """
    waits = any(lock.status is Status.SCHEDULED and (lock.url or "").startswith(NEXT) for lock in locks)
    if waits and not any(process.deployment == LATER for process in world.processes):
        world.counts["deployments that were completed"] += 1
        world.start_process(later=True)


def lease_of(process: Process) -> float:
    """
    Seconds of the leases that *process* takes.
    """
    return LONGER if process.deployment == LATER else LEASE


def most_of(process: Process | None, most: int) -> int:
    """
    Attempts that *process* allows, where the plan allows *most*.
    """
    return max(1, most // 2) if process is not None and process.deployment == EARLIER else most
