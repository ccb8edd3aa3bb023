"""
The life of an attempt: the one place where it is opened and closed.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any, Final

from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.execution.attempt import Attempt, current_attempt
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.observe.log_context import current, replays
from gcp_oncetask.store.snapshot import Snapshot


class Granted:
    """
    A granted lease; its attempt is open while the context is entered. Then its span ends, its lease is no longer renewed,
    and the alerts that it owes are sent. This happens also when the handler ends the process (SystemExit,
    KeyboardInterrupt).

    Args:
        executor: Shared parts.
        spec: The handler for which it was granted.
        attempt: The attempt. Unless it rides in a batch, it is the current attempt of its thread.
        before: The document before the claim; None: an expired lease was taken over.
        owed: Ids of the alerts that the takeover owes.

    Attributes:
        seen: The attempt as user code sees it.
    """

    def __init__(
        self,
        executor: Executor,
        spec: HandlerSpec,
        attempt: RunningAttempt,
        before: Snapshot | None,
        owed: tuple[str, ...] = (),
    ) -> None:
        self._executor: Final = executor
        self._before: Final = before
        self._owed: Final = owed
        self._tokens: list[Token[Any]] = []
        self.spec: Final = spec
        self.attempt: Final = attempt
        self.seen: Final = Attempt(attempt)
        attempt.renewing, attempt.told = spec.renew, spec.cleans

    def __enter__(self) -> RunningAttempt:
        executor, attempt = self._executor, self.attempt
        leads = attempt.leader is None
        executor.attempts[attempt] = None
        if attempt.renewing:
            executor.renewals.add(attempt, attempt.policy.lease, attempt.granted_mark)
        if leads:
            self._tokens = [current.set(attempt.context), current_attempt.set(self.seen)]
            if attempt.granted.needs:
                self._tokens.append(replays.set(attempt.replays))
        try:
            note = "" if leads else ", in a batch"
            executor.runtime.events.granted(attempt, self._before, current=leads, note=note)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return attempt

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        executor, attempt = self._executor, self.attempt
        runtime = executor.runtime
        try:
            if error is not None:
                runtime.events.ended(attempt, attempt.settled, "", error)
            else:
                assert attempt.ended is not None
                runtime.events.ended(attempt, attempt.ended.outcome, attempt.ended.reason)
        finally:
            for token in self._tokens:
                token.var.reset(token)
            if attempt.renewing:
                executor.renewals.remove(attempt)
            executor.attempts.pop(attempt, None)
            # The subject knows its attempt: only the garbage collector would free the two.
            attempt.subject = None
            lock = attempt.snapshot.lock
            if self._owed or (lock is not None and lock.owed):
                owed = self._owed + owed_alerts.newly_owed(attempt.granted, lock)
                owed_alerts.send_owed(runtime, attempt.snapshot, owed, attempt.granted_mark)
