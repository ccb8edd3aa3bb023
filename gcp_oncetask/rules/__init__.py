"""
All the rules about locks, as pure functions of (record, request, server time).

Guarantee
    The promise in ``docs/guarantees.md`` holds if each decision of these functions is committed on condition that the document
    has not changed since the record was read: one holder at a time, fenced writes, finished stays finished, nothing lost,
    attempts bounded, evidence before takeover.

No guarantee
    A holder may still *believe* it holds a lease that was taken over, and may still call the outside world. It can't
    write through the library, and the idempotency key protects its other calls.

States::

    (none) --schedule--> scheduled --claim--> leased --complete--> completed
                            ^  ^                |  |----fail-----> failed ----.
                            |  '-continue,retry-'  |--(cancelled)-> cancelled -+--reset--> scheduled, sequence + 1
                            |    snooze,release    '--no evidence-> quarantined+--resolve-> any of the others
                            '----------- schedule again (loaded and completed) -- a new chain

Trust window
    A lease counts from ``leased_at``, which the server's clock wrote. The holder counts from the instant before it sent
    the claim, as if its own clock ran 500 ppm too slow, and subtracts a margin, so for the holder the lease ends before it
    ends for all others. Expiry is judged only against the server time of the very read that showed the record. A lease is
    valid while ``read < leased_at + lease`` (exactly at its end it has expired), and it is taken over without evidence when
    ``read > granted_at + timeout`` (exactly at that instant it is not taken over yet).

Fence
    The record's ``status`` is leased (or quarantined: its own holder may still settle), and its ``holder`` and ``token``
    are those of the attempt.

Source:
    datastore-locker's Aquire, Schedule, Complete and its handler's table; it differs in that finished tasks are refused
    by status and not by a sentinel, that attempts are counted when granted, and that the alert follows the commit.
    Leases as in Gray and Cheriton (1989), fencing as Chubby's sequencers.

Where
    ``attempts``: schedule, claim, renew, settle. ``expiry``: takeover, and the actions of the sweeper. ``owing``,
    ``floods``: the sender and the time of alerts. ``refused``: records whose writes are refused for good. ``admin``:
    cancel, reset, resolve, dismiss. ``leaving``: payloads that only another version of the program can read. ``repair``: the
    reset of a damaged record. ``refusals``: the reasons for which a call is refused, and their errors. ``writes``: the
    records to which decisions lead, and their due times. ``named``: named locks, and functions that run once. ``choices``:
    the acts that a person can choose, in sentences and commands. ``reminders``: the time of the next reminder.
"""

from __future__ import annotations

from gcp_oncetask.rules.admin import (
    acknowledge,
    act_of,
    acted,
    answer,
    cancel,
    dismiss,
    finish,
    happened,
    mark,
    moved,
    pause,
    redeclare,
    replace,
    reset,
    resolve,
    resume,
)
from gcp_oncetask.rules.attempts import (
    claim,
    complete,
    continue_,
    fail,
    fenced,
    journaled,
    outdated,
    ready,
    recur,
    release,
    renew,
    retry,
    schedule,
    settle,
    snooze,
    suspend,
    was_applied,
    writable,
)
from gcp_oncetask.rules.expiry import (
    erased,
    is_overdue,
    later,
    look,
    newly_scheduled,
    postpone,
    redispatch,
    still_queued,
    take_over,
    undispatched,
)
from gcp_oncetask.rules.leaving import LEFT, left
from gcp_oncetask.rules.mailbox import is_late, send
from gcp_oncetask.rules.owing import Wait, assigned, is_decided, put_off, ripe, sending, sent
from gcp_oncetask.rules.parents import children_ended, orphans_cancelled
from gcp_oncetask.rules.refused import CUTS, cut_off
from gcp_oncetask.rules.repair import Wishes, repair
from gcp_oncetask.rules.writes import (
    EARLY,
    LATE_EVIDENCE,
    MAX_ERRORS,
    MAX_GRACE,
    MAX_MESSAGE,
    MAX_OWED,
    RECHECK,
    expires_at,
    ridden,
    timeout_at,
)

__all__ = [
    "CUTS",
    "EARLY",
    "LATE_EVIDENCE",
    "LEFT",
    "MAX_ERRORS",
    "MAX_GRACE",
    "MAX_MESSAGE",
    "MAX_OWED",
    "RECHECK",
    "Wait",
    "Wishes",
    "acknowledge",
    "act_of",
    "acted",
    "answer",
    "assigned",
    "cancel",
    "children_ended",
    "claim",
    "complete",
    "continue_",
    "cut_off",
    "dismiss",
    "erased",
    "expires_at",
    "fail",
    "fenced",
    "finish",
    "happened",
    "is_decided",
    "is_late",
    "is_overdue",
    "journaled",
    "later",
    "left",
    "look",
    "mark",
    "moved",
    "newly_scheduled",
    "orphans_cancelled",
    "outdated",
    "pause",
    "postpone",
    "put_off",
    "ready",
    "recur",
    "redeclare",
    "redispatch",
    "release",
    "renew",
    "repair",
    "replace",
    "reset",
    "resolve",
    "resume",
    "retry",
    "ridden",
    "ripe",
    "schedule",
    "send",
    "sending",
    "sent",
    "settle",
    "snooze",
    "still_queued",
    "suspend",
    "take_over",
    "timeout_at",
    "undispatched",
    "was_applied",
    "writable",
]
