"""
The takeover of expired leases: query the logs about the holder, then let the rules decide.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.effects import keys
from gcp_oncetask.errors import RequestLogError, StoreError
from gcp_oncetask.rules.decisions import (
    Claimant,
    Fence,
    Lost,
    NeedTime,
    Policy,
    Put,
    Refused,
    Settlement,
    SettlementKind,
)
from gcp_oncetask.rules.evidence import Finding, Holder, Line, Verdict, judge
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.cloud_logging import Findings
from gcp_oncetask.store.codec import unpack
from gcp_oncetask.store.flow import Changed
from gcp_oncetask.store.side_writes import Hold
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot

UNASKED: Final = timedelta(hours=1)
"""Time after its timeout for which a lease is not taken over because this process may not query the logs now."""


@dataclass(frozen=True, slots=True)
class Judged:
    """
    An expired lease with the verdict on its holder.

    Attributes:
        snapshot: The document.
        fence: The fence of the holder.
        verdict: The verdict from the logs on the holder.
        settlement: The settlement that the holder was about to commit; None: it is not known.
        changes: The fields that the settlement saves.
        asked: Server time at which the logs were queried.
    """

    snapshot: Snapshot
    fence: Fence
    verdict: Verdict
    settlement: Settlement | None
    changes: Changes
    asked: datetime


def judge_all(runtime: Runtime, expired: Sequence[Snapshot]) -> list[Judged]:
    """
    Judge the holders of *expired* leases, with one query of the logs for all of them. Of a lease that has not expired, a
    verdict tells what the logs show so far.

    If the logs refuse or fail, nothing is known about the holders. This never means that they did nothing.
    """
    holders = [_holder(snapshot) for snapshot in expired]
    estimate = runtime.store.estimate()
    age, trouble = timedelta(0), None
    lines: Sequence[Line] = ()
    try:
        lines = runtime.request_log.lines(holders)
        if isinstance(lines, Findings):
            age = timedelta(seconds=lines.age)
    except RequestLogError as error:
        trouble = error
        if error.facts.get("budget"):
            # The logs were not queried, so missing lines prove nothing. The lease is left to the next process that may
            # query them, but not for ever.
            age = UNASKED
    found = []
    for snapshot, holder in zip(expired, holders, strict=True):
        asked = (snapshot.read or estimate) - age
        if trouble is not None:
            verdict = Verdict(Finding.UNKNOWN, f"the logs could not be asked: {trouble}", None, ())
        else:
            grace = timedelta(seconds=runtime.config.log_grace)
            try:
                verdict = judge(holder, lines, now=asked, log_grace=grace)
                if verdict.finding is Finding.UNKNOWN and isinstance(lines, Findings) and lines.trouble is not None:
                    reason = f"{verdict.reason} What the platform says of it could not be read: {lines.trouble}"
                    verdict = replace(verdict, reason=reason)
            except Exception as error:  # noqa: BLE001 - the lines of one holder must not stop the verdicts on others
                runtime.about(snapshot).log(logging.ERROR, "judging its holder failed", exc_info=True)
                verdict = Verdict(Finding.UNKNOWN, f"judging its holder failed: {error!r}", None, ())
        found.append(_judged(snapshot, holder, verdict, asked))
    return found


def _holder(snapshot: Snapshot) -> Holder:
    lock = snapshot.lock
    assert lock is not None
    assert lock.granted_at is not None
    return Holder(
        document=snapshot.path,
        sequence=lock.sequence,
        token=lock.token,
        nonce=lock.holder or "",
        trace=lock.trace,
        granted_at=lock.granted_at,
        renewed_at=lock.leased_at,
        expired_at=rules.expires_at(lock),
    )


def _judged(snapshot: Snapshot, holder: Holder, verdict: Verdict, asked: datetime) -> Judged:
    fence = Fence(holder.sequence, holder.token, holder.nonce)
    if verdict.settlement is None:
        return Judged(snapshot, fence, verdict, None, NO_CHANGES, asked)
    try:
        settlement = Settlement.from_data(verdict.settlement)
        fields: dict[str, Any] = verdict.settlement.get("fields") or {}
        changes = Changes({str(name): unpack(text) for name, text in fields.items()})
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{verdict.reason} Its settlement could not be read ({error!r})."
        verdict = Verdict(Finding.FINISHED, reason, None, verdict.evidence)
        return Judged(snapshot, fence, verdict, None, NO_CHANGES, asked)
    return Judged(snapshot, fence, verdict, settlement, changes, asked)


def commit_takeover(
    runtime: Runtime, judged: Judged, grant_to: tuple[Policy, Claimant] | None
) -> Changed[Put | Refused | Lost | NeedTime]:
    """
    Commit the result of the verdict; of many processes that try, one wins.

    Args:
        runtime: Shared parts.
        judged: The lease and the verdict.
        grant_to: The policy and the claimant of a delivery, to which the lease is granted; None: the sweeper only
            releases it.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    # The lease is granted only together with its resource key. If a person has freed the key, another task may hold it;
    # then the lease is only released, and the task claims again.
    hold = None if grant_to is None else Hold.of(judged.snapshot.path, lock_of(judged.snapshot))
    if hold is not None:
        hold.learn(runtime.store.read_all([hold.path])[hold.path])

    def decide(seen: Snapshot) -> Put | Refused | Lost | NeedTime:
        return rules.take_over(
            seen.lock,
            judged.fence,
            finding=judged.verdict.finding,
            reason=judged.verdict.reason,
            evidence=judged.verdict.evidence,
            settlement=judged.settlement,
            at=runtime.decision_context(seen)._replace(chance=runtime.clock.random()),
            grant_to=None if hold is not None and hold.lost else grant_to,
            asked=judged.asked,
        )

    def changes(seen: Snapshot) -> Changes:
        how = judged.settlement
        return NO_CHANGES if how is None or rules.outdated(seen.lock, how) else judged.changes

    if judged.settlement is not None and judged.settlement.kind is SettlementKind.CONTINUE:
        target = judged.settlement.target
        # A collection that no process has registered or configured was named by the caller of the sweep.
        template = runtime.registry.template_of(judged.snapshot.path, runtime.collections)
        runtime.register(template, None if target is None else target.url)
    # The fields of the verdict are saved only with its settlement.
    try:
        changed = runtime.store.change(judged.snapshot.path, decide, start=judged.snapshot, changes=changes, hold=hold)
    except StoreError as error:
        if not error.of_contents or judged.settlement is None:
            raise
        return commit_takeover(runtime, _with_less(judged, judged.settlement, str(error)), grant_to)
    if changed.freed is not None:
        keys.hand_over(runtime, changed.freed)
    return changed


def _with_less(judged: Judged, settlement: Settlement, refusal: str) -> Judged:
    """
    Return the same verdict with another settlement, because Firestore refuses the logged one for good.
    """
    less = settlement.instead(refusal)
    if less == settlement._replace(message=less.message):
        # A failed attempt can't be written either, so the lease is judged as if its holder had left no settlement.
        verdict = replace(judged.verdict, reason=f"{judged.verdict.reason} Its settlement was refused: {refusal}")
        return replace(judged, verdict=verdict, settlement=None, changes=NO_CHANGES)
    changes = judged.changes if less.kind is settlement.kind else NO_CHANGES
    return replace(judged, settlement=less, changes=changes)


def lock_of(snapshot: Snapshot) -> Lock:
    """
    Return the lock of a document that surely has one.
    """
    assert snapshot.lock is not None
    return snapshot.lock
