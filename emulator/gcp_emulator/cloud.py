"""
Every service of the local cloud, started and stopped together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Literal, Self

from gcp_emulator import words
from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.faults import Faults
from gcp_emulator.firestore import FirestoreServer, GoogleFirestore
from gcp_emulator.logging import LoggingServer
from gcp_emulator.mail import MailSink
from gcp_emulator.names import check_name
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.rpc import RpcError
from gcp_emulator.tasks import TasksServer, Transport

SERVICES = ("firestore", "tasks", "logging", "oidc", "mail")
OnReady = Callable[[str, str], None]


class CloudError(Exception):
    """
    A service could not start.
    """


class LocalCloud:
    """
    A Google Cloud of one project on loopback, for unmodified clients in this process or in others.

    Args:
        project: Project that the queues are made in and that ``environment()`` names; the servers take any.
        location: Location of the queues.
        firestore: The embedded server, or Google's own emulator where it is installed.
        clock: Time of every service but Google's emulator.
        seed: Repeats the same faults.
        queues: Queues to create, ids or full names, with the service's default settings.
        auto: Dispatch tasks in the background; otherwise ``tasks.run_due()`` does.
        transport: Where tasks are delivered; HTTP by default.
        mail: The mail sink; one without login by default.
        smtp: Whether to start it.
        app_engine: Address that App Engine targets of tasks are delivered to, such as ``http://127.0.0.1:8080``; without one
            they are refused.
        project_only: Refuse queues and tasks of other projects with PERMISSION_DENIED, as the service does.

    Raises:
        ValueError: A name can't be one, or *firestore* is no such server.

    Attributes:
        firestore: ``FirestoreServer``, or ``GoogleFirestore``.
        tasks: ``TasksServer``.
        logging: ``LoggingServer``.
        oidc: ``OidcIssuer``.
        mail: ``MailSink``.
        faults: One set of faults for all.
        queues: Names of the queues to create.
    """

    def __init__(
        self,
        project: str = "demo-local",
        location: str = "us-central1",
        *,
        firestore: Literal["embedded", "google"] = "embedded",
        clock: Clock | None = None,
        seed: int = 0,
        queues: Iterable[str] = ("default",),
        auto: bool = True,
        transport: Transport | None = None,
        mail: MailSink | None = None,
        smtp: bool = True,
        app_engine: str = "",
        project_only: bool = False,
    ) -> None:
        words.check("firestore", firestore, ("embedded", "google"))
        if isinstance(queues, str):
            raise ValueError(f"queues is the text {queues!r}; it must be a list, such as [{queues!r}].")  # noqa: TRY004
        queues = tuple(dict.fromkeys(queues))
        for kind, name in (("project", project), ("location", location), *(("queue", queue) for queue in queues)):
            check_name(kind, name)
        self.project = project
        self.location = location
        self.clock = clock or SystemClock()
        self.faults = Faults(seed)
        self.firestore: FirestoreServer | GoogleFirestore = (
            GoogleFirestore() if firestore == "google" else FirestoreServer(self.clock, self.faults)
        )
        self.oidc = OidcIssuer(self.clock, faults=self.faults)
        only = project if project_only else None
        self.tasks = TasksServer(self.clock, self.faults, self.oidc, transport, auto=auto, project=only)
        self.logging = LoggingServer(self.clock, self.faults)
        self.tasks.app_engine = app_engine
        self.tasks.log = self.logging.write
        self.tasks.locations = (location,)
        self.mail = mail or MailSink(clock=self.clock)
        self._smtp = smtp
        self.queues = queues
        self._started = False

    def start(self, *, ports: Mapping[str, int] | None = None, on_ready: OnReady | None = None) -> None:
        """
        Start every service, all at once, and create the queues.

        Args:
            ports: Fixed ports by service name (``firestore``, ``tasks``, ``logging``, ``oidc``, ``mail``); the others
                get free ones.
            on_ready: Called with name and address of each service as it comes up, in any thread.

        Raises:
            CloudError: A service could not start; none is left running.
        """
        if self._started:
            raise CloudError("the local cloud is already started")
        self._started = True
        chosen = dict(ports or {})

        def start(name: str, starter: Callable[[int], object]) -> None:
            try:
                address = str(starter(chosen.get(name, 0)))
            except Exception as error:
                port = f" on port {chosen[name]}" if chosen.get(name) else ""
                raise CloudError(f"{name} could not start{port}: {error}") from error
            if on_ready is not None:
                on_ready(name, self.oidc.certs_url if name == "oidc" else address)

        starters: dict[str, Callable[[int], object]] = {
            "firestore": self.firestore.start,
            "tasks": self.tasks.start,
            "logging": self.logging.start,
            "oidc": self.oidc.start,
        }
        if self._smtp:
            starters["mail"] = self.mail.start
        if unknown := sorted(set(chosen) - set(SERVICES)):
            self._started = False
            raise CloudError(f"no service is called {', '.join(unknown)}; there are {', '.join(SERVICES)}")
        if sentence := _wrong_ports(chosen):
            self._started = False
            raise CloudError(sentence)
        with ThreadPoolExecutor(len(starters), thread_name_prefix="local-cloud") as pool:
            running = [pool.submit(start, name, starter) for name, starter in starters.items()]
        failures = [error for one in running if (error := one.exception()) is not None]
        if failures:
            self.stop()
            raise failures[0]
        for queue in self.queues:
            try:
                self.tasks.create_queue(self.queue(queue))
            except RpcError as error:
                self.stop()
                raise CloudError(f"the queue '{queue}' could not be made: {error}") from None

    def stop(self) -> None:
        """
        Stop every service; those that call others are stopped first. Their data in memory stays readable.
        """
        self._started = False
        self.tasks.stop()
        self.firestore.stop()
        self.logging.stop()
        self.oidc.stop()
        self.mail.stop()

    def queue(self, name: str = "default") -> str:
        """
        Full name of a queue of this project; a full name is returned as it is.
        """
        if "/" in name:
            return name
        return f"projects/{self.project}/locations/{self.location}/queues/{name}"

    def environment(self) -> dict[str, str]:
        """
        Return the environment variables with the addresses of this cloud, which a program needs to use it. ``exports`` has
        the others.

        Raises:
            CloudError: The cloud is not started.
        """
        if not self._started:
            raise CloudError("the local cloud has addresses only while it is started")
        found = {
            "GOOGLE_CLOUD_PROJECT": self.project,
            "ONCETASK_LOCATION": self.location,
            "FIRESTORE_EMULATOR_HOST": self.firestore.address,
            "CLOUD_TASKS_EMULATOR_HOST": self.tasks.address,
            "CLOUD_LOGGING_EMULATOR_HOST": self.logging.address,
            "ONCETASK_OIDC_CERTS_URL": self.oidc.certs_url,
        }
        if self._smtp:
            found["ONCETASK_SMTP_URL"] = self.mail.url
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _wrong_ports(chosen: Mapping[str, int]) -> str:
    """
    A sentence if *chosen* has a number that is no port, or one twice.
    """
    owners: dict[int, str] = {}
    for name, port in chosen.items():
        if type(port) is not int or not 0 <= port < 65536:
            return f"{port!r} can't be the port of {name}; a port is a number from 1 to 65535, or 0 for a free one"
        if port and port in owners:
            return f"{port} can't be the port of both {owners[port]} and {name}"
        owners[port] = name
    return ""
