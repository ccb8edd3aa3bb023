"""
A local Firestore with a store on it, for tests of the store without the library around it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_emulator.testing import InProcessCloud
from gcp_oncetask.clock import Mark
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store.coalescing import Coalescer
from gcp_oncetask.store.codec import put
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import Wire
from gcp_oncetask.testing.cloud import TestClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def mark(seconds: float) -> Mark:
    """
    A look at a clock that is exact and never stands.
    """
    return Mark(seconds, seconds, seconds, drift=0.0)


class Base:
    """
    A database with documents whose records are written as they are.
    """

    def __init__(self) -> None:
        self.cloud = InProcessCloud()
        clock = TestClock(self.cloud.clock)
        self.wire = Wire(lambda _: self.cloud.firestore_client(), clock, 10.0)
        self.store = Store(self.wire, clock, 1.0, Coalescer(self.wire, clock, 10.0, on=False))
        self.now = self.store.estimate()
        self.aside: list[str] = []

    def set(self, path: str, *, sound: bool = True, **record: Any) -> None:
        request = self.wire.request(path)
        fields = request.writes[0].update.fields
        put(fields["lock"], {"env": "E", "sequence": 1, "status": "scheduled" if sound else "nonsense", **record})
        put(fields["createdAt"], NOW)
        self.wire.commit(request)

    def at(self, seconds: float) -> str:
        """
        An instant so many seconds from now, as a text.
        """
        return instant(self.now + timedelta(seconds=seconds))

    def put_aside(self, error: DamagedError, document: Any) -> None:
        self.aside.append(error.document)

    def calls(self) -> int:
        return int(self.cloud.firestore.counts["RunQuery"])
