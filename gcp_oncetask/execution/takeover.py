"""
Expired leases: ask the logs what became of the holder, then let the rules decide.
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
"""For how long after its timeout a lease is left alone because this process may not ask the logs now."""


@dataclass(frozen=True, slots=True)
class Judged:
    """
    An expired lease with the verdict on its holder.

    Attributes:
        snapshot: The document.
        fence: Its holder.
        verdict: What became of the holder.
        settlement: What the holder was about to commit.
        changes: The fields that this saves.
        asked: Server time by which the logs were asked.
    """

    snapshot: Snapshot
    fence: Fence
    verdict: Verdict
    settlement: Settlement | None
    changes: Changes
    asked: datetime


def judge_all(runtime: Runtime, expired: Sequence[Snapshot]) -> list[Judged]:
    """
    Judge the holders of *expired* leases, asking the logs about all of them together.

    A refusal or failure of the logs means that nothing is known, never that nothing was done.
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
            # Nobody has looked: that is no absence, so it is left to the next one who may ask; but not for ever.
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
            except Exception as error:  # noqa: BLE001 - one holder's lines hold up the judgement of no other
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


def take_over(
    runtime: Runtime, judged: Judged, grant_to: tuple[Policy, Claimant] | None
) -> Changed[Put | Refused | Lost | NeedTime]:
    """
    Commit what the verdict means; of many that try, one wins.

    Args:
        runtime: Shared parts.
        judged: The lease and the verdict.
        grant_to: Grant it anew (a delivery), or None: only release it (the sweeper).

    Raises:
        OncetaskError: As ``Store.change``.
    """
    # It is granted anew only with its resource key: one that a person has freed is somebody else's, and this one claims anew.
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
            at=runtime.moment(seen)._replace(chance=runtime.clock.random()),
            grant_to=None if hold is not None and hold.lost else grant_to,
            asked=judged.asked,
        )

    def changes(seen: Snapshot) -> Changes:
        how = judged.settlement
        return NO_CHANGES if how is None or rules.outdated(seen.lock, how) else judged.changes

    if judged.settlement is not None and judged.settlement.kind is SettlementKind.CONTINUE:
        target = judged.settlement.target
        # What no process has registered or configured was named by who sweeps it.
        template = runtime.registry.template_of(judged.snapshot.path, runtime.collections)
        runtime.register(template, None if target is None else target.url)
    # The verdict's fields ride along only with its settlement.
    try:
        changed = runtime.store.change(judged.snapshot.path, decide, start=judged.snapshot, changes=changes, hold=hold)
    except StoreError as error:
        if not error.final or judged.settlement is None:
            raise
        return take_over(runtime, _with_less(judged, judged.settlement, str(error)), grant_to)
    keys.hand_over(runtime, changed.freed)
    return changed


def _with_less(judged: Judged, settlement: Settlement, refusal: str) -> Judged:
    """
    The same verdict, with what is written where Firestore refuses the logged settlement for good.
    """
    less = settlement.instead(refusal)
    if less == settlement._replace(message=less.message):
        # A failed attempt can't be written either: the lease is judged as one that left nothing.
        verdict = replace(judged.verdict, reason=f"{judged.verdict.reason} Its settlement was refused: {refusal}")
        return replace(judged, verdict=verdict, settlement=None, changes=NO_CHANGES)
    changes = judged.changes if less.kind is settlement.kind else NO_CHANGES
    return replace(judged, settlement=less, changes=changes)


def lock_of(snapshot: Snapshot) -> Lock:
    """
    The lock of a document that surely has one.
    """
    assert snapshot.lock is not None
    return snapshot.lock
