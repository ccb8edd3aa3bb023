"""
The shared parts of a locker: configuration, clock, store, queue, logs and alerts of one deployment, and the few steps that
all parts of the library use. No connection is opened before it is needed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from gcp_oncetask import forks
from gcp_oncetask.checks import urls
from gcp_oncetask.clock import Clock, SystemClock
from gcp_oncetask.config import Config, level
from gcp_oncetask.observe.alerts import AlertChannel
from gcp_oncetask.observe.events import Events
from gcp_oncetask.observe.log_context import LogContext, context_at
from gcp_oncetask.observe.observers import Log, Observer
from gcp_oncetask.observe.telemetry import Telemetry
from gcp_oncetask.observe.trail import Trail
from gcp_oncetask.rules.decisions import DecisionContext
from gcp_oncetask.rules.document_paths import PULL, PUSH, parse_task_path, pull_lane
from gcp_oncetask.rules.floods import Window
from gcp_oncetask.runtime import requirements
from gcp_oncetask.runtime.gathering import Gathering
from gcp_oncetask.runtime.requirements import SERVE, STORE, VERIFY, Need, Place
from gcp_oncetask.runtime.targets import Targets
from gcp_oncetask.services import identity
from gcp_oncetask.services.channels import channel_from
from gcp_oncetask.services.cloud_logging import CloudRequestLog, RequestLog
from gcp_oncetask.services.cloud_tasks import CloudTasks
from gcp_oncetask.services.task_log import TaskLog
from gcp_oncetask.services.tokens import Certificates
from gcp_oncetask.store import registry
from gcp_oncetask.store.client import Client
from gcp_oncetask.store.coalescing import Coalescer
from gcp_oncetask.store.registry import Registry
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import Wire

_MACHINE: Final = os.environ.get("K_REVISION") or os.uname().nodename


class Runtime:
    """
    The shared parts of one locker.

    Args:
        firestore: The user's client, or None to make one.
        config: Settings.
        tasks: The user's ``CloudTasksClient``, or None to make one.
        request_log: The logs with the evidence; None: Cloud Logging.
        alerts: The channel of alerts; None: as configured.
        clock: Time and random numbers; None: the system's.

    Attributes:
        watch: Sees the words of durable handlers, for ``oncetask_cloud.check``; None: nothing does.
    """

    watch: Any = None

    def __init__(
        self,
        firestore: Client | None,
        config: Config,
        tasks: Any | None,
        request_log: RequestLog | None,
        alerts: AlertChannel | None,
        clock: Clock | None,
    ) -> None:
        self._observers: list[Observer] = []
        # Of a kind with a handler in this process: raises UsageError for a result that the handler would not return.
        self.result_checks: dict[str, Callable[[Any], None]] = {}
        # Makes the children of durable handlers; a task manager sets it (``execution.child_tasks.Maker``).
        self.child_maker: Any = None
        # Called after a commit that has ended a child, or that owes the cancellation of children.
        self.after_kin: Callable[[Runtime, Snapshot], object] | None = None
        self.attach(
            config,
            clock or SystemClock(),
            firestore=firestore,
            tasks=tasks,
            request_log=request_log,
            alerts=alerts,
        )

    def attach(
        self,
        config: Config,
        clock: Clock,
        *,
        firestore: Client | None = None,
        tasks: Any | None = None,
        request_log: RequestLog | None = None,
        alerts: AlertChannel | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """
        Make all parts anew; no connection is opened yet. If no *certificates* are given, they are fetched.
        """
        self.config = config
        # The needs that these settings are known to meet. A test may exchange the settings.
        self._met: tuple[Config, list[tuple[Need, ...]]] = (config, [])
        self.clock = clock
        self._given_firestore = firestore
        project = None if firestore is None else firestore.project
        self._place = Place(config.project or project, config.location)
        self._verifier: identity.Verifier | None = None
        # The day of each alert that this process has sent directly, by name; and the version and day of the last try to end
        # a record whose writes are refused, by document.
        self.told: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        # Windows of alerts that were open at the last read, by document and cause; and alerts that must be counted.
        self.windows: dict[str, dict[str, Window]] = {}
        self.gathering: Gathering[Any] = Gathering()
        # Time before which no reminder is due; None: not known in this process.
        self.remind_at: datetime | None = None
        self._certificates = certificates
        self.wire = Wire(self._connect, clock, config.rpc_timeout)
        coalescer = Coalescer(self.wire, clock, config.rpc_timeout, on=config.coalesce)
        self.store = Store(self.wire, clock, config.patience, coalescer)
        self.store.after_kin = self._after_kin
        self.registry = Registry(self.store, clock, config.env)
        self.targets = Targets(self, self._place)
        self.tasks = CloudTasks(tasks, config.tasks_emulator, clock, config.rpc_timeout)
        self.request_log: RequestLog = request_log or CloudRequestLog(
            project=self.project, emulator=config.logging_emulator, clock=clock, interval=config.log_interval
        )
        self.task_log = TaskLog(self.request_log, clock)
        self.alerts: AlertChannel = alerts or channel_from(config)
        self.events = Events(self._trail(None), Log(level(config)), Telemetry(), *self._observers)

    def _after_kin(self, snapshot: Snapshot) -> None:
        if self.after_kin is not None:
            self.after_kin(self, snapshot)

    def verifier(self) -> identity.Verifier:
        """
        Return the verifier of callers.

        Raises:
            ConfigError: The audience or the callers are not configured.
        """
        if self._verifier is None:
            self.require(VERIFY, also=SERVE)
            config = self.config
            audiences = config.audience
            if not audiences and config.base_url is not None:
                audiences = (urls.origin(config.base_url),)
            callers = config.callers or ((config.service_account,) if config.service_account else ())
            self._verifier = identity.Verifier(
                mode=config.verify,
                audiences=audiences,
                callers=callers,
                certs_url=config.oidc_certs_url,
                clock=self.clock,
                service=requirements.service(),
                certificates=self._certificates,
            )
        return self._verifier

    def trail_to(self, stream: Any) -> None:
        """
        Write the trail of attempts to *stream* instead of standard output.
        """
        self.events.trail = self._trail(stream)

    def _trail(self, stream: Any) -> Trail:
        return Trail(lambda: self._place.known_project, stream, self.clock)

    def observe(self, observer: Observer) -> None:
        """
        Let *observer* see the events of the protocol from now on.
        """
        self._observers.append(observer)
        self.events.add(observer)

    # --- project and region ---

    def require(self, needs: tuple[Need, ...], *, also: Sequence[Need] = ()) -> None:
        """
        Check that *needs* are met.

        Raises:
            ConfigError: Settings are missing; the message names all of them, and those of *also* that are missing.
        """
        if self._met[0] is not self.config:
            self._met = (self.config, [])
        met = self._met[1]
        if needs not in met:
            requirements.require(self.config, self._place, needs, also=also)
            met.append(needs)

    def project(self) -> str:
        """
        Return the project's id.

        Raises:
            ConfigError: The project is neither configured nor found.
        """
        project = self._place.project()
        if project is None:
            self.require(STORE)
            raise AssertionError("unreachable")
        return project

    def queues(self) -> str:
        """
        Return the beginning of the full names of the queues in the project and region of this process.

        Raises:
            ConfigError: The project or the region is neither configured nor found.
        """
        place = self._place
        if place.known_project is None or place.known_location is None:
            self.require((Need.PROJECT, Need.LOCATION))
            if place.location() is None:
                # The configured queue has a full name, so the region need not be known: other queues are beside it.
                return self.config.queue.rpartition("/")[0] + "/"
        return f"projects/{place.known_project}/locations/{place.known_location}/queues/"

    def _connect(self, forked: bool) -> Client:
        given = self._given_firestore
        if given is None:
            return Client(project=self.project(), database=self.config.database)
        if not forked:
            return given
        # A channel does not survive a fork: the child opens its own with the same identity.
        return Client(project=given.project, credentials=given._credentials, database=given._database)  # noqa: SLF001

    @property
    def collections(self) -> tuple[str, ...]:
        """
        Return the collections whose records count in this process even if they are not registered: those of its models, and
        the configured ones.
        """
        return (*registry.DECLARED, *self.config.collections)

    def use_client(self, firestore: Client) -> None:
        """
        Let this process work with another Firestore client from now on.
        """
        self._given_firestore = firestore
        self._place.known_project = self._place.known_project or firestore.project
        self.wire.reopen()
        self.registry = Registry(self.store, self.clock, self.config.env)

    def register(self, collection: str | None, url: str | None) -> None:
        """
        Register *collection*, and the origin of *url* if that is configured here, so that every sweep of the environment
        knows them; None: there is none. Call it before a commit that makes a document due.

        Raises:
            StoreError: Firestore was unreachable or refused; do not schedule then.
        """
        self.registry.register(collection, self.targets.own(url))

    def decision_context(self, snapshot: Snapshot, lane: str | None = None) -> DecisionContext:
        """
        Return the context of a decision on *snapshot* now; *lane* is the lane of a document without a record.
        """
        config = self.config
        return DecisionContext(
            now=self.store.estimate(),
            read=snapshot.read,
            place=self.place(snapshot.path, lane or _lane(snapshot)),
            env=config.env,
            grace=config.dispatch_grace,
            alert_retry=config.alert_retry,
            stuck=config.stuck,
            log_grace=config.log_grace,
        )

    def place(self, path: str, lane: str) -> str:
        """
        Return the beginning of ``due`` of the document at *path* in *lane*.
        """
        config = self.config
        shards = config.pull_shards if lane.startswith(PULL) else config.shards
        shard = zlib.crc32(path.encode()) % shards if shards > 1 else 0
        return f"{config.env}/{lane}/{shard:03d}"

    # --- logs ---

    def about(self, snapshot: Snapshot, sequence: int | None = None, attempt: int | None = None) -> LogContext:
        """
        Return the context of log lines about a document; it has the present sequence and the last attempt, unless others are
        given.
        """
        return context_at(snapshot.path, self.config.env, snapshot.lock, sequence, attempt)

    def instance(self) -> str:
        """
        Return the machine and the id of this process, for a person who reads the lock.
        """
        return f"{_MACHINE}/{forks.pid}"


def _lane(snapshot: Snapshot) -> str:
    lock = snapshot.lock
    if lock is None or lock.url is not None:
        return PUSH
    name = parse_task_path(snapshot.path)
    return PUSH if name is None else pull_lane(name.kind)
