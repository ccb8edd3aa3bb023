"""
Make a damaged record anew, for a person's reset, from the attributes that can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.rules import writes
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put, Target
from gcp_oncetask.rules.record import TERMINAL, Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant

_BY_HAND: Final = "repair it by hand: nothing else knows it"


class Wishes(NamedTuple):
    """
    A person's settings for the new record.

    Attributes:
        keep_errors: Whether to keep the failed attempts that can be read.
        new_key: Whether the idempotency key may be a new one, if the old one can't be read.
        step: Its step, if that can't be read.
        queue: Full name of its queue, if that can't be read.
        fresh: Whether it gets a new idempotency key, and may lose runs that were begun once and whose results are not known.
    """

    keep_errors: bool = False
    new_key: bool = False
    step: int | None = None
    queue: str | None = None
    fresh: bool = False


def repair(
    found: Mapping[str, Any], lost: Collection[str], wishes: Wishes, nonce: str, at: DecisionContext
) -> Put | CallRefused:
    """
    Schedule the next sequence of a record that can't be decoded.

    The new record keeps the attributes that can be read. If the sequence or the token can't be read, or if the token is
    below that at which the sequence was scheduled, the new one is beyond all that the record ever had.

    Args:
        found: The attributes that can be read, with their values.
        lost: The attributes that can't be read.
        wishes: The person's settings.
        nonce: Recognises this reset.
        at: Moment of the read.

    Returns:
        Put with a dispatch; or CallRefused: FOREIGN, ERASED, UNDECIDED (a run was begun once), RUNNING (its last lease may be
        held), or DAMAGED: a necessary attribute can't be read, and *wishes* do not have it.
    """
    refused = _refusal(found, lost, wishes, at)
    if refused is not None:
        return refused
    beyond = writes.epoch_milliseconds(at.now)
    token = found.get("token", beyond if "token" in lost else 0)
    if token < found.get("scheduled_token", 0):
        # One of both is wrong, so neither tells how far the tokens had come.
        token = beyond
    sequence, step = found.get("sequence", beyond), _step(found, lost) or wishes.step
    assert step is not None
    wanted = max(found.get("wanted", 0), found.get("granted", 0))
    before = Lock.of(
        {
            **found,
            "env": at.env,
            "sequence": sequence,
            "status": Status.SCHEDULED,
            "token": token,
            "wanted": wanted,
            "granted": min(found.get("granted", wanted), wanted),
            "attention": None,
        }
    )
    queue = None if before.url is None else before.queue or wishes.queue
    wait = None if found.get("status") in TERMINAL else before.wait_until
    target = Target(before.url, queue, before.params, before.headers, wait, before.traceparent)
    made = writes.scheduled(before, target, nonce, at, base=sequence + 1 - step)
    keyed = found.get("keyed")
    if not keyed:
        keyed = writes.first_number(at, nonce)
    elif wishes.fresh or found.get("status") is Status.COMPLETED:
        keyed = made.keyed
    errors = before.errors if wishes.keep_errors else ()
    return Put(made.but(keyed=keyed, errors=errors, scheduled_token=0), dispatch=True)


def _refusal(
    found: Mapping[str, Any], lost: Collection[str], wishes: Wishes, at: DecisionContext
) -> CallRefused | None:
    if found.get("env", at.env) != at.env:
        return CallRefused(Refusal.FOREIGN, f"it belongs to environment {found['env']!r}, not {at.env!r}")
    if found.get("erased"):
        return CallRefused(Refusal.ERASED, "its payload was erased; only its outcome is kept")
    if found.get("open") and not wishes.fresh:
        names = ", ".join(repr(intent.name) for intent in found["open"])
        return CallRefused(
            Refusal.UNDECIDED,
            f"it has begun {names} once, the result is not known, and its journal can't be kept. Ask the system that it calls. "
            "If that did not happen, reset it with a new key and an empty journal by fresh=True (--fresh)",
        )
    until = _held_until(found, lost)
    if until is not None and at.read is not None and at.read < until:
        return CallRefused(Refusal.RUNNING, f"its last lease may be held until {instant(until)}; try again then", until)
    if "url" in lost or ("url" not in found and "queue" in found):
        return CallRefused(Refusal.DAMAGED, f"its url can't be read; {_BY_HAND}")
    if "key" in lost:
        return CallRefused(Refusal.DAMAGED, f"the resource key that it needs can't be read; {_BY_HAND}")
    if _step(found, lost) is None and wishes.step is None:
        return CallRefused(
            Refusal.DAMAGED,
            "its step can't be read; say which one is to run by step= (--step), 1 where there is one alone",
        )
    if not wishes.new_key and (not found.get("keyed") or ("wanted" in lost and "granted" not in found)):
        return CallRefused(
            Refusal.DAMAGED,
            "its idempotency key can't be read: attempt.key will be a new one, by which no service recognises what an earlier "
            "run did; say that this is right by new_key=True (--new-key)",
        )
    return None


def _step(found: Mapping[str, Any], lost: Collection[str]) -> int | None:
    """
    Return the step of its chain, 1-based; None if it can't be read.
    """
    sequence, base = found.get("sequence"), found.get("base", None if "base" in lost else 0)
    return sequence - base if sequence is not None and base is not None and base < sequence else None


def _held_until(found: Mapping[str, Any], lost: Collection[str]) -> datetime | None:
    """
    Return the instant by which the last lease is over, if it may be held; None if it is over, or if nothing is known of it.
    An end that hides is not sooner than the other end that can be read: a lease ends by its length or by its run limit.
    """
    if found.get("status", Status.LEASED) is not Status.LEASED:
        return None
    lease = Lock.of({name: found[name] for name in ("lease_seconds", "run_limit_seconds") if name in found})
    ends = []
    if "leased_at" in found and "lease_seconds" not in lost:
        ends.append(found["leased_at"] + timedelta(0, lease.lease_seconds))
    if "granted_at" in found and "run_limit_seconds" not in lost:
        ends.append(found["granted_at"] + timedelta(0, lease.run_limit_seconds))
    return min(ends, default=None)
