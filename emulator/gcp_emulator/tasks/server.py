"""
Cloud Tasks on this machine: the gRPC service, the queues behind it, and the dispatching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from google.protobuf import field_mask_pb2

from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.faults import Faults
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.port import Port
from gcp_emulator.rest import Rest
from gcp_emulator.tasks import beta, firebase
from gcp_emulator.tasks.backlog import Backlog
from gcp_emulator.tasks.dispatcher import Dispatcher
from gcp_emulator.tasks.journal import Journal
from gcp_emulator.tasks.messages import (
    Micros,
    Queue,
    QueueMessage,
    TaskMessage,
    UpdateQueueRequest,
    duration,
)
from gcp_emulator.tasks.policies import locations
from gcp_emulator.tasks.records import DispatchRecord, Ended
from gcp_emulator.tasks.rest import routes
from gcp_emulator.tasks.service import CloudTasks
from gcp_emulator.tasks.transport import HttpTransport, Transport

_MICROSECOND = timedelta(microseconds=1)


class TasksServer:
    """
    A Cloud Tasks service for unmodified clients.

    With ``auto`` tasks are dispatched in the background from ``start`` to ``stop``: over HTTP as many at once as the queues
    allow, with no thread held by any of them; by a transport of another kind in threads. Without it no task is dispatched by
    itself: ``run_due`` dispatches in the calling thread the tasks that are due by the clock, in an order that repeats.

    Attributes:
        service: The RPCs, to be put behind a port or called directly.
        address: ``127.0.0.1:port`` once started.
        faults: RPC faults by method name; delivery faults in ``faults.deliveries``, or by name through ``faults.fail``
            (``duplicate``, ``delay``, ``lose``, ``lose_answer``).
        transport: Carries the dispatches.
        app_url: Address of the server that tasks of firebase-admin go to, such as ``http://127.0.0.1:8080``.
        app_engine: Address that stands for App Engine; empty: ``app_url``. Without either, App Engine targets are refused.
        log: Takes the ``LogEntry`` of each operation that a queue's ``stackdriver_logging_config`` lets it log.
        on_failure: Called after each failed attempt, with its record and the time of the next attempt in micros since the
            epoch; None: there will be none.
        locations: Ids of locations that are listed although they have no queue.
        services: All services, to be put behind a port or a channel.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        faults: Faults | None = None,
        issuer: OidcIssuer | None = None,
        transport: Transport | None = None,
        *,
        auto: bool = True,
        tombstone: timedelta = timedelta(hours=24),
        queue_tombstone: timedelta = timedelta(days=3),
        max_dispatch_threads: int = 64,
        rate_limits: bool | None = None,
        project: str | None = None,
    ) -> None:
        """
        Make a service without queues; nothing is served or dispatched before ``start``.

        Args:
            clock: The clock of the service; background dispatching needs the system's (the default).
            faults: Injected faults; none by default.
            issuer: Mints identity tokens; without one, tasks that ask for a token are refused.
            transport: Default: HTTP.
            auto: Dispatch in the background.
            tombstone: Time for which the name of a finished or deleted task stays taken.
            queue_tombstone: Time for which the name of a deleted queue stays taken.
            max_dispatch_threads: Deliveries at once, over all queues, by a transport other than HTTP.
            rate_limits: Whether queues keep to their dispatches per second. Default: as ``auto``, so that a burst
                on a clock that stands still is not left half delivered.
            project: The only project that is served, others are refused with PERMISSION_DENIED; None: any.
        """
        clock = clock or SystemClock()
        self.faults = faults or Faults()
        self.transport: Transport = transport or HttpTransport()
        self._auto = auto
        self.app_url = self.app_engine = ""
        self.log: Callable[[Any], None] | None = None
        self.on_failure: Callable[[DispatchRecord, Micros | None], None] | None = None
        self.locations: tuple[str, ...] = ()
        self._clock = clock
        self._backlog = Backlog(
            tombstone // _MICROSECOND, queue_tombstone // _MICROSECOND, auto if rate_limits is None else rate_limits
        )
        self._dispatcher = Dispatcher(
            self._backlog,
            clock=clock,
            faults=self.faults,
            issuer=issuer,
            transport=self.transport,
            max_threads=max_dispatch_threads,
        )
        self._journal = Journal(self._write, self.faults.seed)
        self._dispatcher.app_engine = lambda: self.app_engine or self.app_url
        self._dispatcher.on_begin = self._journal.dispatched
        self._dispatcher.on_end = self._ended
        self._api = CloudTasks(
            self._backlog,
            self._dispatcher,
            clock=clock,
            faults=self.faults,
            tokens=issuer is not None,
            project=project,
            journal=self._journal,
        )
        self.service = self._api.service(self.faults)
        others = (
            self._api.batches.operations(),
            locations(lambda name: (*self.locations, *self._api.locations(name)), clock),
        )
        self.services = (self.service, *others)
        second = beta.service(self.service)
        admin = firebase.service(self.service, lambda: self.app_url)
        addresses = Rest([(self.service, routes("v2")), (second, routes("v2beta3")), (admin, firebase.ROUTES)])
        self._port = Port([*self.services, second], addresses)

    def start(self, port: int = 0) -> str:
        """
        Serve gRPC on *port* (0: a free one), and dispatch if ``auto``; returns the address.
        """
        address = self._port.start(port)
        if self._auto:
            self._dispatcher.start()
        return address

    def stop(self, grace: float = 0.2) -> None:
        """
        Stop serving and dispatching; running deliveries have *grace* seconds. Queues and tasks stay, and ``start`` goes on
        with them.
        """
        self._port.stop(grace)
        self._dispatcher.stop(grace)
        if isinstance(self.transport, HttpTransport):
            self.transport.close()

    def _write(self, entry: Any) -> None:
        if self.log is not None:
            self.log(entry)

    def _ended(self, ended: Ended) -> None:
        self._journal.answered(ended)
        if self.on_failure is not None and not ended.record.succeeded:
            self.on_failure(ended.record, ended.next_due)

    @property
    def address(self) -> str:
        return self._port.address

    @property
    def counts(self) -> Counter[str]:
        """
        Calls received, by short name of the RPC.
        """
        return self.service.counts

    @property
    def dispatches(self) -> list[DispatchRecord]:
        """
        Dispatches that have ended, oldest first; the last 100,000.
        """
        return self._dispatcher.records()

    def create_queue(
        self,
        name: str,
        *,
        max_dispatches_per_second: float | None = None,
        max_concurrent_dispatches: int | None = None,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        min_backoff: timedelta | None = None,
        max_backoff: timedelta | None = None,
        max_doublings: int | None = None,
    ) -> QueueMessage:
        """
        Create the queue, or change the given settings of it if it is there.

        Raises:
            RpcError: As the service refuses.
        """
        rates = {
            "max_dispatches_per_second": max_dispatches_per_second,
            "max_concurrent_dispatches": max_concurrent_dispatches,
        }
        retries = {
            "max_attempts": max_attempts,
            "max_doublings": max_doublings,
            "max_retry_duration": _duration(max_retry_duration),
            "min_backoff": _duration(min_backoff),
            "max_backoff": _duration(max_backoff),
        }
        queue = Queue(name=name, rate_limits=rates, retry_config=retries)
        paths = [f"rate_limits.{field}" for field, value in rates.items() if value is not None]
        paths += [f"retry_config.{field}" for field, value in retries.items() if value is not None]
        mask = field_mask_pb2.FieldMask(paths=paths)
        return self._api.update_queue(UpdateQueueRequest(queue=queue, update_mask=mask))

    def tasks(self, queue: str | None = None) -> list[TaskMessage]:
        """
        Unfinished tasks of *queue* (full name), or of all queues, as plain messages in order of creation.
        """
        return self._api.tasks(queue)

    def run_due(self) -> int:
        """
        Deliver in this thread all due tasks, also those that become due meanwhile; return the number of deliveries.

        Order: by due time, then by creation. An exception of the transport is raised; the attempt counts as one without an
        answer.
        """
        if self._auto:
            raise RuntimeError("This server dispatches by itself; make it with auto=False to dispatch by hand.")
        return self._dispatcher.run_due()

    def run_next(self) -> int:
        """
        Deliver in this thread the one task that is due first; returns how many deliveries: 0 if nothing is due, 2 if a fault
        makes a copy. For schedulers of their own, as ``take_due``.
        """
        if self._auto:
            raise RuntimeError("This server dispatches by itself; make it with auto=False to dispatch by hand.")
        return self._dispatcher.run_next()

    def take_due(self) -> list[Callable[[], DispatchRecord]]:
        """
        Begin the deliveries of all due tasks: each returned function makes one delivery. They may be called in any thread
        and order.

        For schedulers of their own; ``run_due`` makes the deliveries one after the other.
        """
        if self._auto:
            raise RuntimeError("This server dispatches by itself; make it with auto=False to dispatch by hand.")
        return self._dispatcher.take_due()

    def next_due(self) -> Micros | None:
        """
        When the next dispatch is due, in micros since the epoch, perhaps in the past; None if none is scheduled.
        """
        with self._dispatcher.changed:
            return self._backlog.next_due(self._clock.micros())

    def idle(self, timeout: float) -> bool:
        """
        Wait up to *timeout* real seconds until nothing runs and no task is due; False if that did not happen.

        Retries that wait for their time, and tasks of paused queues, are not waited for.
        """
        return self._dispatcher.idle(timeout)

    def redeliver(self, which: DispatchRecord | str) -> int | None:
        """
        Deliver a late copy of a dispatch, or of the last dispatch of the named task, in this thread.

        The headers are the same, but for a fresh identity token. The queue does not hear of the answer.

        Returns:
            The status; None without an answer.
        """
        return self._dispatcher.redeliver(which)

    def duplicate_last(self) -> int | None:
        """
        Deliver a late copy of the dispatch that ended last, in this thread; returns the status.
        """
        return self._dispatcher.duplicate_last()


def _duration(span: timedelta | None) -> object:
    return None if span is None else duration(span // _MICROSECOND)
