"""
End a record whose writes are refused for good, by a commit that makes the record smaller.
"""

from __future__ import annotations

from typing import Any, Final

from gcp_oncetask.rules import writes
from gcp_oncetask.rules.decisions import DecisionContext, NeedTime, Put, Refused
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import DEFAULTS, Event, Lock, Status

_CUTS: Final = (
    (),
    ("result", "result_json", "result_lost", "errors"),
    ("headers",),
    ("params",),
    ("owed", "traceparent", "trace", "instance", "ready_at", "fingerprint"),
)
CUTS: Final = len(_CUTS)
"""Number of cuts. The last cut adds nothing, so that the record gets smaller: a person is told before it."""


def cut_off(
    lock: Lock, reason: str, cut: int, nonce: str, holder: str | None, at: DecisionContext
) -> Put | Refused | NeedTime | None:
    """
    End a chain whose claim, settling or takeover is refused for good.

    Args:
        lock: The record at the time of the refusal.
        reason: The refusal.
        cut: Number of the cut: 0 drops nothing, ``CUTS`` - 1 drops all attributes that the record can do without.
        nonce: Recognises this commit.
        holder: Nonce of the caller's own attempt, which is over; None: a lease must have expired.
        at: Moment of the read that showed *lock*.

    Returns:
        Put with FAILED or CANCELLED; or with QUARANTINED, if the chain has begun runs once whose results are not known. If the
        chain has ended or is quarantined, Put without outcome: it drops the alerts, which were sent before. Refused BUSY:
        another attempt holds the lease. None: nothing more can be dropped.
    """
    if lock.finished or lock.status is Status.QUARANTINED:
        return Put(writes.with_due(lock, at, owed=(), settled_by=nonce)) if cut == 0 and lock.owed else None
    if lock.status is Status.LEASED and lock.holder != holder:
        if at.read is None:
            return NeedTime()
        if at.read < writes.expires_at(lock):
            return Refused(Outcome.BUSY, f"attempt {lock.attempts} holds the lease", writes.expires_at(lock))
    dropped = [name for names in _CUTS[: cut + 1] for name in names]
    less: dict[str, Any] = {name: DEFAULTS[name] for name in dropped}
    ended = lock.but(**less)
    if cut < CUTS - 1:
        missing = [name for name in ("headers", "params") if name in dropped and getattr(lock, name) is not None]
        said = f"ended without its {' and '.join(missing)}: {reason}" if missing else reason
        event = Event.QUARANTINE if ended.open else Event.FAILURE
        ended = writes.owe(writes.noted(ended, said, at), event, said, (), at).but(settled_by=nonce)
    if ended.open:
        # A person answers about the runs that were begun once, before the record may end.
        return Put(writes.set_aside(ended, at), Outcome.QUARANTINED)
    cancelled = lock.cancel_requested_at is not None
    status = Status.CANCELLED if cancelled else Status.FAILED
    outcome = Outcome.CANCELLED if cancelled else Outcome.FAILED
    return Put(writes.with_due(ended, at, status=status, wait_until=None, parked=None), outcome)
