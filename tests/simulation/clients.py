"""
Google's clients of one simulated process.

Making them takes as long as a dozen calls, so those of a world that has ended serve the processes of the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.auth.credentials import AnonymousCredentials
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gcp_emulator.channel import Call, InProcessChannel, firestore_client
from gcp_emulator.clock import Clock
from gcp_emulator.rpc import Service

PROJECT = "sim"
_FREE: list[Clients] = []


class _Line(InProcessChannel):
    """
    A channel that is led from one world to the next.
    """

    def lead(self, services: Sequence[Service], clock: Clock, via: Call) -> None:
        """
        End at *services* from now on.
        """
        super().__init__(services, clock, via)

    def cut(self) -> None:
        """
        End nowhere.
        """
        super().__init__(())


class Clients:
    """
    The clients of one process, on a channel of its own. They keep nothing between two calls.

    Attributes:
        firestore: A ``google.cloud.firestore.Client``.
        tasks: A ``CloudTasksClient``.
        logging: A ``LoggingServiceV2Client``.
    """

    def __init__(self) -> None:
        self._line = _Line(())
        nobody = AnonymousCredentials()
        self.firestore = firestore_client(self._line, PROJECT)
        self.tasks = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=self._line, credentials=nobody))
        self.logging = LoggingServiceV2Client(
            transport=LoggingServiceV2GrpcTransport(channel=self._line, credentials=nobody)
        )

    @classmethod
    def to(cls, services: Sequence[Service], clock: Clock, via: Call) -> Clients:
        """
        Clients that nobody else uses, on a channel to *services*.
        """
        clients = _FREE.pop() if _FREE else cls()
        clients._line.lead(services, clock, via)
        return clients

    def give_back(self) -> None:
        """
        Let another process have them; whoever used them makes no more calls.
        """
        self._line.cut()
        _FREE.append(self)
