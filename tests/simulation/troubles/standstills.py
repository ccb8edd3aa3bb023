"""
Tasks stand still for longer than a person is to wait: their queue is paused, while everything else goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from gcp_emulator.tasks.messages import PauseQueueRequest
from tests.simulation.world import QUEUE, World

LENGTHS = (200, 400, 900)
"""Seconds: less than the time after which a person is told, and more."""


def stand_still(world: World, resume: Callable[[], None]) -> None:
    """
    Perhaps pause the queue now, and let it go on after a while.
    """
    if world.hit("standstills", 0.1):
        length = world.hub.rng.choice(LENGTHS)
        world.tell("a person", f"pauses the queue for {length} s")
        world.tasks.service.call("PauseQueue", PauseQueueRequest(name=QUEUE))
        world.hub.spawn(world.cloud, resume, after=length)
