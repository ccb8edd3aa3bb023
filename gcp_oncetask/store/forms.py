"""
Check the attributes of a stored lock beyond their types, and whether they fit together.

A change by hand, or by another program, is found here before a rule is applied. Pure. No check refuses a record that some
release has written.
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
from gcp_oncetask.rules.document_paths import KEY, PUSH, is_key
from gcp_oncetask.rules.record import Lock, Status

LONGEST: Final = 10 * values.LONGEST
"""The longest length of time in a record, in seconds; longer than any release has accepted."""
_LATEST: Final = datetime(8000, 1, 1, tzinfo=UTC)
"""Times of a lease are before this instant, so that its end still has a year of four digits."""
_AHEAD: Final = 86_400
"""Seconds by which the server's time in a record may be later than the document's. It is later only if a clock was set back."""
_LONGEST_NAME: Final = 6 * 1024
"""Most characters of a holder or a trace, for which the logs are queried. The holder of a resource key is a path."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
_DUE: Final = re.compile(rf"[^/]+/(?:{PUSH}|{KEY}|pull\.[^/]+)/[0-9]{{3,}}/{_INSTANT}")
_PARKED: Final = re.compile(rf"[^/]+/[^/]+/{_INSTANT}/{_INSTANT}")
_QUEUE: Final = re.compile(r"projects/[^/]+/locations/[^/]+/queues/[^/]+")
_ON_UNKNOWN: Final = frozenset({"takeover", "quarantine"})


def is_due(text: str) -> bool:
    """
    Tell whether *text* has the form of ``Lock.due``.
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
    # The URL may have the user's data, so the error does not show it.
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
"""Attribute of ``Lock`` -> check that raises ValueError if the text has another form."""


def check_policy(data: Any) -> None:
    """
    Refuse a retry policy that can't be followed.

    Raises:
        ValueError, TypeError, KeyError: The policy is invalid; the message has the reason.
    """
    if not isinstance(data, dict):
        raise TypeError(f"it is no policy but {type(data).__name__}")
    retry_policy.check_data(data)


def misfit(lock: Lock, path: str, document: Any) -> tuple[str, str] | None:
    """
    Return the attribute of *lock* that contradicts the others, and the contradiction; None if they fit together.

    Args:
        lock: The record, each attribute of its own form.
        path: Path of the document; "": not known.
        document: The document, with the server's time of its last write if that is known.
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
        # A record that no version of the program could read for days is quarantined without a holder.
        put_away = lock.status is Status.QUARANTINED
        return None if put_away else ("holder", f"it is missing, and the status {lock.status}")
    if granted is None or leased is None:
        if is_key(path):
            # The record of a resource key has no times of its own, and its holder is a document.
            return None if valid_path(lock.holder) else ("holder", "it is no path of a document")
        return ("granted_at" if granted is None else "leased_at"), f"it is missing, and the status {lock.status}"
    latest = _LATEST
    if document.HasField("update_time"):
        latest = _EPOCH + timedelta(0, document.update_time.seconds + _AHEAD)
    for name, at in (("granted_at", granted), ("leased_at", leased)):
        if at > latest:
            return name, f"it is {at.isoformat()}, which is to come"
    return None
