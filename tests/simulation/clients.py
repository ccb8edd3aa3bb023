"""
Google's clients of one simulated process.

Making them takes as long as a dozen calls, so those of a world that has ended serve the processes of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gcp_emulator.channel import Call, InProcessChannel, firestore_client
from gcp_emulator.clock import Clock
from gcp_emulator.rpc import Service

PROJECT = "sim"
DATABASE = f"projects/{PROJECT}/databases/(default)"
ROOT = f"{DATABASE}/documents/"
Talk = Callable[[Iterator[Any]], Any]
"""Answers a stream of requests with another one."""
_FREE: list[Clients] = []


def path_of(write: Any) -> str:
    """
    The document that a write changes or deletes.
    """
    name: str = write.update.name or write.delete
    return name.removeprefix(ROOT)


class _Line(InProcessChannel):
    """
    A channel that is led from one world to the next.
    """

    _talk: Talk | None = None

    def lead(self, services: Sequence[Service], clock: Clock, via: Call, talk: Talk) -> None:
        """
        End at *services* from now on; *talk* answers streams of requests.
        """
        super().__init__(services, clock, via)
        self._talk = talk

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Any:
        def call(requests: Iterator[Any], *_: Any, **__: Any) -> Any:
            assert self._talk is not None, method
            return self._talk(requests)

        return call

    def cut(self) -> None:
        """
        End nowhere.
        """
        super().__init__(())
        self._talk = None


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
    def to(cls, services: Sequence[Service], clock: Clock, via: Call, talk: Talk) -> Clients:
        """
        Clients that nobody else uses, on a channel to *services*.
        """
        clients = _FREE.pop() if _FREE else cls()
        clients._line.lead(services, clock, via, talk)
        return clients

    def give_back(self) -> None:
        """
        Let another process have them; whoever used them makes no more calls.
        """
        self._line.cut()
        _FREE.append(self)
