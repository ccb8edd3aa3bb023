"""
A dispatch before it is made, and the record of one that has ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcp_emulator.tasks.backlog import Entry, QueueState
from gcp_emulator.tasks.messages import Micros
from gcp_emulator.tasks.transport import Dispatch


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
        body: Start of the answer's body; without an answer, a sentence that says why.
        dispatch: The request as it was sent.
        identity: Audience and account of its identity token; None without one.
        access: Scope and account of its access token; None without one.
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
    access: tuple[str, str] | None = None

    @property
    def url(self) -> str:
        return self.dispatch.url

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Ended:
    """
    An attempt that has ended, and the next one of its task.

    Attributes:
        record: The dispatch.
        sampling: Share of the queue's operations that are logged.
        max_attempts: Limit of the attempts of the task.
        responses: Answers to the task so far.
        scheduled: Time for which the attempt was scheduled.
        next_due: When the next attempt is due; None if there will be none.
        target: ``HTTP`` or ``APP_ENGINE``.
    """

    record: DispatchRecord
    sampling: float
    max_attempts: int
    responses: int
    scheduled: Micros
    next_due: Micros | None
    target: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    A dispatch about to be made; without *entry* it is a copy that settles nothing.
    """

    task: str
    queue: str
    retry_count: int
    dispatch: Dispatch
    identity: tuple[str, str] | None
    access: tuple[str, str] | None = None
    fault: str = ""
    state: QueueState | None = None
    entry: Entry | None = None
