"""
What every part of the locker shares: configuration, clock, store, queue, logs and alerts of one deployment, and the few
steps that all of them take. Nothing is opened before it is needed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any, Final

from gcp_oncetask import forks
from gcp_oncetask.checks import urls
from gcp_oncetask.clock import Clock, SystemClock
from gcp_oncetask.config import Config, level
from gcp_oncetask.observe.alerts import AlertChannel
from gcp_oncetask.observe.events import Events, Log, Observer
from gcp_oncetask.observe.log_context import LogContext, context_at
from gcp_oncetask.observe.telemetry import Telemetry
from gcp_oncetask.observe.trail import Trail
from gcp_oncetask.rules.decisions import DecisionContext
from gcp_oncetask.rules.documents import PULL, PUSH, pull_lane, task_name
from gcp_oncetask.rules.floods import Window
from gcp_oncetask.runtime import requirements
from gcp_oncetask.runtime.gathering import Gathering
from gcp_oncetask.runtime.requirements import SERVE, STORE, VERIFY, Need, Place
from gcp_oncetask.runtime.targets import Targets
from gcp_oncetask.services import identity
from gcp_oncetask.services.cloud_logging import CloudRequestLog, RequestLog
from gcp_oncetask.services.cloud_tasks import CloudTasks
from gcp_oncetask.services.smtp import channel_from
from gcp_oncetask.store import registry
from gcp_oncetask.store.client import Client
from gcp_oncetask.store.registry import Registry
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import Wire

_MACHINE: Final = os.environ.get("K_REVISION") or os.uname().nodename


class Runtime:
    """
    The shared parts.

    Args:
        firestore: The user's client, or None to make one.
        config: Settings.
        tasks: The user's ``CloudTasksClient``, or None to make one.
        request_log: Where evidence is found; None: Cloud Logging.
        alerts: Where alerts go; None: as configured.
        clock: Time and chance.
    """

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
        certificates: identity.Certificates | None = None,
    ) -> None:
        """
        Build everything anew; nothing is opened yet. Without *certificates* they are fetched.
        """
        self.config = config
        # What settings have been found to be complete for; a test may exchange them.
        self._met: tuple[Config, set[tuple[Need, ...]]] = (config, set())
        self.clock = clock
        self._given_firestore = firestore
        project = None if firestore is None else firestore.project
        self._place = Place(config.project or project, config.location)
        self._verifier: identity.Verifier | None = None
        # Of what this process has told people directly, the day; of documents of which every write is refused, version and day.
        self.told: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        # Of alerts: windows that were open when they were last read, by document and cause; and what is to be counted.
        self.windows: dict[str, dict[str, Window]] = {}
        self.gathering: Gathering[Any] = Gathering()
        self._certificates = certificates
        self.wire = Wire(self._connect, clock, config.rpc_timeout)
        self.store = Store(self.wire, clock, config.patience)
        self.registry = Registry(self.store, clock, config.env)
        self.targets = Targets(lambda: self.config, self._place.project, lambda: self.registry)
        self.tasks = CloudTasks(tasks, config.tasks_emulator, clock, config.rpc_timeout)
        self.request_log: RequestLog = request_log or CloudRequestLog(
            project=self.project, emulator=config.logging_emulator, clock=clock, interval=config.log_interval
        )
        self.alerts: AlertChannel = alerts or channel_from(config)
        self.events = Events(self._trail(None), Log(level(config)), Telemetry(), *self._observers)

    def verifier(self) -> identity.Verifier:
        """
        Who verifies callers.

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

    # --- where we are ---

    def require(self, needs: tuple[Need, ...], *, also: Sequence[Need] = ()) -> None:
        """
        Nothing if *needs* are met.

        Raises:
            ConfigError: Settings are missing; the message names all of them, and those of *also* that are missing.
        """
        if self._met[0] is not self.config:
            self._met = (self.config, set())
        met = self._met[1]
        if needs not in met:
            requirements.require(self.config, self._place, needs, also=also)
            met.add(needs)

    def project(self) -> str:
        """
        The project's id.

        Raises:
            ConfigError: It is neither configured nor to be found.
        """
        project = self._place.project()
        if project is None:
            self.require(STORE)
            raise AssertionError("unreachable")
        return project

    def location(self) -> str | None:
        """
        The region of the queues; None: it is neither configured nor to be found.
        """
        return self._place.location()

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
        Where records count in this process, whatever the registry says: the collections of its models, and those configured.
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
        Let every sweep of the environment know *collection*, and the origin of *url* if it is configured here; call it before a
        commit that lets a document be due. None: there is none.

        Raises:
            StoreError: Firestore was unreachable or refused; nothing may be scheduled then.
        """
        self.registry.register(collection, self.targets.own(url))

    def moment(self, snapshot: Snapshot, lane: str | None = None) -> DecisionContext:
        """
        Now, for a decision on *snapshot*; *lane* says by whom a document without a record is looked at.
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
        The beginning of ``due`` of the document at *path*, for those who look after *lane*.
        """
        config = self.config
        shards = config.pull_shards if lane.startswith(PULL) else config.shards
        shard = zlib.crc32(path.encode()) % shards if shards > 1 else 0
        return f"{config.env}/{lane}/{shard:03d}"

    # --- logs ---

    def about(self, snapshot: Snapshot, sequence: int | None = None, attempt: int | None = None) -> LogContext:
        """
        What a line names that is about a document; of its present sequence and last attempt, unless told otherwise.
        """
        return context_at(snapshot.path, self.config.env, snapshot.lock, sequence, attempt)

    def instance(self) -> str:
        """
        Where this process runs, for a person who reads the lock.
        """
        return f"{_MACHINE}/{forks.pid}"


def _lane(snapshot: Snapshot) -> str:
    lock = snapshot.lock
    if lock is None or lock.url is not None:
        return PUSH
    name = task_name(snapshot.path)
    return PUSH if name is None else pull_lane(name.kind)
