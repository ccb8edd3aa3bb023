"""
A log server, and a clock that is moved by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gcp_emulator.clock import SystemClock as EmulatorClock
from gcp_emulator.faults import Faults
from gcp_emulator.logging import LoggingServer
from gcp_oncetask.clock import Mark


class Ticks:
    """
    A clock that is moved by hand; wall time is real, since the server's is.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def mark(self) -> Mark:
        return Mark(self.seconds, self.seconds, self.seconds)


@pytest.fixture
def server() -> Iterator[LoggingServer]:
    """
    A log server that runs.
    """
    server = LoggingServer(EmulatorClock(), Faults(seed=1))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clock() -> Ticks:
    """
    The clock of the test.
    """
    return Ticks()
