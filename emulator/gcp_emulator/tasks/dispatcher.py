"""
Dispatch due tasks, on threads or when told to, and settle each task by the answer.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Faults
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.tasks.backlog import Backlog, Entry, QueueState
from gcp_emulator.tasks.checks import USER_AGENT
from gcp_emulator.tasks.crew import Crew
from gcp_emulator.tasks.messages import METHODS, SECOND, Micros
from gcp_emulator.tasks.transport import Answer, Dispatch, Transport

MAX_RECORDS = 100_000
MAX_RECORDED_BODY = 4096

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DispatchRecord:
    """
    A dispatch that has ended.

    Attributes:
        task: Full name of the task.
        queue: Full name of its queue.
        retry_count: Attempts before this one.
        status: Status of the answer as the queue saw it; None without one.
        timed_out: The dispatch deadline passed.
        started: Micros since the epoch.
        finished: Micros since the epoch.
        fault: ``duplicate``, ``lose``, ``lose_answer``, ``redelivery``, or empty.
        body: Start of the answer's body; without an answer, the error.
        dispatch: The request as it was sent.
        identity: Audience and account of its identity token; None without one.
    """

    task: str
    queue: str
    retry_count: int
    status: int | None
    timed_out: bool
    started: Micros
    finished: Micros
    fault: str
    body: bytes
    dispatch: Dispatch
    identity: tuple[str, str] | None

    @property
    def url(self) -> str:
        return self.dispatch.url


@dataclass(frozen=True, slots=True)
class _Delivery:
    """
    A dispatch about to be made; without *entry* it is a copy that settles nothing.
    """

    task: str
    queue: str
    retry_count: int
    dispatch: Dispatch
    identity: tuple[str, str] | None
    fault: str = ""
    state: QueueState | None = None
    entry: Entry | None = None


class Dispatcher:
    """
    Takes tasks from a backlog and delivers them.

    Attributes:
        changed: Lock of the backlog; notified when anything in it or in the running attempts changes.
        running: Deliveries under way, copies included.
    """

    def __init__(
        self,
        backlog: Backlog,
        *,
        clock: Clock,
        faults: Faults,
        issuer: OidcIssuer | None,
        transport: Transport,
        max_threads: int,
    ) -> None:
        self.changed = threading.Condition()
        self.running = 0
        self._backlog = backlog
        self._clock = clock
        self._faults = faults
        self._issuer = issuer
        self._transport = transport
        self._max_threads = max_threads
        self._records: deque[DispatchRecord] = deque(maxlen=MAX_RECORDS)
        self._crew: Crew | None = None
        self._scheduler: threading.Thread | None = None

    # Background

    def start(self) -> None:
        """
        Dispatch in the background from now on.
        """
        self._crew = Crew(self._max_threads, "tasks-dispatch")
        self._scheduler = threading.Thread(
            target=self._schedule, args=(self._crew,), name="tasks-scheduler", daemon=True
        )
        self._scheduler.start()

    def stop(self, grace: float) -> None:
        """
        Start no more deliveries. Wait up to *grace* seconds for running ones, then abandon them.
        """
        crew, scheduler = self._crew, self._scheduler
        if crew is None or scheduler is None:
            return
        with self.changed:
            self._crew = self._scheduler = None
            self.changed.notify_all()
        scheduler.join()
        with self.changed:
            self.changed.wait_for(lambda: self.running == 0, grace)
        crew.dismiss()

    def idle(self, timeout: float) -> bool:
        """
        Wait up to *timeout* real seconds until nothing runs and no task is due; False if that did not happen.
        """
        with self.changed:
            return self.changed.wait_for(
                lambda: self.running == 0 and not self._backlog.waiting(self._clock.micros()), timeout
            )

    def _schedule(self, crew: Crew) -> None:
        with self.changed:
            while self._crew is crew:
                while self.running < self._max_threads and (deliveries := self._take()):
                    for delivery in deliveries:
                        crew.submit(self._in_background(delivery))
                now = self._clock.micros()
                at = None if self.running >= self._max_threads else self._backlog.next_due(now)
                if at is None or at > now:
                    self._clock.wait(self.changed, at)

    def _in_background(self, delivery: _Delivery) -> Callable[[], None]:
        def run() -> None:
            try:
                self._deliver(delivery)
            except Exception:
                _logger.exception("The transport failed on task %s", delivery.task)

        return run

    # By hand

    def run_due(self) -> int:
        """
        Deliver in this thread all due tasks, also those that become due meanwhile; return the number of deliveries.

        Order: by due time, then by creation. A copy made by a fault follows its original.

        Raises:
            BaseException: The exception of the transport; the attempt counts as one without an answer.
        """
        count = 0
        while made := self.run_next():
            count += made
        return count

    def run_next(self) -> int:
        """
        Deliver in this thread the task that is due first, if one is due, and its copy if a fault makes one; returns how many
        deliveries.

        Raises:
            BaseException: As ``run_due``.
        """
        with self.changed:
            deliveries = self._take()
        left = iter(deliveries)
        try:
            for delivery in left:
                self._deliver(delivery)
        finally:
            # An exception keeps the copies from being made.
            with self.changed:
                self.running -= sum(1 for _ in left)
        return len(deliveries)

    def take_due(self) -> list[Callable[[], DispatchRecord]]:
        """
        Begin the deliveries of all due tasks; return a function for each, which makes the delivery.
        """
        begun: list[_Delivery] = []
        with self.changed:
            while deliveries := self._take():
                begun.extend(deliveries)
        return [partial(self._deliver, delivery) for delivery in begun]

    def redeliver(self, which: DispatchRecord | str) -> int | None:
        """
        Deliver a late copy of a dispatch, or of the last dispatch of the named task, in this thread.

        The headers are the same, but for a fresh identity token. The queue does not hear of the answer.

        Returns:
            The status; None without an answer.

        Raises:
            LookupError: No dispatch of that task has ended yet.
        """
        with self.changed:
            record = which if isinstance(which, DispatchRecord) else self._last(which)
            self.running += 1
        copy = _Delivery(
            record.task,
            record.queue,
            record.retry_count,
            replace(record.dispatch, answer_lost=False),
            record.identity,
            fault="redelivery",
        )
        return self._deliver(copy).status

    def duplicate_last(self) -> int | None:
        """
        Deliver a late copy of the dispatch that ended last.
        """
        with self.changed:
            if not self._records:
                raise LookupError("Nothing has been dispatched yet, so there is nothing to duplicate.")
            record = self._records[-1]
        return self.redeliver(record)

    def records(self) -> list[DispatchRecord]:
        """
        Dispatches that have ended, oldest first; the last 100,000.
        """
        with self.changed:
            return list(self._records)

    def _last(self, task: str) -> DispatchRecord:
        for record in reversed(self._records):
            if record.task == task:
                return record
        raise LookupError(f"No dispatch of task {task} has ended yet, so there is nothing to deliver again.")

    # One delivery

    def _take(self) -> list[_Delivery]:
        """
        The next task to dispatch, if one is due, as a delivery and its copy if a fault makes one. Lock held.
        """
        now = self._clock.micros()
        rates = self._faults.deliveries
        while (taken := self._backlog.take(now)) is not None:
            state, entry = taken
            if entry in state.held:
                state.held.discard(entry)
            elif self._faults.strikes("delay", rates.delay):
                state.hold(entry, now + max(1, round(self._faults.amount(rates.delay_seconds) * SECOND)))
                continue
            return self._begin(state, entry, now)
        return []

    def _begin(self, state: QueueState, entry: Entry, now: Micros) -> list[_Delivery]:
        rates, request = self._faults.deliveries, entry.task.http_request
        identity = None
        if request.HasField("oidc_token"):
            token = request.oidc_token
            identity = (token.audience or request.url, token.service_account_email)
        fault = next(
            (
                name
                for name, rate in (("lose", rates.lose), ("lose_answer", rates.lose_answer))
                if self._faults.strikes(name, rate)
            ),
            "",
        )
        dispatch = Dispatch(
            METHODS[request.http_method],
            request.url,
            _headers(entry),
            request.body,
            entry.task.dispatch_deadline.ToMicroseconds() / SECOND,
            answer_lost=fault == "lose_answer",
        )
        first = _Delivery(
            entry.name, state.queue.name, entry.task.dispatch_count, dispatch, identity, fault, state, entry
        )
        deliveries = [first]
        if self._faults.strikes("duplicate", rates.duplicate):
            copy = replace(dispatch, answer_lost=False)
            deliveries.append(replace(first, dispatch=copy, fault="duplicate", state=None, entry=None))
        entry.begin(now)
        state.running += 1
        self.running += len(deliveries)
        return deliveries

    def _deliver(self, delivery: _Delivery) -> DispatchRecord:
        started = self._clock.micros()
        dispatch = delivery.dispatch
        answer = Answer(None, b"the transport failed")
        try:
            if delivery.fault == "lose":
                answer = Answer(None, b"lost on the way")
            else:
                dispatch = self._signed(delivery)
                answer = self._answer(dispatch)
        finally:
            finished = self._clock.micros()
            if finished - started > dispatch.deadline * SECOND:
                answer = Answer(None, answer.body, timed_out=True)
            record = DispatchRecord(
                delivery.task,
                delivery.queue,
                delivery.retry_count,
                answer.status,
                answer.timed_out,
                started,
                finished,
                delivery.fault,
                answer.body[:MAX_RECORDED_BODY],
                dispatch,
                delivery.identity,
            )
            with self.changed:
                self._records.append(record)
                if delivery.entry is not None and delivery.state is not None:
                    delivery.state.running -= 1
                    self._backlog.settle(delivery.state, delivery.entry, answer, finished)
                self.running -= 1
                self.changed.notify_all()
        return record

    def _signed(self, delivery: _Delivery) -> Dispatch:
        """
        The dispatch with an identity token of its own.
        """
        if delivery.identity is None or self._issuer is None:
            return delivery.dispatch
        token = self._issuer.token(*delivery.identity)
        headers = {**delivery.dispatch.headers, "Authorization": f"Bearer {token}"}
        return replace(delivery.dispatch, headers=headers)

    def _answer(self, dispatch: Dispatch) -> Answer:
        answer = self._transport(dispatch)
        if not isinstance(answer, Answer):
            answer = Answer(answer)
        return replace(answer, status=None) if dispatch.answer_lost else answer


def _headers(entry: Entry) -> dict[str, str]:
    """
    Headers of the next attempt; the service's own win over the task's.

    Source: recorded dispatches of the service. An HTTP target's reason for a retry is always empty.
    """
    task, request = entry.task, entry.task.http_request
    _, _, _, _, _, queue, _, name = task.name.split("/")
    eta = task.schedule_time.ToMicroseconds()
    own = {
        "User-Agent": USER_AGENT,
        "X-CloudTasks-QueueName": queue,
        "X-CloudTasks-TaskName": name,
        "X-CloudTasks-TaskRetryCount": str(task.dispatch_count),
        "X-CloudTasks-TaskExecutionCount": str(entry.executions),
        "X-CloudTasks-TaskETA": f"{eta // SECOND}.{eta % SECOND:06d}",
    }
    if task.dispatch_count > 0:
        own["X-CloudTasks-TaskRetryReason"] = ""
        if entry.previous is not None:
            own["X-CloudTasks-TaskPreviousResponse"] = str(entry.previous)
    hidden = {header.lower() for header in own}
    if request.HasField("oidc_token"):
        hidden.add("authorization")
    return {**{name: value for name, value in request.headers.items() if name.lower() not in hidden}, **own}
