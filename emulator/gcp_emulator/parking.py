"""
Calls that wait in an asyncio loop, without a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gcp_emulator.clock import Clock, LoneClock, VirtualClock
from gcp_emulator.waiting import Hold, Steps


async def held(steps: Steps, clock: Clock) -> Any:
    """
    Run *steps* to their end; a wait holds no thread.
    """
    try:
        while True:
            try:
                hold = next(steps)
            except StopIteration as end:
                return end.value
            await _wait(hold, clock)
    finally:
        steps.close()


async def _wait(hold: Hold, clock: Clock) -> None:
    if isinstance(clock, LoneClock) and hold.until is not None:
        clock.move_to(hold.until)
        return
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(woken.set)

    leave = _nothing if hold.room is None else hold.room.park(hold, wake)
    if leave is None:
        return
    alarm: Callable[[], None] = _nothing
    if hold.until is not None:
        if isinstance(clock, VirtualClock):
            alarm = clock.alarm(hold.until, wake)
        else:
            alarm = loop.call_later(max(0.0, (hold.until - clock.micros()) / 1_000_000), woken.set).cancel
    try:
        await woken.wait()
    finally:
        leave()
        alarm()


def _nothing() -> None:
    pass
