"""
The stored form of each part of a record: the map that ``codec`` writes. ``readers`` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gcp_oncetask.rules.record import (
    Acknowledgement,
    Act,
    Chunk,
    Failure,
    Fingerprint,
    HandlerWait,
    Intent,
    Note,
    PendingAlert,
    Since,
)


def _failure(failure: Failure) -> dict[str, Any]:
    return {"at": failure.at, "attempt": failure.attempt, "sequence": failure.sequence, "message": failure.message}


def _owed(owed: PendingAlert) -> dict[str, Any]:
    return {
        "id": owed.id,
        "event": owed.event.value,
        "at": owed.at,
        "until": owed.until,
        "sequence": owed.sequence,
        "attempt": owed.attempt,
        "reason": owed.reason,
        "tries": owed.tries,
        "evidence": list(owed.evidence),
        # It is absent if there is none; releases that do not know it ignore it.
        **({} if owed.digest is None else {"digest": owed.digest}),
    }


def _note(note: Note) -> dict[str, Any]:
    return {"sequence": note.sequence, "token": note.token, "text": note.text}


def _since(since: Since) -> dict[str, Any]:
    return {"sequence": since.sequence, "token": since.token, "at": since.at}


def _fingerprint(fingerprint: Fingerprint) -> dict[str, Any]:
    return {"dataHash": fingerprint.data_hash, "model": fingerprint.model}


def _act(act: Act) -> dict[str, Any]:
    told = {"claimed": act.claimed, "note": act.note}
    return {
        "at": act.at,
        "verb": act.verb,
        "by": act.by,
        "proven": act.proven,
        "status": act.status,
        "sequence": act.sequence,
        **{name: text for name, text in told.items() if text is not None},
    }


def _acknowledgement(known: Acknowledgement) -> dict[str, Any]:
    return {"sequence": known.sequence, "token": known.token, "by": known.by, "until": known.until}


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {"id": chunk.id, "first": chunk.first, "last": chunk.last, "size": chunk.size}


def _intent(intent: Intent) -> dict[str, Any]:
    return {"name": intent.name, "token": intent.token, "begun": intent.begun, "over": intent.over}


def _wait(wait: HandlerWait) -> dict[str, Any]:
    may_be = {"until": wait.until, "nonce": wait.nonce, "ended": wait.ended, "event": wait.event}
    return {
        "name": wait.name,
        "sort": wait.sort.value,
        "ordinal": wait.ordinal,
        "since": wait.since,
        **({"events": list(wait.events)} if wait.events else {}),
        **({"tolerate": wait.tolerate} if wait.tolerate else {}),
        **{name: value for name, value in may_be.items() if value is not None},
    }


PART_FORMS: Final[Mapping[type, Callable[[Any], dict[str, Any]]]] = MappingProxyType(
    {
        Failure: _failure,
        PendingAlert: _owed,
        Note: _note,
        Since: _since,
        Fingerprint: _fingerprint,
        Act: _act,
        Acknowledgement: _acknowledgement,
        Chunk: _chunk,
        Intent: _intent,
        HandlerWait: _wait,
    }
)
"""Class of a part -> the function that returns its map."""
