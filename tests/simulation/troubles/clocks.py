"""
Clocks that drift, and machines that are suspended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.process import BOOTTIME, MONOTONIC, WALL, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

DRIFTS = (-500e-6, -200e-6, 200e-6, 500e-6)
"""Shares by which the clocks of a machine run too fast; 500 ppm is the most by which Linux corrects a clock for good."""
SUSPENDED = (MONOTONIC,)
NOT_DATED = (MONOTONIC, WALL)
"""The time of day is not set right afterwards."""
SNAPSHOT = (MONOTONIC, BOOTTIME)
"""Of a machine that is restored from a snapshot only the time of day is set right."""


def drift(world: World, process: Process) -> None:
    """
    Give the machine of *process* clocks that run too fast or too slow.
    """
    if world.trouble and world.plan.has("drifts"):
        share = world.hub.rng.choice(DRIFTS)
        process.clocks.set(drift=share, standing=())
        world.counts[f"clocks that run too {'fast' if share > 0 else 'slow'}"] += 1


def suspend(world: World, process: Process) -> None:
    """
    Perhaps the machine of *process*, which stops running now, is suspended, so that some of its clocks stand.
    """
    if not world.hit("suspends", 0.6):
        return
    # A restored machine whose time of day is not right either could not know how long it was away: every other machine
    # keeps it right, unless somebody sets it.
    keeps = not world.plan.has("skews") and int(process.name.rpartition("-")[2]) % 2 == 0
    standing = world.hub.rng.choice((SUSPENDED, SNAPSHOT if keeps else NOT_DATED))
    world.tell(process.name, f"is suspended: {' and '.join(standing)} stand")
    world.counts[f"suspensions: {' and '.join(standing)} stand"] += 1
    process.clocks.set(drift=process.clocks.drift, standing=standing)


def resume(process: Process) -> None:
    """
    The clocks of the machine go on.
    """
    process.clocks.set(drift=process.clocks.drift, standing=())
