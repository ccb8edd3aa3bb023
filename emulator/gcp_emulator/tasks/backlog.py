"""
Queues and their tasks in memory: due tasks, running attempts, taken names. Not thread-safe: the caller holds a lock.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gcp_emulator.tasks import rules
from gcp_emulator.tasks.messages import RUNNING, SECOND, Micros, QueueMessage, TaskMessage, timestamp
from gcp_emulator.tasks.transport import Answer

# Statuses that the queue records for an attempt that got no answer. 504 after a deadline is recorded behaviour of the
# service; 503 for a refused or broken connection follows from the status code (UNAVAILABLE) that it logs for those.
TIMED_OUT_STATUS = 504
UNREACHABLE_STATUS = 503


@dataclass(slots=True, eq=False)
class Entry:
    """
    A task that is not finished.

    Attributes:
        task: Stored form; its schedule time and counts are kept up to date.
        order: Position among all tasks ever created.
        due: When it is dispatched; None while an attempt runs.
        executions: Answers so far, 5xx excluded.
        previous: Status of the previous attempt, as the next one is told.
        answered: The previous attempt got an answer.
        live: Not finished, deleted or purged.
    """

    task: TaskMessage
    order: int
    due: Micros | None = None
    executions: int = 0
    previous: int | None = None
    answered: bool = False
    live: bool = True

    @property
    def name(self) -> str:
        return str(self.task.name)

    def begin(self, now: Micros) -> None:
        """
        Count an attempt that starts *now*.
        """
        self.due = None
        self.task.dispatch_count += 1
        attempt = self.task.last_attempt
        attempt.Clear()
        attempt.schedule_time.CopyFrom(self.task.schedule_time)
        attempt.dispatch_time.CopyFrom(timestamp(now))
        if self.task.dispatch_count == 1:
            self.task.first_attempt.dispatch_time.CopyFrom(timestamp(now))

    def end(self, answer: Answer, now: Micros) -> None:
        """
        Count the *answer* of an attempt that ended *now*.
        """
        status = answer.status
        if status is not None:
            self.task.response_count += 1
            self.executions += status < 500
        self.answered = status is not None
        self.previous = status or (TIMED_OUT_STATUS if answer.timed_out else UNREACHABLE_STATUS)
        attempt = self.task.last_attempt
        attempt.response_time.CopyFrom(timestamp(now))
        code, name = rpc_code(self.previous)
        attempt.response_status.code = code
        attempt.response_status.message = f"{name}({code}): HTTP status code {self.previous}"
        if status is None and answer.body:
            attempt.response_status.message = f"{name}({code}): {answer.body.decode(errors='replace')}"


def rpc_code(status: int) -> tuple[int, str]:
    """
    Number and name of the gRPC status that is recorded for an HTTP status.
    """
    return _RPC_CODES.get(status, (0, "OK") if status < 300 else (2, "UNKNOWN"))


_RPC_CODES = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    403: (7, "PERMISSION_DENIED"),
    404: (5, "NOT_FOUND"),
    409: (10, "ABORTED"),
    429: (8, "RESOURCE_EXHAUSTED"),
    499: (1, "CANCELLED"),
    500: (13, "INTERNAL"),
    501: (12, "UNIMPLEMENTED"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
}


@dataclass(slots=True)
class TokenBucket:
    """
    Dispatches that a queue may start now; refilled at the queue's rate up to its burst size.
    """

    level: float
    filled_at: Micros

    def available_at(self, rate: float, burst: int, now: Micros) -> Micros:
        """
        When the next dispatch may start; *now* or later.
        """
        if now > self.filled_at:
            self.level = min(burst, self.level + (now - self.filled_at) * rate / SECOND)
            self.filled_at = now
        # Rounding must not leave the bucket a hair short at the very instant that was promised.
        missing = 1 - 1e-9 - self.level
        return now if missing <= 0 else now + math.ceil(missing * SECOND / rate)


@dataclass(slots=True, eq=False)
class QueueState:
    """
    One queue.

    Attributes:
        queue: Its settings.
        entries: Unfinished tasks by name, in order of creation.
        tombstones: Names that stay taken, and until when; in order of expiry.
        running: Attempts under way.
        held: Tasks kept back by an injected delay.
        policy: The policy that was set for the queue, which is not enforced.
    """

    queue: QueueMessage
    bucket: TokenBucket
    entries: dict[str, Entry] = field(default_factory=dict)
    tombstones: OrderedDict[str, Micros] = field(default_factory=OrderedDict)
    running: int = 0
    held: set[Entry] = field(default_factory=set)
    policy: Any = None
    _heap: list[tuple[Micros, int, int, Entry]] = field(default_factory=list)
    _pushes: int = 0

    def schedule(self, entry: Entry, due: Micros) -> None:
        entry.due = due
        self._pushes += 1
        heapq.heappush(self._heap, (due, entry.order, self._pushes, entry))

    def retry_config(self, entry: Entry) -> Any:
        """
        The settings for retries of a task: its own where it has some, the queue's for the rest.
        """
        return rules.retry_config(self.queue, entry.task)

    def hold(self, entry: Entry, until: Micros) -> None:
        """
        Keep a task back that is due.
        """
        self.held.add(entry)
        self.schedule(entry, until)

    def head(self) -> Entry | None:
        """
        The task that is due first.
        """
        while self._heap:
            due, _, _, entry = self._heap[0]
            if entry.live and entry.due == due:
                return entry
            heapq.heappop(self._heap)
        return None

    def remove(self, entry: Entry, until: Micros) -> None:
        """
        Drop *entry* and keep its name taken *until* then.
        """
        entry.live = False
        self.held.discard(entry)
        del self.entries[entry.name]
        self.tombstones[entry.name] = until

    def taken(self, name: str, now: Micros) -> bool:
        """
        Tell whether *name* is still taken by a former task.
        """
        while self.tombstones and next(iter(self.tombstones.values())) <= now:
            self.tombstones.popitem(last=False)
        return name in self.tombstones

    def ready_at(self, now: Micros, *, limited: bool) -> Micros | None:
        """
        When the head may be dispatched; None if nothing is scheduled or too many attempts run.
        """
        entry = self.head()
        rates = self.queue.rate_limits
        if entry is None or self.running >= rates.max_concurrent_dispatches:
            return None
        due = entry.due or 0
        if not limited:
            return due
        return max(due, self.bucket.available_at(rates.max_dispatches_per_second, rates.max_burst_size, now))


@dataclass(slots=True)
class Backlog:
    """
    All queues.

    Attributes:
        tombstone: Time for which the name of a finished task stays taken.
        queue_tombstone: Time for which the name of a deleted queue stays taken.
        limited: Whether queues keep to their dispatch rates.
        deleted: Names of deleted queues, and until when they stay taken.
        forced: Tasks that a client asked to run now.
    """

    tombstone: Micros
    queue_tombstone: Micros
    limited: bool
    queues: dict[str, QueueState] = field(default_factory=dict)
    deleted: dict[str, Micros] = field(default_factory=dict)
    forced: deque[tuple[QueueState, Entry]] = field(default_factory=deque)
    _created: int = 0

    def add_queue(self, queue: QueueMessage, now: Micros) -> QueueState:
        state = QueueState(queue, TokenBucket(queue.rate_limits.max_burst_size, now))
        self.queues[queue.name] = state
        return state

    def remove_queue(self, state: QueueState, now: Micros) -> None:
        self.clear(state, now)
        del self.queues[state.queue.name]
        self.deleted[state.queue.name] = now + self.queue_tombstone

    def clear(self, state: QueueState, now: Micros) -> None:
        """
        Delete every task of the queue.
        """
        for entry in list(state.entries.values()):
            self.remove(state, entry, now)

    def add(self, state: QueueState, task: TaskMessage) -> Entry:
        self._created += 1
        entry = Entry(task, self._created)
        state.entries[entry.name] = entry
        state.schedule(entry, task.schedule_time.ToMicroseconds())
        return entry

    def remove(self, state: QueueState, entry: Entry, now: Micros) -> None:
        state.remove(entry, now + self.tombstone)

    def take(self, now: Micros) -> tuple[QueueState, Entry] | None:
        """
        Remove and return the task to dispatch now: forced ones, else the one that was due first.
        """
        while self.forced:
            state, entry = self.forced.popleft()
            if entry.live:
                entry.due = None
                return state, entry
        while True:
            ready = [
                (state.head(), state)
                for state in self._dispatching()
                if (at := state.ready_at(now, limited=self.limited)) is not None and at <= now
            ]
            if not ready:
                return None
            entry, state = min(
                ((entry, state) for entry, state in ready if entry is not None),
                key=lambda pair: (pair[0].due, pair[0].order),
            )
            if self._expired(entry, now):
                self.remove(state, entry, now)
                continue
            entry.due = None
            if self.limited:
                state.bucket.level -= 1
            return state, entry

    def next_due(self, now: Micros) -> Micros | None:
        """
        When ``take`` will have something, if nothing changes; None for never.
        """
        if any(entry.live for _, entry in self.forced):
            return now
        times = [state.ready_at(now, limited=self.limited) for state in self._dispatching()]
        return min((at for at in times if at is not None), default=None)

    def waiting(self, now: Micros) -> bool:
        """
        Tell whether a task is waiting that is scheduled for now or earlier and may be dispatched.
        """
        if any(entry.live for _, entry in self.forced):
            return True
        for state in self._dispatching():
            head = state.head()
            if state.held or (head is not None and (head.due or 0) <= now):
                return True
        return False

    def settle(self, state: QueueState, entry: Entry, answer: Answer, now: Micros) -> None:
        """
        Finish, give up or reschedule a task by the *answer* to its attempt.
        """
        entry.end(answer, now)
        if not entry.live:
            return
        config, task = state.retry_config(entry), entry.task
        age = now - task.first_attempt.dispatch_time.ToMicroseconds()
        succeeded = answer.status is not None and 200 <= answer.status < 300
        if succeeded or rules.exhausted(config, task.dispatch_count, age):
            self.remove(state, entry, now)
            return
        due = now + rules.retry_interval(config, task.dispatch_count)
        task.schedule_time.CopyFrom(timestamp(due))
        state.schedule(entry, due)

    def _dispatching(self) -> Iterator[QueueState]:
        return (state for state in self.queues.values() if state.queue.state == RUNNING)

    @staticmethod
    def _expired(entry: Entry, now: Micros) -> bool:
        return now - int(entry.task.create_time.ToMicroseconds()) >= rules.RETENTION
