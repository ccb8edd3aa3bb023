"""
Dispatch due tasks, in the background or when told to, and settle each task by the answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Faults
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.tasks.background import Background, LoopBackground, ThreadBackground
from gcp_emulator.tasks.backlog import Backlog, Entry, QueueState
from gcp_emulator.tasks.journal import target_type
from gcp_emulator.tasks.messages import SECOND, Micros
from gcp_emulator.tasks.outgoing import access_token, outgoing
from gcp_emulator.tasks.records import Delivery, DispatchRecord, Ended
from gcp_emulator.tasks.transport import Answer, Dispatch, HttpTransport, Transport

MAX_RECORDS = 100_000
MAX_RECORDED_BODY = 4096

_FAILED = Answer(None, b"the transport failed")
_STOPPED = Answer(None, b"the local server was stopped before the answer came")


class Dispatcher:
    """
    Takes tasks from a backlog and delivers them.

    Attributes:
        changed: Lock of the backlog; notified when anything in it or in the running attempts changes.
        running: Deliveries under way, copies included.
        app_engine: Gives the address that stands for App Engine.
        on_begin: Called when an attempt begins, with queue, task and time. The lock is held.
        on_end: Called when an attempt has ended. Copies are no attempts.
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
        self.app_engine: Callable[[], str] = str
        self.on_begin: Callable[[QueueState, Entry, Micros], None] | None = None
        self.on_end: Callable[[Ended], None] | None = None
        self._records: deque[DispatchRecord] = deque(maxlen=MAX_RECORDS)
        self._scheduler: threading.Thread | None = None
        self._background: Background | None = None

    # Background

    def start(self) -> None:
        """
        Dispatch in the background from now on.
        """
        background: Background
        if isinstance(self._transport, HttpTransport):
            background = LoopBackground(self._deliver_waiting)
        else:
            background = ThreadBackground(self._deliver, self._max_threads)
        self._background = background
        self._scheduler = threading.Thread(
            target=self._schedule, args=(background,), name="tasks-scheduler", daemon=True
        )
        self._scheduler.start()

    def stop(self, grace: float) -> None:
        """
        Start no more deliveries. Wait up to *grace* seconds for running ones, then abandon them.
        """
        background, scheduler = self._background, self._scheduler
        if background is None or scheduler is None:
            return
        with self.changed:
            self._background = self._scheduler = None
            self.changed.notify_all()
        scheduler.join()
        with self.changed:
            self.changed.wait_for(lambda: self.running == 0, grace)
        background.stop()

    def idle(self, timeout: float) -> bool:
        """
        Wait up to *timeout* real seconds until nothing runs and no task is due; False if that did not happen.
        """
        with self.changed:
            return self.changed.wait_for(
                lambda: self.running == 0 and not self._backlog.waiting(self._clock.micros()), timeout
            )

    def _schedule(self, background: Background) -> None:
        with self.changed:
            while self._background is background:
                while self.running < background.most and (deliveries := self._take()):
                    for delivery in deliveries:
                        background.submit(delivery)
                now = self._clock.micros()
                at = None if self.running >= background.most else self._backlog.next_due(now)
                if at is None or at > now:
                    self._clock.wait(self.changed, at)

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
        begun: list[Delivery] = []
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
        copy = Delivery(
            record.task,
            record.queue,
            record.retry_count,
            replace(record.dispatch, answer_lost=False),
            record.identity,
            record.access,
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

    def _take(self) -> list[Delivery]:
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

    def _begin(self, state: QueueState, entry: Entry, now: Micros) -> list[Delivery]:
        rates, sent = self._faults.deliveries, outgoing(state.queue, entry, self.app_engine())
        fault = next(
            (
                name
                for name, rate in (("lose", rates.lose), ("lose_answer", rates.lose_answer))
                if self._faults.strikes(name, rate)
            ),
            "",
        )
        dispatch = Dispatch(
            sent.method,
            sent.url,
            sent.headers,
            sent.body,
            entry.task.dispatch_deadline.ToMicroseconds() / SECOND,
            answer_lost=fault == "lose_answer",
        )
        first = Delivery(
            entry.name,
            state.queue.name,
            entry.task.dispatch_count,
            dispatch,
            sent.identity,
            sent.access,
            fault,
            state,
            entry,
        )
        deliveries = [first]
        if self._faults.strikes("duplicate", rates.duplicate):
            copy = replace(dispatch, answer_lost=False)
            deliveries.append(replace(first, dispatch=copy, fault="duplicate", state=None, entry=None))
        entry.begin(now)
        if self.on_begin is not None:
            self.on_begin(state, entry, now)
        state.running += 1
        self.running += len(deliveries)
        return deliveries

    def _deliver(self, delivery: Delivery) -> DispatchRecord:
        started, dispatch, answer = self._clock.micros(), delivery.dispatch, _FAILED
        try:
            if delivery.fault == "lose":
                answer = Answer(None, b"lost on the way")
            else:
                dispatch = self._signed(delivery)
                answer = self._answer(dispatch)
        finally:
            record = self._ended(delivery, dispatch, answer, started)
        return record

    async def _deliver_waiting(
        self, delivery: Delivery, send: Callable[[Dispatch], Coroutine[Any, Any, Answer]]
    ) -> None:
        """
        As ``_deliver``, in an event loop.
        """
        started, dispatch, answer = self._clock.micros(), delivery.dispatch, _STOPPED
        try:
            if delivery.fault == "lose":
                answer = Answer(None, b"lost on the way")
            else:
                dispatch = self._signed(delivery)
                answer = await send(dispatch)
        finally:
            self._ended(delivery, dispatch, answer, started)

    def _ended(self, delivery: Delivery, dispatch: Dispatch, answer: Answer, started: Micros) -> DispatchRecord:
        """
        Settle a task by the answer to its delivery, and keep the record.
        """
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
            delivery.access,
        )
        ended = None
        with self.changed:
            self._records.append(record)
            if delivery.entry is not None and delivery.state is not None:
                ended = self._settled(delivery.state, delivery.entry, record, answer)
            self.running -= 1
            self.changed.notify_all()
        if ended is not None and self.on_end is not None:
            self.on_end(ended)
        return record

    def _settled(self, state: QueueState, entry: Entry, record: DispatchRecord, answer: Answer) -> Ended:
        scheduled = entry.task.last_attempt.schedule_time.ToMicroseconds()
        state.running -= 1
        self._backlog.settle(state, entry, answer, record.finished)
        return Ended(
            record,
            state.queue.stackdriver_logging_config.sampling_ratio,
            state.retry_config(entry).max_attempts,
            entry.task.response_count,
            scheduled,
            entry.due if entry.live else None,
            target_type(entry.task),
        )

    def _signed(self, delivery: Delivery) -> Dispatch:
        """
        The dispatch with a token of its own.
        """
        if delivery.identity is not None and self._issuer is not None:
            token = self._issuer.token(*delivery.identity)
        elif delivery.access is not None:
            token = access_token(*delivery.access, self._clock.micros())
        else:
            return delivery.dispatch
        headers = {**delivery.dispatch.headers, "Authorization": f"Bearer {token}"}
        return replace(delivery.dispatch, headers=headers)

    def _answer(self, dispatch: Dispatch) -> Answer:
        answer = self._transport(dispatch)
        if not isinstance(answer, Answer):
            answer = Answer(answer)
        return replace(answer, status=None) if dispatch.answer_lost else answer
