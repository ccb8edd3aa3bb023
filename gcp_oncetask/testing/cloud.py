"""
A Google Cloud in the test's own process: no sockets, a virtual clock, deliveries through WSGI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from gcp_emulator.clock import VirtualClock, datetime_of
from gcp_emulator.faults import Faults
from gcp_emulator.logging.messages import DeleteLogRequest
from gcp_emulator.oidc import CERTS_PATH
from gcp_emulator.run.logs import RunLogs
from gcp_emulator.tasks import DispatchRecord
from gcp_emulator.tasks.messages import DeleteTaskRequest
from gcp_emulator.testing import InProcessCloud
from gcp_oncetask.checks import urls
from gcp_oncetask.clock import Mark, Pause, SystemClock, Wakeup
from gcp_oncetask.entities.chains import executor_of, runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import AlertError, UsageError
from gcp_oncetask.execution.renewal import Renewals
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.services.cloud_logging import CloudRequestLog
from gcp_oncetask.sweeper import Swept, sweep
from gcp_oncetask.testing import costs, scheduled
from gcp_oncetask.testing.coming import Coming
from gcp_oncetask.testing.costs import Cost
from gcp_oncetask.worker import Worker

ACCOUNT = "oncetask@demo-local.iam.gserviceaccount.com"
_INSTANCE = "in-process"
_AFTERWARDS = timedelta(days=365).total_seconds()
"""Seconds; longer than any wait."""


class TestClock:
    """
    The library's clock, based on the local cloud's virtual clock; random numbers are the machine's.

    Attributes:
        virtual: The local cloud's clock.
        over: True: the test has ended. A thread that waits gets UsageError, so that it does not go on with another cloud.
    """

    __test__ = False

    def __init__(self, clock: VirtualClock) -> None:
        self.virtual = clock
        self.over = False
        self._chance = SystemClock()
        self._looked = threading.local()

    def now(self) -> datetime:
        return datetime_of(self.virtual.micros())

    def mark(self) -> Mark:
        self._looked.at = self.virtual.micros()
        seconds = self._looked.at / 1_000_000
        return Mark(seconds, seconds, seconds, drift=0.0)

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        if isinstance(wakeup, Pause) or threading.current_thread() is threading.main_thread():
            # A pause advances the virtual time at once, in every thread, because the test's thread may be waiting for the
            # pausing one.
            if not wakeup.is_set():
                self.virtual.advance(timeout)
            return wakeup.is_set()
        # Count from this thread's last look at the clock, from which it computed the time-out; the test may have moved the
        # clock since.
        end = getattr(self._looked, "at", self.virtual.micros()) + round(timeout * 1_000_000)
        with wakeup.changed:
            while not (self.over or wakeup.is_set()) and self.virtual.micros() < end:
                self.virtual.sleep(wakeup.changed, end)
            if self.over and not wakeup.is_set():
                raise UsageError("oncetask_cloud has ended with its test; end every thread that uses it before.")
        self._looked.at = self.virtual.micros()
        return wakeup.is_set()

    def random(self) -> float:
        return self._chance.random()

    def nonce(self) -> str:
        return self._chance.nonce()


class Alerts:
    """
    An alert channel that keeps the alerts it is given. If ``down`` is set it fails, as a dead mail server does.

    Attributes:
        sent: The alerts about records, in the order in which they came.
        reminders: The mails about all records that still need a person, likewise.
    """

    def __init__(self) -> None:
        self.sent: list[Alert] = []
        self.reminders: list[Alert] = []
        self.down = False

    def send(self, alert: Alert) -> None:
        """
        Keep *alert*.
        """
        if self.down:
            raise AlertError("the alert channel of this test is down")
        (self.reminders if alert.reminder else self.sent).append(alert)


class StandardOutput:
    """
    Standard output for the evidence trail: writes lines into the local Cloud Logging, as Cloud Run collects them.
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
        Do nothing; lines are not buffered.
        """


class _Gateway:
    """
    The WSGI apps of one host, by the path at which each is mounted. The longest path that fits is moved to ``SCRIPT_NAME``.
    """

    def __init__(self) -> None:
        self.apps: dict[str, Any] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ.get("PATH_INFO", "")
        for prefix in sorted(self.apps, key=len, reverse=True):
            if f"{path}/".startswith(f"{prefix}/"):
                outside = environ.get("SCRIPT_NAME", "") + prefix
                inside = path.removeprefix(prefix)
                return self.apps[prefix]({**environ, "SCRIPT_NAME": outside, "PATH_INFO": inside}, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"No app is mounted for {path}; there are: {', '.join(self.apps)}".encode()]


class OncetaskCloud:
    """
    The local cloud of one test.

    Attributes:
        clock: The virtual clock.
        alerts: The alert channel of every used locker.
        faults: Faults of every service.
        local: The services, and clients on them.
    """

    def __init__(self) -> None:
        self.local = InProcessCloud()
        self.clock = self.local.clock
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
        self._gateways: dict[str, _Gateway] = {}
        self._used: list[tuple[Locker, dict[str, Any], Renewals]] = []
        self._delivering = False
        self._workers: list[Worker] = []
        self._before = Cost()

    def stop(self) -> None:
        """
        Restore the original parts of every used locker, and close the local cloud; no thread of the library goes on.
        """
        for locker, _, _ in self._used:
            executor_of(locker).renewals.stop()
            clock = runtime_of(locker).clock
            assert isinstance(clock, TestClock)
            clock.over = True
        # Move the clock far ahead, to end the waits of calls delayed by a fault and of threads that wait for a lock.
        self.clock.advance(_AFTERWARDS)
        for locker, runtime, renewals in self._used:
            executor_of(locker).renewals.close()
            runtime_of(locker).__dict__.clear()
            runtime_of(locker).__dict__.update(runtime)
            executor_of(locker).renewals = renewals
        self._used.clear()
        self.local.close()

    # --- setting up ---

    def use(self, locker: Locker) -> None:
        """
        Let *locker* use this cloud until the test ends: its clients, clock, log and alerts. The locker may have been made
        at import.
        """
        self._used.append((locker, dict(runtime_of(locker).__dict__), executor_of(locker).renewals))
        config = locker.config
        if config.tasks_emulator is not None:
            # This base URL was set by gcp-emulator and belongs to another local cloud.
            config = replace(config, base_url=None)
        known = self._base_url is not None and config.base_url is None
        settings = replace(
            config,
            project=self.local.project,
            location=self.local.location,
            base_url=self._base_url if known else config.base_url,
            service_account=config.service_account or ACCOUNT,
            audience=config.audience or ("https://oncetask.test",),
            callers=(),
        )
        runtime = runtime_of(locker)
        clock = TestClock(self.clock)
        log = CloudRequestLog(
            project=runtime.project, emulator=None, clock=clock, interval=0.0, client=self.local.logging_client()
        )
        runtime.attach(
            settings,
            clock,
            firestore=self.local.firestore_client(settings.database),
            tasks=self.local.tasks_client(),
            request_log=log,
            alerts=self.alerts,
            certificates=self._certificates,
        )
        runtime.trail_to(StandardOutput(self._logs))
        executor_of(locker).renewals = Renewals(clock)

    def _certificates(self) -> tuple[dict[str, str], str]:
        status, answer = self.local.oidc.answer(CERTS_PATH)
        if status is not HTTPStatus.OK:
            raise OSError(f"{status.value} {answer}")
        return answer, self.local.oidc.cache_control

    def mount(self, url: str, app: Any) -> None:
        """
        Deliver tasks for *url* to the WSGI *app*. The first mounted URL is the base URL of lockers that have none.

        A path in the URL is moved to ``SCRIPT_NAME`` before the app is called, as a gateway does.

        Args:
            url: Scheme and host, and perhaps a path: ``https://orders.test`` or ``https://example.test/orders``.
            app: The application.

        Raises:
            UsageError: The URL can't be a base URL.
        """
        url = urls.base_url(url, "url")
        origin = urls.origin(url)
        if origin not in self._gateways:
            self._gateways[origin] = _Gateway()
            self.local.mount(origin, self._gateways[origin])
        self._gateways[origin].apps[url.removeprefix(origin)] = app
        if self._base_url is None:
            self._base_url = url
            for locker, _, _ in self._used:
                if locker.config.base_url is None:
                    runtime_of(locker).config = replace(locker.config, base_url=url)

    # --- running ---

    def run_until_idle(self) -> int:
        """
        Deliver every task that is due, let the workers run the tasks they pull, and go on with the tasks that follow from
        them, until none is due.

        Returns:
            Number of deliveries made and tasks run.
        """
        return self._run()

    def work(self, worker: Worker) -> None:
        """
        Let *worker* run the tasks it pulls, on the test's own thread, during ``run_until_idle`` and ``advance``.
        """
        self._workers.append(worker)

    def _run(self, end: int = 0) -> int:
        self._delivering = True
        try:
            return Coming(self.local.tasks, self.clock, self._workers).run(end)
        finally:
            self._delivering = False

    def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> int:
        """
        Let time pass. Deliver each task, or let the workers given to ``work`` run it, when it is due, also tasks that are
        made on the way. Inside a handler only time passes.

        Returns:
            Number of deliveries made and tasks run.
        """
        length = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days).total_seconds()
        if self._delivering:
            self.clock.advance(length)
            return 0
        end = self.clock.micros() + round(length * 1_000_000)
        ran = self._run(end)
        self.clock.advance(max(0, end - self.clock.micros()) / 1_000_000)
        return ran

    def assert_scheduled(
        self,
        model: scheduled.Model,
        id: str | None = None,  # noqa: A002 - the usual name
        *,
        url: str | None = None,
        params: Any = None,
        payload: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> None:
        """
        Fail unless a chain or a once-task like this is scheduled. Arguments that are None are not compared.

        Args:
            model: A ``LockedModel`` or a ``TaskData``.
            id: Id of the document or the task.
            url: Target of the delivery: absolute, the path alone, or the path below the base URL.
            params: The complete params that ``schedule`` was given for this step.
            payload: Some of the stored fields of the entity, or of the once-task's payload, as JSON data.
            at: Time of the task (aware), compared to the second.

        Raises:
            AssertionError: There is no such task; the message lists the scheduled ones.
            UsageError: *at* has no time zone, or the model has no kind.
        """
        bases = tuple(base for locker, _, _ in self._used if (base := locker.config.base_url) is not None)
        wanted = scheduled.Wanted(model, id, url, params, payload, at, bases)
        databases = dict.fromkeys(locker.config.database for locker, _, _ in self._used) or ("(default)",)
        documents: dict[str, Any] = {}
        for database in databases:
            documents |= self.local.firestore.documents(self.local.project, database)
        scheduled.check(documents, wanted)

    @property
    def cost(self) -> Cost:
        """
        The use of Firestore and Cloud Tasks since the test began, or since ``reset_cost``. Calls that the test
        itself makes with the clients of this cloud count too.
        """
        return self._used_until_now() - self._before

    def reset_cost(self) -> None:
        """
        Let ``cost`` count from here on.
        """
        self._before = self._used_until_now()

    def assert_cost(
        self, *, reads: int | None = None, writes: int | None = None, cloud_tasks: int | None = None
    ) -> None:
        """
        Fail if ``cost`` is more than this budget. Arguments that are None are no limit.

        Args:
            reads: Most documents read.
            writes: Most writes of documents.
            cloud_tasks: Most operations of Cloud Tasks.

        Raises:
            AssertionError: It is more; the message has the whole cost.
        """
        costs.check(self.cost, {"reads": reads, "writes": writes, "cloud_tasks": cloud_tasks})

    def _used_until_now(self) -> Cost:
        firestore, tasks = self.local.firestore, self.local.tasks
        operations = tasks.counts.total() + len(tasks.dispatches)
        return Cost(firestore.reads, firestore.writes, operations, firestore.counts + tasks.counts)

    def check(self, start: Callable[[OncetaskCloud], object], *, effects: Sequence[Any] = (), days: int = 60) -> None:
        """
        Play a scenario of durable handlers once, on a cloud of its own. Then play it again for each call of a run and for each
        remote call, on a fresh cloud, with a process that dies there, a takeover there, or a delivery that comes twice.

        The end must be the same: status, result, and the answers in the journal. Each run is called with the same arguments,
        and one with ``once=True`` at most once. A task that waits for a person's answer about such a run is a right end.

        Args:
            start: ``start(cloud)`` is called at the beginning of each play. It begins with ``cloud.use(locker)`` and
                ``cloud.mount(url, app)``, sets the doubles of other systems back, and creates the tasks; it may let time
                pass, and send events.
            effects: Functions with effects, such as ``payments.charge``. A call of one in a handler outside a run is a mistake.
            days: Most days that a play lasts.

        Raises:
            AssertionError: The handler makes a mistake, or the end differs; the message tells the story, and the line.
            UsageError: An effect is not written in Python, so that its calls can't be seen.
        """
        from gcp_oncetask.testing import checking

        checking.check(start, effects, days)

    def clock_now(self) -> datetime:
        """
        Return the virtual time, aware UTC.
        """
        return datetime_of(self.clock.micros())

    def duplicate_last(self) -> int | None:
        """
        Deliver the task of the last delivery again; return the HTTP status.
        """
        return self.local.tasks.duplicate_last()

    def sweep(self) -> Swept:
        """
        Run a sweep with the locker that was used first.
        """
        return sweep(self._used[0][0])

    def write_system(self, text: str) -> None:
        """
        Write a line of the platform's system log, such as ``Container terminated on signal 9.``, which it writes when it
        ends an instance.
        """
        self._logs.system(text, _INSTANCE)

    def forget_logs(self) -> None:
        """
        Delete the lines written to standard output from the log, as if a sink excluded them.
        """
        name = f"projects/{self.local.project}/logs/run.googleapis.com%2Fstdout"
        self.local.logging.service.call("DeleteLog", DeleteLogRequest(log_name=name))

    def drop(self, task_name: str) -> None:
        """
        Delete a queued task, as if Cloud Tasks had lost it.
        """
        self.local.tasks.service.call("DeleteTask", DeleteTaskRequest(name=task_name))

    @property
    def deliveries(self) -> list[DispatchRecord]:
        """
        All deliveries so far, each with its status.
        """
        return list(self.local.tasks.dispatches)
