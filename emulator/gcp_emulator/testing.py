"""
A Google Cloud inside one test: no sockets, no threads, a clock that moves when told to.
"""

from __future__ import annotations

from typing import Any

from gcp_emulator.aio_channel import async_firestore_client
from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.clock import LoneClock, VirtualClock
from gcp_emulator.faults import Faults
from gcp_emulator.firestore import FirestoreServer, IndexCheck
from gcp_emulator.logging import LoggingServer
from gcp_emulator.mail import MailSink
from gcp_emulator.names import check_name
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.tasks import TasksServer, WsgiTransport

_MICROS = 1_000_000


class InProcessCloud:
    """
    Firestore, Cloud Tasks, Cloud Logging and an issuer of identity tokens for one test, with clients on them.

    Args:
        project: Project of the clients and of the queue.
        location: Location of the queue.
        seed: Repeats the same faults.
        indexes: Text of a ``firestore.indexes.json``: queries that it does not serve are refused.

    Attributes:
        clock: The virtual clock of all services.
        faults: Injected faults, by RPC and by delivery.
        firestore: ``FirestoreServer``; ``.documents(project)`` shows what is stored.
        tasks: ``TasksServer``; ``.tasks()`` and ``.dispatches`` show the waiting tasks and the deliveries.
        logging: ``LoggingServer``.
        oidc: Issues the identity tokens of deliveries.
        channel: A ``grpc.Channel`` to all of them, for any other client.
        queue: Full name of a queue that is there.
        mail: ``MailSink``; ``smtp_url()`` opens its port, ``.messages`` shows what has come.
    """

    def __init__(
        self,
        project: str = "demo-local",
        location: str = "us-central1",
        *,
        seed: int = 0,
        indexes: str | None = None,
    ) -> None:
        check_name("project", project)
        check_name("location", location)
        self.project = project
        self.location = location
        self._mailing = False
        self.clock: VirtualClock = LoneClock()
        self.faults = Faults(seed)
        check = None if indexes is None else IndexCheck.from_json(indexes)
        self.firestore = FirestoreServer(self.clock, self.faults, indexes=check)
        self.oidc = OidcIssuer(self.clock, faults=self.faults)
        self._wsgi = WsgiTransport({})
        self.tasks = TasksServer(self.clock, self.faults, self.oidc, self._wsgi, auto=False)
        self.logging = LoggingServer(self.clock, self.faults)
        self.tasks.log = self.logging.write
        self.tasks.locations = (location,)
        self.mail = MailSink(clock=self.clock)
        services = (self.firestore.service, *self.tasks.services, *self.logging.services)
        self.channel = InProcessChannel(services, self.clock)
        self.queue = self.tasks.create_queue(f"projects/{project}/locations/{location}/queues/default").name

    # --- clients ---

    def firestore_client(self, database: str = "(default)") -> Any:
        """
        A ``google.cloud.firestore.Client``.
        """
        return firestore_client(self.channel, self.project, database)

    def async_firestore_client(self, database: str = "(default)") -> Any:
        """
        A ``google.cloud.firestore.AsyncClient``.
        """
        return async_firestore_client(self.channel, self.project, database)

    def tasks_client(self) -> Any:
        """
        A ``google.cloud.tasks_v2.CloudTasksClient``.
        """
        from google.auth import credentials
        from google.cloud.tasks_v2 import CloudTasksClient
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

        nobody: Any = credentials.AnonymousCredentials
        return CloudTasksClient(transport=CloudTasksGrpcTransport(channel=self.channel, credentials=nobody()))

    def logging_client(self) -> Any:
        """
        A ``LoggingServiceV2Client`` of ``google.cloud.logging_v2``.
        """
        from google.auth import credentials
        from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
        from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport

        nobody: Any = credentials.AnonymousCredentials
        return LoggingServiceV2Client(
            transport=LoggingServiceV2GrpcTransport(channel=self.channel, credentials=nobody())
        )

    def smtp_url(self) -> str:
        """
        Where mail can be sent: the one part that needs a port, opened now if it isn't yet.
        """
        if not self._mailing:
            self.mail.start()
            self._mailing = True
        return self.mail.url

    def close(self) -> None:
        """
        Close the mail port, if it was opened; nothing else is open.
        """
        if self._mailing:
            self.mail.stop()
            self._mailing = False

    # --- running ---

    def mount(self, origin: str, app: Any) -> None:
        """
        Deliver tasks for *origin* (scheme and host, such as ``https://orders.test``) to the WSGI *app*.
        """
        self._wsgi.mount(origin, app)

    def run_until_idle(self) -> int:
        """
        Deliver every task whose time has come, and those that follow, until none is left; returns how many.
        """
        return self.tasks.run_due()

    def advance(self, seconds: float) -> int:
        """
        Let time pass, delivering each task when its time comes; returns how many.
        """
        end = self.clock.micros() + round(seconds * _MICROS)
        delivered = 0
        while (due := self.tasks.next_due()) is not None and due <= end:
            self.clock.advance(max(0, due - self.clock.micros()) / _MICROS)
            delivered += self.run_until_idle()
        self.clock.advance(max(0, end - self.clock.micros()) / _MICROS)
        return delivered
