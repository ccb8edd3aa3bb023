"""
Play a year on the virtual clock: deliveries are duplicated, and the application is deployed every month and down for some
days in July.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from examples.reports.app import NightlyReport, serve
from examples.reports.promise import BEGIN, END, OUTAGE
from examples.reports.warehouses import Warehouses
from gcp_emulator.clock import datetime_of, micros_of
from gcp_emulator.faults import DeliveryFaults
from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import Config, Locker, sweep
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.testing.cloud import TestClock

URL = "https://reports.example"
QUEUE = "projects/demo-local/locations/us-central1/queues/reports"
DUPLICATED = 0.1


class _Quiet:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


QUIET: Any = _Quiet()


class Year:
    """
    The local cloud with the application on it.

    Attributes:
        cloud: The services.
        warehouses: The warehouses, with their readings.
        refused: Number of creations that were refused because the task existed.
    """

    def __init__(self, customers: tuple[NightlyReport, ...], end: datetime) -> None:
        self.customers = customers
        self.end = end
        self.refused = 0
        self.cloud = cloud = InProcessCloud()
        cloud.tasks.create_queue(QUEUE, max_attempts=-1, max_backoff=timedelta(hours=1), max_doublings=12)
        cloud.faults.deliveries = DeliveryFaults(duplicate=DUPLICATED)
        cloud.mount(URL, self._serve)
        self.locker = Locker(
            cloud.firestore_client(),
            tasks=cloud.tasks_client(),
            clock=TestClock(cloud.clock),
            config=Config(project=cloud.project, queue=QUEUE, base_url=URL, verify="off"),
        )
        runtime_of(self.locker).trail_to(QUIET)
        self.warehouses = Warehouses(self.now, lambda length: self._pass_until(self.now() + length))
        self.manager, self.app = serve(self.locker, self.warehouses)
        self._down = False

    def run(self) -> None:
        """
        Play the year.
        """
        for when, happen in sorted(self._events(), key=lambda event: event[0]):
            if when < self.end:
                self._pass_until(when)
                happen()
        self._pass_until(self.end)

    def now(self) -> datetime:
        """
        The virtual time, aware UTC.
        """
        return datetime_of(self.cloud.clock.micros())

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._down:
            start_response("500 Internal Server Error", [])
            return [b"down"]
        return self.app(environ, start_response)

    def _events(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        for month in range(1, 13):
            yield BEGIN.replace(month=month), self._deploy
        for day in range(0, (END - BEGIN).days, 7):
            yield BEGIN + timedelta(days=day, hours=10), self._sweep
        yield OUTAGE[0], lambda: self._set_down(down=True)
        yield OUTAGE[1], lambda: self._set_down(down=False)

    def _deploy(self) -> None:
        """
        Start the application, which creates the tasks; existing tasks are left unchanged.
        """
        self.refused += sum(not self.manager.create_task(report) for report in self.customers)

    def _sweep(self) -> None:
        if not self._down:
            sweep(self.locker)

    def _set_down(self, *, down: bool) -> None:
        self._down = down

    def _pass_until(self, end: datetime) -> None:
        """
        Let time pass and deliver each task when its time comes. Also called while a report is being written.
        """
        clock, tasks, last = self.cloud.clock, self.cloud.tasks, micros_of(end)
        while (due := tasks.next_due()) is not None and due <= last:
            clock.advance(max(0, due - clock.micros()) / 1_000_000)
            tasks.run_due()
        clock.advance(max(0, last - clock.micros()) / 1_000_000)
