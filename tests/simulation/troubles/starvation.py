"""
Renewal threads that get no processor for a while, although their process runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gcp_oncetask.clock import Wakeup
from gcp_oncetask.execution.renewal import Renewals
from tests.simulation.hub import SECOND, Hub, Signal
from tests.simulation.process import Process, ProcessClock

if TYPE_CHECKING:
    from tests.simulation.world import World

STARVED = (30.0, 90.0, 400.0, 1000.0)
"""Seconds for which they do not run."""


class _Clock(ProcessClock):
    """
    The clock of a process, as its renewal threads see it.
    """

    def __init__(self, hub: Hub, process: Process) -> None:
        super().__init__(hub, process)
        self._starves = process
        self._world_hub = hub

    def wait(self, event: Wakeup | Signal, timeout: float) -> bool:
        found = super().wait(event, timeout)
        if self._starves.starved_until > self._world_hub.now:
            self._world_hub.sleep((self._starves.starved_until - self._world_hub.now) / SECOND)
        return found


def renewals(world: World, process: Process) -> Renewals:
    """
    The renewals of *process*, which come late or not at all while their threads starve.
    """
    hub = world.hub

    def spawn(run: Callable[..., Any], *arguments: Any) -> Any:
        if world.hit("starved_renewals", 0.05):
            seconds = hub.rng.choice(STARVED)
            process.starved_until = max(process.starved_until, hub.now + round(seconds * SECOND))
            process.hurt_until = max(process.hurt_until, process.starved_until)
            world.tell(process.name, f"does not run its renewal threads for {seconds:g} s")
        return hub.spawn(process, run, *arguments, after=max(0, process.starved_until - hub.now) / SECOND)

    return Renewals(_Clock(hub, process), spawn)
