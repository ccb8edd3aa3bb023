"""
A Google Cloud in the test's own process: real servers on loopback, a virtual clock, deliveries through WSGI.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore import Client
from google.cloud.logging_v2.types import DeleteLogRequest
from google.cloud.tasks_v2.types import DeleteTaskRequest

from gcp_emulator.clock import VirtualClock, datetime_of
from gcp_emulator.cloud import LocalCloud
from gcp_emulator.faults import Faults
from gcp_emulator.run.logs import RunLogs
from gcp_emulator.tasks import DispatchRecord, WsgiTransport
from gcp_oncetask.alerts import Alert
from gcp_oncetask.clock import Mark, SystemClock
from gcp_oncetask.locker import Locker
from gcp_oncetask.renewal import Renewals
from gcp_oncetask.sweeper import Swept, sweep
from gcp_oncetask.testing import scheduled

ACCOUNT = "oncetask@demo-local.iam.gserviceaccount.com"
_INSTANCE = "in-process"


class TestClock:
    """
    The library's clock, on the local cloud's virtual one; chance stays the machine's.
    """

    __test__ = False

    def __init__(self, clock: VirtualClock) -> None:
        self.virtual = clock
        self._chance = SystemClock()

    def now(self) -> datetime:
        return datetime_of(self.virtual.micros())

    def mark(self) -> Mark:
        seconds = self.virtual.micros() / 1_000_000
        return Mark(seconds, seconds, seconds)

    def wait(self, event: threading.Event, timeout: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            # Nobody else moves the clock while the test's own thread waits: a pause takes virtual time at once.
            if not event.is_set():
                self.virtual.advance(timeout)
            return event.is_set()
        end = self.virtual.micros() + round(timeout * 1_000_000)
        while not event.is_set() and self.virtual.micros() < end:
            event.wait(0.01)
        return event.is_set()

    def random(self) -> float:
        return self._chance.random()

    def nonce(self) -> str:
        return self._chance.nonce()


class Alerts:
    """
    An alert channel that keeps what it is given; ``down`` makes it fail as a dead mail server does.
    """

    def __init__(self) -> None:
        self.sent: list[Alert] = []
        self.down = False

    def send(self, alert: Alert) -> None:
        """
        Keep *alert*.
        """
        if self.down:
            from gcp_oncetask.errors import AlertError

            raise AlertError("the alert channel of this test is down")
        self.sent.append(alert)


class _Stdout:
    """
    Where the trail is written: straight into the local Cloud Logging, as Cloud Run would collect it.
    """

    def __init__(self, logs: RunLogs) -> None:
        self._logs = logs

    def write(self, text: str) -> int:
        """
        Collect one line.
        """
        self._logs.line("stdout", text.rstrip("\n"), _INSTANCE)
        return len(text)

    def flush(self) -> None:
        """
        Nothing is held back.
        """


class OncetaskCloud:
    """
    The local cloud of one test.

    Attributes:
        clock: Virtual time; ``advance()`` moves it and delivers what comes due.
        alerts: Where every used locker's alerts go.
        faults: Faults of every service.
        local: The services.
    """

    def __init__(self) -> None:
        self.clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self._wsgi = WsgiTransport({})
        self.local = LocalCloud(clock=self.clock, auto=False, transport=self._wsgi, smtp=False)
        self.faults: Faults = self.local.faults
        self.alerts = Alerts()
        self._logs = RunLogs(
            self.local.logging,
            self.clock,
            project=self.local.project,
            service="test",
            revision="test-00001",
            region=self.local.location,
            delay=None,
        )
        self._base_url: str | None = None
        self._used: list[tuple[Locker, dict[str, Any], Renewals]] = []
        self._delivering = False

    def start(self) -> None:
        """
        Start the services.
        """
        self.local.start()

    def stop(self) -> None:
        """
        Give every used locker back what it had, and stop the services.
        """
        for locker, engine, renewals in self._used:
            locker.engine.__dict__.clear()
            locker.engine.__dict__.update(engine)
            locker.renewals = renewals
        self._used.clear()
        self.local.stop()

    # --- setting up ---

    def use(self, locker: Locker) -> None:
        """
        Let *locker* work on this cloud until the test ends: clients, clock, log, alerts; also one made at import.
        """
        self._used.append((locker, dict(locker.engine.__dict__), locker.renewals))
        config = locker.config
        known = self._base_url is not None and config.base_url is None
        settings = replace(
            config,
            project=self.local.project,
            location=self.local.location,
            base_url=self._base_url if known else config.base_url,
            service_account=config.service_account or ACCOUNT,
            audience=config.audience or ("https://oncetask.test",),
            callers=(),
            oidc_certs_url=self.local.oidc.certs_url,
            tasks_emulator=self.local.tasks.address,
            logging_emulator=self.local.logging.address,
            firestore_emulator=self.local.firestore.address,
            log_interval=0.0,
        )
        engine = locker.engine
        clock = TestClock(self.clock)
        engine.attach(settings, clock, firestore=self._client(settings.database), alerts=self.alerts)
        engine.trail_to(_Stdout(self._logs))
        locker.renewals = Renewals(clock)

    def _client(self, database: str) -> Client:
        # The client takes an emulator from the environment only, and only while it is made.
        before = os.environ.get("FIRESTORE_EMULATOR_HOST")
        os.environ["FIRESTORE_EMULATOR_HOST"] = self.local.firestore.address
        try:
            return Client(project=self.local.project, database=database)
        finally:
            if before is None:
                del os.environ["FIRESTORE_EMULATOR_HOST"]
            else:
                os.environ["FIRESTORE_EMULATOR_HOST"] = before

    def mount(self, url: str, app: Any) -> None:
        """
        Deliver tasks for *url* (scheme and host) to the WSGI *app*; the first one is the base URL of lockers without.
        """
        self._wsgi.mount(url, app)
        if self._base_url is None:
            self._base_url = url
            for locker, _, _ in self._used:
                if locker.config.base_url is None:
                    locker.engine.config = replace(locker.config, base_url=url)

    # --- running ---

    def run_until_idle(self) -> int:
        """
        Deliver every task whose time has come, and those that follow, until none is left; returns how many.
        """
        self._delivering = True
        try:
            return self.local.tasks.run_due()
        finally:
            self._delivering = False

    def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> int:
        """
        Let time pass, delivering each task when its time comes; returns how many. Inside a handler only time passes.
        """
        length = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days).total_seconds()
        if self._delivering:
            self.clock.advance(length)
            return 0
        end = self.clock.micros() + round(length * 1_000_000)
        delivered = 0
        while (due := self.local.tasks.next_due()) is not None and due <= end:
            self.clock.advance(max(0, due - self.clock.micros()) / 1_000_000)
            delivered += self.run_until_idle()
        self.clock.advance(max(0, end - self.clock.micros()) / 1_000_000)
        return delivered

    def assert_scheduled(
        self,
        model: scheduled.Model,
        id: str | None = None,  # noqa: A002 - as everybody says it
        *,
        url: str | None = None,
        params: Any = None,
        payload: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> None:
        """
        Fail unless a chain or a once-task like this waits to be run; what is None is not looked at.

        Args:
            model: A ``LockedModel`` or a ``TaskData``.
            id: Id of the document or the task.
            url: Where it will be delivered: absolute, or the path alone.
            params: All of what ``schedule`` was given for this step.
            payload: Some of the stored fields: of the entity, or of the once-task's payload, as JSON data.
            at: Not before this instant (aware), to the second.

        Raises:
            AssertionError: There is none; the message lists what is scheduled instead.
            UsageError: *at* has no time zone, or the model no kind.
        """
        wanted = scheduled.Wanted(model, id, url, params, payload, at)
        firestore: Any = self.local.firestore
        databases = dict.fromkeys(locker.config.database for locker, _, _ in self._used) or ("(default)",)
        documents: dict[str, Any] = {}
        for database in databases:
            documents |= firestore.documents(self.local.project, database)
        scheduled.check(documents, wanted)

    def clock_now(self) -> datetime:
        """
        The virtual time, aware UTC.
        """
        return datetime_of(self.clock.micros())

    def duplicate_last(self) -> int | None:
        """
        Deliver the task that was delivered last once more, late; returns its HTTP status.
        """
        return self.local.tasks.duplicate_last()

    def sweep(self) -> Swept:
        """
        Sweep with the locker used first.
        """
        return sweep(self._used[0][0])

    def write_system(self, text: str) -> None:
        """
        Write what the platform says when it ends an instance, such as ``Container terminated on signal 9.``
        """
        self._logs.system(text, _INSTANCE)

    def forget_logs(self) -> None:
        """
        Lose what was written to standard output, as a sink that excludes it does.
        """
        name = f"projects/{self.local.project}/logs/run.googleapis.com%2Fstdout"
        self.local.logging.service.call("DeleteLog", DeleteLogRequest.pb()(log_name=name))

    def drop(self, task_name: str) -> None:
        """
        Lose a queued task, as if it had never been made.
        """
        self.local.tasks.service.call("DeleteTask", DeleteTaskRequest.pb()(name=task_name))

    @property
    def deliveries(self) -> list[DispatchRecord]:
        """
        Every delivery so far, with its status.
        """
        return list(self.local.tasks.dispatches)
