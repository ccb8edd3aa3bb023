"""
Documents of the model. Each version of a document has a number; commits are applied by the embedded Firestore's own code for
one write, which is pure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

from google.cloud.firestore_v1.types import firestore as _api

from gcp_emulator.firestore.writes import Change, Stored
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.lock_codec import decode_lock

ROOT: Final = "projects/model/databases/(default)/documents/"
MISSING: Final = 0
"""Number of every document that does not exist."""
TICK: Final = 30
"""Seconds from one instant to the next."""
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_START_MICROS: Final = int(_START.timestamp()) * 1_000_000
_CommitRequest: Final = _api.CommitRequest.pb()
_CommitResponse: Final = _api.CommitResponse.pb()

_stored: list[Stored | None] = [None]
_numbers: dict[tuple[str, bytes], int] = {}


class Applied(NamedTuple):
    """
    A commit that was applied.

    Attributes:
        documents: Numbers of all documents after it, by path.
        response: The server's response, serialized.
    """

    documents: tuple[tuple[str, int], ...]
    response: bytes


def instant(tick: int) -> datetime:
    """
    Return the server's time at *tick*.
    """
    return _START + timedelta(seconds=tick * TICK)


def stored(number: int) -> Stored | None:
    """
    Return the version with *number*; None: the document does not exist.
    """
    return _stored[number]


def document_of(number: int) -> Any | None:
    """
    Return the message of the version with *number*.
    """
    found = _stored[number]
    return None if found is None else found.document


@cache
def lock_of(number: int) -> Lock | None:
    """
    Return the lock of the version with *number*.
    """
    found = _stored[number]
    return None if found is None else decode_lock(found.document, found.path)


def number_of(version: Stored | None) -> int:
    """
    Return the number of *version*.
    """
    if version is None:
        return MISSING
    key = version.path, version.document.SerializeToString(deterministic=True)
    number = _numbers.get(key)
    if number is None:
        number = _numbers[key] = len(_stored)
        _stored.append(version)
    return number


@cache
def commit(documents: tuple[tuple[str, int], ...], message: bytes, tick: int, stamp: int) -> Applied | None:
    """
    Apply the writes of a ``CommitRequest``; None: a precondition does not hold.

    Args:
        documents: Numbers of the documents, by path.
        message: The request, serialized.
        tick: Time of the commit.
        stamp: Number of the commit within its tick; it makes versions unique.
    """
    request = _CommitRequest.FromString(message)
    now = dict(documents)
    changes: dict[str, Change] = {}
    results = []
    for write in request.writes:
        name = write.update.name or write.delete
        path = name.removeprefix(ROOT)
        change = changes.setdefault(path, Change(name, tuple(path.split("/")), _stored[now.get(path, MISSING)]))
        results.append((path, change.apply(write, _START_MICROS + tick * TICK * 1_000_000)))
    if any(change.failure is not None for change in changes.values()):
        return None
    version = _START_MICROS + tick * TICK * 1_000_000 + stamp
    response = _CommitResponse()
    finished = {path: change.finish(version) for path, change in changes.items()}
    for path, transformed in results:
        result = response.write_results.add()
        after = finished[path]
        if after is not None:
            result.update_time.CopyFrom(after.document.update_time)
        result.transform_results.extend(transformed)
    now |= {path: number_of(after) for path, after in finished.items()}
    return Applied(tuple(sorted(now.items())), response.SerializeToString(deterministic=True))
