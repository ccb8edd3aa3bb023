"""
The life of an attempt: the one place where it is opened and closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from gcp_oncetask.clock import Mark
from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.execution.attempt import Attempt, current_attempt
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.observe.log_context import LogContext, current, replays
from gcp_oncetask.rules.decisions import Claimant
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.side_writes import Hold
from gcp_oncetask.store.snapshot import Snapshot


class Granted(NamedTuple):
    """
    A granted lease that no attempt uses yet.

    Attributes:
        spec: The handler for which it was granted.
        snapshot: The document after the grant.
        before: The document before the claim; None: an expired lease was taken over.
        context: The attempt, for log lines.
        mark: Time before the claim was sent.
        hold: The resource key under which the attempt runs; None: it needs none.
        headers: Headers of the Cloud Task; None: there is none.
        leader: The attempt that leads its batch; None: it rides in no batch, and is the current attempt
            of its thread.
        owed: Ids of the alerts that the takeover owes.
    """

    spec: HandlerSpec
    snapshot: Snapshot
    before: Snapshot | None
    context: LogContext
    mark: Mark
    hold: Hold | None
    headers: TaskHeaders | None = None
    leader: RunningAttempt | None = None
    owed: tuple[str, ...] = ()


@contextmanager
def open_attempt(executor: Executor, granted: Granted) -> Iterator[RunningAttempt]:
    """
    Yield the attempt of a *granted* lease, and close it afterwards: its span ends, its lease is no longer renewed, and
    the alerts that it owes are sent. This happens also when the handler ends the process (SystemExit,
    KeyboardInterrupt).
    """
    runtime, spec, leads = executor.runtime, granted.spec, granted.leader is None
    attempt = RunningAttempt(
        runtime,
        granted.snapshot,
        granted.context,
        policy=spec.policy,
        mark=granted.mark,
        delivery=granted.headers,
        renewing=spec.renew,
        hold=granted.hold,
        leader=granted.leader,
    )
    attempt.told = spec.cleans
    executor.attempts[attempt] = None
    if spec.renew:
        executor.renew(attempt, granted.mark)
    again = replays.set(attempt.replays) if leads and attempt.granted.needs else None
    about, outer = (current.set(attempt.context), current_attempt.set(Attempt(attempt))) if leads else (None, None)
    try:
        runtime.events.granted(attempt, granted.before, current=leads, note="" if leads else ", in a batch")
        yield attempt
    except BaseException as error:
        runtime.events.ended(attempt, attempt.settled, "", error)
        raise
    else:
        ended = attempt.ended
        assert ended is not None
        runtime.events.ended(attempt, ended.outcome, ended.reason)
    finally:
        if about is not None and outer is not None:
            current.reset(about)
            current_attempt.reset(outer)
        if again is not None:
            replays.reset(again)
        if spec.renew:
            executor.renewals.remove(attempt)
        executor.attempts.pop(attempt, None)
        # The subject knows its attempt: only the garbage collector would free the two.
        attempt.subject = None
        owed = granted.owed + owed_alerts.newly_owed(attempt.granted, attempt.snapshot.lock)
        owed_alerts.send_owed(runtime, attempt.snapshot, owed, granted.mark)


def context_of(
    path: str,
    env: str,
    sequence: int,
    lock: Lock | None,
    claimant: Claimant,
    *,
    token: int,
    attempt: int,
) -> LogContext:
    """
    Return the attempt as log lines name it; *lock* is its record, None if that is not known.
    """
    task = parse_task_path(path)
    return LogContext(
        document=path,
        sequence=sequence,
        attempt=attempt,
        token=token,
        holder=claimant.nonce,
        env=env,
        trace=claimant.trace,
        task=None if task is None else task.id,
        kind=None if task is None else task.kind,
        key=None if lock is None else lock.key,
        step=0 if lock is None else lock.step_of(sequence),
    )
