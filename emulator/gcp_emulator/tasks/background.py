"""
Ways to make deliveries in the background: in one event loop, or in threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeAlias

from gcp_emulator.tasks.crew import Crew
from gcp_emulator.tasks.records import Delivery
from gcp_emulator.tasks.transport import Answer, Dispatch

Send: TypeAlias = Callable[[Dispatch], Coroutine[Any, Any, Answer]]

_logger = logging.getLogger(__name__)


class Background(Protocol):
    """
    Makes deliveries while its caller goes on.

    Attributes:
        most: Deliveries at once.
    """

    most: int

    def submit(self, delivery: Delivery) -> None:
        """
        Make *delivery* as soon as possible. One thread submits.
        """

    def stop(self) -> None:
        """
        Abandon the deliveries under way.
        """


class LoopBackground:
    """
    Deliveries over HTTP, in one event loop. The queues bound their number, and the files that this process may open.
    """

    def __init__(self, deliver: Callable[[Delivery, Send], Coroutine[Any, Any, None]]) -> None:
        from gcp_emulator.tasks.sender import Sender, most_at_once

        self.most = most_at_once()
        self._deliver = deliver
        self._sender = Sender()
        self._sender.start()

    def submit(self, delivery: Delivery) -> None:
        self._sender.submit(partial(self._run, delivery))

    def stop(self) -> None:
        self._sender.stop()

    async def _run(self, delivery: Delivery) -> None:
        try:
            await self._deliver(delivery, self._sender.send)
        except Exception:
            _logger.exception("The delivery of task %s failed", delivery.task)


class ThreadBackground:
    """
    Deliveries by a transport that holds its caller until the answer comes: each has a thread.
    """

    def __init__(self, deliver: Callable[[Delivery], object], most: int) -> None:
        self.most = most
        self._deliver = deliver
        self._crew = Crew(most, "tasks-dispatch")

    def submit(self, delivery: Delivery) -> None:
        self._crew.submit(partial(self._run, delivery))

    def stop(self) -> None:
        self._crew.dismiss()

    def _run(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        except Exception:
            _logger.exception("The transport failed on task %s", delivery.task)
