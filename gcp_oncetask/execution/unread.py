"""
Documents that another version of the program has written and this one can't read, for instance during a rolling
deployment. They are left to that version, and no attempt is burned.
"""

from __future__ import annotations

import logging

from gcp_oncetask import rules
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.execution.ended import Ended, delivered
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.observe.log_context import context_at
from gcp_oncetask.rules.decisions import DecisionContext, Put, Refused, Settlement, SettlementKind
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Snapshot


def judge(spec: HandlerSpec, seen: Snapshot, reason: str, nonce: str, at: DecisionContext) -> Put | Refused:
    """
    Decide on a document that could be claimed for *spec*, but for a *reason* can't be read here.
    """
    lock = seen.lock
    assert lock is not None
    ready = [each for each in (spec.subject.written_at(seen), lock.wait_until) if each is not None]
    since = lock.ready_since or max(ready, default=None)
    return rules.left(lock, reason, since, nonce, at)


def leave(delivery: Delivery, reason: str) -> Ended:
    """
    Return the end of a delivery that this version of the program can't handle. The delivery comes again, and the sweep
    tells a person if it waits for too long.
    """
    context_at(delivery.document, delivery.env, None, delivery.sequence).log(logging.ERROR, "%s", reason)
    return Ended(Outcome.UNHANDLED, reason, delivered(delivery))


def give_back(runtime: Runtime, attempt: RunningAttempt) -> None:
    """
    Release the lease of an attempt whose document can't be read, without burning the attempt.

    Raises:
        OncetaskError: As ``RunningAttempt.settle``.
    """
    how = Settlement(kind=SettlementKind.RELEASE, nonce=runtime.clock.nonce(), message="it could not be read")
    put = attempt.settle(how)
    if put.dispatch:
        dispatch(runtime, attempt.snapshot)
