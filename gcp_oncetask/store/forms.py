"""
What the attributes of a stored lock must look like, beyond their types, and how they must fit together.

What a person changed by hand, or another program wrote, is found here before a rule is asked. Pure. Nothing here refuses what
a release has ever written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from gcp_oncetask.checks import values
from gcp_oncetask.checks.paths import valid_path
from gcp_oncetask.rules import retry_policy
from gcp_oncetask.rules.documents import KEY, PUSH, is_key
from gcp_oncetask.rules.record import Lock, Status

LONGEST: Final = 10 * values.LONGEST
"""Seconds of the longest length of time in a record: more than any release has taken."""
_LATEST: Final = datetime(8000, 1, 1, tzinfo=UTC)
"""Times of a lease are before it: when it ends there must still be a year of four digits."""
_AHEAD: Final = 86_400
"""Seconds by which the server's time in a record may be later than the document's: none, but for a clock that was set back."""
_LONGEST_NAME: Final = 6 * 1024
"""Characters of the longest text that the logs are asked for: a resource key's holder is a path."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
_DUE: Final = re.compile(rf"[^/]+/(?:{PUSH}|{KEY}|pull\.[^/]+)/[0-9]{{3,}}/{_INSTANT}")
_PARKED: Final = re.compile(rf"[^/]+/[^/]+/{_INSTANT}/{_INSTANT}")
_QUEUE: Final = re.compile(r"projects/[^/]+/locations/[^/]+/queues/[^/]+")
_ON_UNKNOWN: Final = frozenset({"takeover", "quarantine"})


def is_due(text: str) -> bool:
    """
    Whether *text* has the form of ``Lock.due``.
    """
    return _DUE.fullmatch(text) is not None


def _due(text: str) -> None:
    if _DUE.fullmatch(text) is None:
        raise ValueError(f"it is {text[:60]!r}, and no environment/lane/shard/instant")


def _parked(text: str) -> None:
    if _PARKED.fullmatch(text) is None:
        raise ValueError(f"it is {text[:60]!r}, and no environment/key/instant/instant")


def _on_unknown(text: str) -> None:
    if text not in _ON_UNKNOWN:
        raise ValueError(f"it is {text[:60]!r}, and neither 'takeover' nor 'quarantine'")


def _name(text: str) -> None:
    if not text or len(text) > _LONGEST_NAME:
        raise ValueError(f"it has {len(text):,} characters")


@lru_cache
def _queue(text: str) -> None:
    if _QUEUE.fullmatch(text) is None:
        raise ValueError(f"it is {text[:60]!r}, and no full name of a queue")


@lru_cache
def _url(text: str) -> None:
    # What stands in it may be the user's: the error does not show it.
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("it is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("it is no absolute URL")


TEXTS: Final[dict[str, Callable[[str], None]]] = {
    "due": _due,
    "parked": _parked,
    "on_unknown": _on_unknown,
    "holder": _name,
    "trace": _name,
    "queue": _queue,
    "url": _url,
}
"""Attribute of ``Lock`` -> raises ValueError if its text has another form."""


def check_policy(data: Any) -> None:
    """
    Refuse a retry policy that can't be followed.

    Raises:
        ValueError, TypeError, KeyError: It says why.
    """
    if not isinstance(data, dict):
        raise TypeError(f"it is no policy but {type(data).__name__}")
    retry_policy.check_data(data)


def misfit(lock: Lock, path: str, document: Any) -> tuple[str, str] | None:
    """
    The attribute of *lock* that contradicts the others, and how; None: they fit together.

    Args:
        lock: The record, each attribute of its own form.
        path: Where it is; "": not known.
        document: What it was read from, with the server's time of its last write if that is known.
    """
    status = lock.status
    if status is Status.LEASED or status is Status.QUARANTINED:
        found = _misfit_lease(lock, path, document)
        if found is not None:
            return found
    if lock.base >= lock.sequence:
        return "base", f"it is {lock.base}, and the sequence {lock.sequence}"
    if lock.scheduled_token > lock.token:
        return "token", f"it is {lock.token}, and was {lock.scheduled_token} before"
    if lock.granted > lock.wanted:
        return "granted", f"it is {lock.granted}, and the newest payload {lock.wanted}"
    if lock.due is not None and not lock.due.startswith(lock.env + "/"):
        return "env", f"it is {lock.env[:60]!r}, and due is of another one"
    if (lock.url is None) is not (lock.queue is None):
        return ("url" if lock.url is None else "queue"), "it is missing"
    return None


def _misfit_lease(lock: Lock, path: str, document: Any) -> tuple[str, str] | None:
    granted, leased = lock.granted_at, lock.leased_at
    if lock.holder is None:
        # What nobody could read for days is put away; nobody has it.
        put_away = lock.status is Status.QUARANTINED
        return None if put_away else ("holder", f"it is missing, and the status {lock.status}")
    if granted is None or leased is None:
        if is_key(path):
            # A resource key's record has no time of its own, and its holder is a document.
            return None if valid_path(lock.holder) else ("holder", "it is no path of a document")
        return ("granted_at" if granted is None else "leased_at"), f"it is missing, and the status {lock.status}"
    latest = _LATEST
    if document.HasField("update_time"):
        latest = _EPOCH + timedelta(0, document.update_time.seconds + _AHEAD)
    for name, at in (("granted_at", granted), ("leased_at", leased)):
        if at > latest:
            return name, f"it is {at.isoformat()}, which is to come"
    return None
