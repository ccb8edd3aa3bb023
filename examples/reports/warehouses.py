"""
The outside world: warehouses that bear one reader at a time, and note every reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

READING = timedelta(minutes=1)


@dataclass(frozen=True)
class Reading:
    """
    One run of a report.

    Attributes:
        customer: Whose.
        night: The nominal time of the run, aware UTC.
        began: When it really began.
    """

    customer: str
    night: datetime
    began: datetime


@dataclass
class Warehouses:
    """
    What they have seen.

    Attributes:
        readings: All of them, in order.
        clashes: Of two customers who read one warehouse at once.
        now: The clock.
        pass_time: Lets time pass while somebody reads.
    """

    readings: list[Reading] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    now: Callable[[], datetime] | None = None
    pass_time: Callable[[timedelta], None] | None = None
    _readers: dict[str, str] = field(default_factory=dict)

    def open(self, now: Callable[[], datetime], pass_time: Callable[[timedelta], None]) -> None:
        """
        Begin anew.
        """
        self.__init__(now=now, pass_time=pass_time)  # type: ignore[misc]  # the same object, as it was made

    def read(self, warehouse: str, customer: str, night: datetime) -> int:
        """
        Read a customer's rows, which takes a minute; returns how many.
        """
        assert self.now is not None
        assert self.pass_time is not None
        other = self._readers.get(warehouse)
        if other is not None:
            both = " and ".join(sorted((customer, other)))
            self.clashes.append(f"{both} read {warehouse!r} at once at {self.now():%Y-%m-%d %H:%M} UTC")
        self._readers[warehouse] = customer
        self.readings.append(Reading(customer, night, self.now()))
        self.pass_time(READING)
        self._readers.pop(warehouse, None)
        return len(self.readings)


WAREHOUSES = Warehouses()
