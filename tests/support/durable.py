"""
Durable handlers under test.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gcp_oncetask import FixedDelay
from tests.support.tasks import Service

SECOND = FixedDelay(delay=timedelta(seconds=1))


class Calls:
    """
    A function that counts its calls, and does something at some of them.
    """

    def __init__(self, *does: Any) -> None:
        self.does = list(does)
        self.seen: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> Any:
        self.seen.append(args)
        act = self.does.pop(0) if self.does else "done"
        if isinstance(act, BaseException):
            raise act
        return act(*args) if callable(act) else act


def play(service: Service, act: Callable[[Any, Any], Any], **options: Any) -> Service:
    """
    Let *act* handle the task ``a`` for an hour, with sweeps.
    """
    service.handle(**{"retry": SECOND, **options}).create("a")
    service.act = act
    service.settle(60)
    return service
