"""
The outside world: warehouses that allow one reader at a time, and record every reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

READING = timedelta(minutes=1)


@dataclass(frozen=True)
class Reading:
    """
    One run of a report.

    Attributes:
        customer: The customer.
        night: The nominal time of the run, aware UTC.
        began: The time at which it began.
    """

    customer: str
    night: datetime
    began: datetime


class Warehouses:
    """
    All warehouses.

    Args:
        now: The clock.
        pass_time: Lets time pass during a reading.

    Attributes:
        readings: The readings, in order.
        clashes: Readings of one warehouse by two customers at once, in words.
    """

    def __init__(self, now: Callable[[], datetime], pass_time: Callable[[timedelta], None]) -> None:
        self.readings: list[Reading] = []
        self.clashes: list[str] = []
        self._now = now
        self._pass_time = pass_time
        self._readers: dict[str, str] = {}

    def read(self, warehouse: str, customer: str, night: datetime) -> int:
        """
        Read a customer's rows, which takes a minute; return their number.
        """
        began = self._now()
        other = self._readers.get(warehouse)
        if other is not None:
            both = " and ".join(sorted((customer, other)))
            self.clashes.append(f"{both} read {warehouse!r} at once at {began:%Y-%m-%d %H:%M} UTC")
        self._readers[warehouse] = customer
        self.readings.append(Reading(customer, night, began))
        self._pass_time(READING)
        self._readers.pop(warehouse, None)
        return len(self.readings)
