"""
Writes that Firestore refuses for good. A commit ends the record and makes it smaller. If this is refused too, or if
Firestore refuses the caller, a person is told directly, once a day.
"""

from __future__ import annotations

from typing import NamedTuple

from gcp_oncetask import rules
from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.errors import StoreError
from gcp_oncetask.rules.decisions import NeedTime, Put, Refused
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.flow import Changed
from gcp_oncetask.store.snapshot import Snapshot, version_of

_Changed = Changed[Put | Refused | NeedTime]
_MOVED = Refused(Outcome.BUSY, "it has moved meanwhile")
_NO_MORE = Refused(Outcome.REFUSED, "nothing more can be dropped")


class Attended(NamedTuple):
    """
    The end of a record whose write was refused for good.

    Attributes:
        outcome: FAILED or CANCELLED: the record has ended. REFUSED: nothing can be written, and a person was told.
            BUSY: the record has changed, or its lease is held.
        reason: The reason as a sentence.
    """

    outcome: Outcome
    reason: str


def attend(runtime: Runtime, error: StoreError, *, holder: str | None = None) -> Attended:
    """
    Deal with the document whose write was refused for good with *error*.

    Args:
        runtime: Shared parts.
        error: The refusal; its ``seen`` is the document.
        holder: Nonce of the caller's own attempt, which has ended; None: the record is ended only if its lease has
            expired.

    Returns:
        The end of the record. If it has ended, the caller must give up its resource key.

    Raises:
        OncetaskError: As ``Store.change``, except for refusals for good.
    """
    seen: Snapshot | None = error.seen
    if seen is None or seen.lock is None or not error.of_contents:
        tell(runtime, error)
        return Attended(Outcome.REFUSED, str(error))
    # All cuts are tried once a day only, because they take several commits and a sweep may come each minute.
    tried = f"{version_of(seen.version)} {owed_alerts.day_of(runtime)}"
    if runtime.refused.get(seen.path) == tried:
        return Attended(Outcome.REFUSED, str(error))
    ended = _end(runtime, seen, seen.lock, error, holder)
    if ended.outcome is not Outcome.REFUSED:
        runtime.refused.pop(seen.path, None)
    elif _daily(runtime, seen, error):
        runtime.refused[seen.path] = tried
    return ended


def tell(runtime: Runtime, error: StoreError) -> None:
    """
    Tell a person that Firestore refuses this process, once a day for all documents together.
    """
    name = f"firestore/{error.facts['code'].name.lower()}" if "code" in error.facts else "firestore/refused"
    owed_alerts.send_daily(runtime, Snapshot(name, None, None, None), "refused", str(error))


def _end(runtime: Runtime, seen: Snapshot, lock: Lock, error: StoreError, holder: str | None) -> Attended:
    """
    End the record, and drop only as much of it as Firestore demands.
    """
    ended = lock.status not in (Status.SCHEDULED, Status.LEASED)
    for cut in range(rules.CUTS):
        last = cut == rules.CUTS - 1
        # Owed alerts are sent before they are dropped. The last cut owes no alert of its own, so a person is told
        # before it.
        if (last or ended) and not _told(runtime, seen, lock, error, also=last):
            break
        changed = _cut(runtime, seen, str(error), cut, holder)
        if changed is None:
            continue
        decision = changed.decision
        if decision is _NO_MORE:
            break
        assert not isinstance(decision, NeedTime)
        if isinstance(decision, Refused):
            return Attended(decision.outcome, decision.reason)
        outcome = decision.outcome or Outcome.RECOVERED
        about = runtime.about(seen)
        runtime.events.refused_for_good(about, f"{error} It was ended: {outcome}.", outcome)
        owed_alerts.send_newly_owed(runtime, lock, changed.snapshot, runtime.clock.mark())
        return Attended(outcome, str(error))
    return Attended(Outcome.REFUSED, f"{error} So is what would make the document smaller.")


def _told(runtime: Runtime, seen: Snapshot, lock: Lock, error: StoreError, *, also: bool) -> bool:
    return all(owed_alerts.send_once(runtime, seen, owed) for owed in lock.owed) and (
        not also or _daily(runtime, seen, error)
    )


def _cut(runtime: Runtime, seen: Snapshot, reason: str, cut: int, holder: str | None) -> _Changed | None:
    nonce = runtime.clock.nonce()

    def decide(now: Snapshot) -> Put | Refused | NeedTime:
        if now.lock is None or now.version != seen.version:
            return _MOVED
        return rules.cut_off(now.lock, reason, cut, nonce, holder, runtime.decision_context(now)) or _NO_MORE

    try:
        return runtime.store.change(seen.path, decide, start=seen, own=True)
    except StoreError as again:
        if not again.of_contents:
            raise
        return None


def _daily(runtime: Runtime, seen: Snapshot, error: StoreError) -> bool:
    reason = (
        f"{error} So is what would say that in the record. It is ended if Firestore takes that, without its parameters; if not, "
        "each delivery and sweep tries again: make the document smaller by hand."
    )
    return owed_alerts.send_daily(runtime, seen, "refused", reason)
