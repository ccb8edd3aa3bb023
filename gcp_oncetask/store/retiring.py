"""
The fields by which Firestore's TTL deletes documents of ended tasks: a document has ``expireAt`` only while nothing is owed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from gcp_oncetask.rules import retention, verbs
from gcp_oncetask.rules.document_paths import is_task
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.codec import Value, decode, encode
from gcp_oncetask.store.snapshot import Snapshot

RETENTION: Final = "retentionSeconds"
DONE_AT: Final = "doneAt"
EXPIRE_AT: Final = "expireAt"
_ONCE: Final = ":once:"
"""Part of the path of each key of an ``@once`` function."""


def retirement(snapshot: Snapshot, after: Lock, now: datetime) -> dict[str, Value | None]:
    """
    Return the change of ``expireAt`` in a commit that takes the document of *snapshot* to *after*, if the document has a
    retention: empty if there is no change; None deletes the field.

    Args:
        snapshot: The document before: a once-task, or the key of an ``@once`` function.
        after: Its record afterwards.
        now: Estimate of the server's clock.
    """
    before = snapshot.lock
    if before is None or not (before.finished or after.finished):
        return {}
    stored = snapshot.fields
    if RETENTION not in stored:
        return {}
    if retention.kept(after):
        # An older release may have set ``expireAt`` while something was owed.
        return {EXPIRE_AT: None} if EXPIRE_AT in stored else {}
    if EXPIRE_AT in stored and not retention.kept(before):
        return {}
    ended = decode(stored[DONE_AT]) if before.finished and DONE_AT in stored else None
    since = ended if isinstance(ended, datetime) else now
    seconds = decode(stored[RETENTION])
    if not isinstance(seconds, int | float):
        # It was written by hand and is no length of time, so the document is kept.
        return {}
    return {EXPIRE_AT: encode(retention.expires_at(since, float(seconds), now))}


def retires(snapshot: Snapshot, after: Lock) -> bool:
    """
    Tell whether the document, which is no once-task, is the key of an ``@once`` function that has ended and owed an alert.
    """
    if _ONCE not in snapshot.path or not after.finished or RETENTION not in snapshot.fields:
        return False
    return verbs.record_of(snapshot.path, after, {}).sort is verbs.Sort.ONCE_KEY


def ending(seconds: float | None, now: datetime, *, owes: bool) -> dict[str, Value | None]:
    """
    Return the retention fields of an ``@once`` key whose function ends *now*.

    Args:
        seconds: Time for which the result is kept; None: for ever.
        now: Estimate of the server's clock.
        owes: Whether a person must be alerted first; then the commit that records the alert as sent computes ``expireAt``
            from these fields.
    """
    if seconds is None:
        return {}
    if owes:
        return {RETENTION: encode(float(seconds)), DONE_AT: encode(now)}
    return {EXPIRE_AT: encode(retention.expires_at(now, seconds, now))}


def expiry_of(snapshot: Snapshot) -> datetime | None:
    """
    Return the time from which TTL may delete the document of a once-task; None if it may not. It is also None for a document
    of the user's own, because its field of that name may mean anything.
    """
    fields: Mapping[str, Value] = snapshot.fields
    if not is_task(snapshot.path) or EXPIRE_AT not in fields:
        return None
    at = decode(fields[EXPIRE_AT])
    return at if isinstance(at, datetime) else None
