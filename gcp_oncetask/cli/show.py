"""
``show``: print a document with a lock, on one screen for a person or as JSON for a program.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import math
import shutil
from datetime import datetime
from enum import Enum
from typing import Any

from gcp_oncetask.checks.urls import without_data
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli.screen import Around, screen
from gcp_oncetask.cli.tables import ShownTimes, add_tz
from gcp_oncetask.effects.kinship import kinship_of
from gcp_oncetask.entities.chains import runtime_of, stored_chain
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.execution import takeover
from gcp_oncetask.rules import expires_at, named
from gcp_oncetask.rules.journal import JournalEntry
from gcp_oncetask.rules.ledger import SHOWN, entry_data, state_rows
from gcp_oncetask.rules.record import STORED_NAMES, Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.verbs import CHAINS, Record, Sort
from gcp_oncetask.rules.waits import events
from gcp_oncetask.store import journals
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.lock_codec import salvage
from gcp_oncetask.store.records import record_of
from gcp_oncetask.store.snapshot import Snapshot

_WIDEST, _NARROWEST = 100, 60
"""Columns of the output at most, and at least."""
_PRIVATE = frozenset({"params", "headers", "result", "result_json"})
JSON_HELP = (
    "one JSON object: document, sort, name (of a once-task kind and id), then every attribute of the lock under the name that "
    "gcp_oncetask.Lock has for it, step, and, of the library's own documents, all other fields as stored; times are ISO 8601 in "
    "UTC; params, result and payload are included"
)


def run(locker: Locker, chosen: argparse.Namespace) -> int:
    """
    Print the document. Of a quarantined one, the logs are asked for the present verdict on its holder.

    Returns:
        Exit code 0.

    Raises:
        DamagedError: The lock can't be decoded; its readable attributes are printed.
    """
    try:
        snapshot, lock = stored_chain(runtime_of(locker), chosen.document)
    except DamagedError:
        if not chosen.json:
            print("\n".join(printable(line) for line in _readable(locker, chosen.document)))
        raise
    record = record_of(snapshot)
    if chosen.json:
        # The other fields of an entity are the user's data, so they are not printed.
        own = {} if record.sort is Sort.CHAIN else {name: decode(value) for name, value in snapshot.fields.items()}
        print(json.dumps(as_json(record, lock, own), indent=2, allow_nan=False))
    elif record.sort not in CHAINS or chosen.all:
        print("\n".join(printable(line) for line in described(record, lock, _stored(locker, lock, record.path))))
    else:
        print("\n".join(printable(line) for line in screen(record, lock, _around(locker, snapshot, lock, chosen))))
    return 0


def _around(locker: Locker, snapshot: Snapshot, lock: Lock, chosen: argparse.Namespace) -> Around:
    runtime = runtime_of(locker)
    times = ShownTimes(snapshot.read or runtime.store.estimate(), chosen.tz)
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
    asks = lock.status is Status.QUARANTINED and lock.holder is not None
    verdict = takeover.judge_all(runtime, [snapshot])[0].verdict if asks else None
    told = tuple(kinship_of(runtime, snapshot).rows())
    return Around(times, width, runtime.project(), verdict, told, _stored(locker, lock, snapshot.path))


def _stored(locker: Locker, lock: Lock, path: str) -> tuple[bytes, ...] | None:
    return journals.tail(runtime_of(locker).store, path, lock, SHOWN)


def add_options(one: argparse.ArgumentParser) -> None:
    """
    Add the options of the command to its parser.
    """
    one.add_argument("--json", action="store_true", help=JSON_HELP)
    one.add_argument("--all", action="store_true", help="all attributes of the lock, one a line")
    add_tz(one)


def _readable(locker: Locker, path: str) -> list[str]:
    """
    Return the readable attributes of a damaged lock, in lines for a person; params, headers and result left out.
    """
    document = runtime_of(locker).store.document(path)
    found = {} if document is None else salvage(document)[0]
    if isinstance(found.get("url"), str):
        found["url"] = without_data(found["url"])
    shown = sorted(name for name in found if name not in _PRIVATE)
    return [f"{'document:':<13}{path}", *(f"{STORED_NAMES[name] + ':':<13} {found[name]}" for name in shown)]


def as_json(record: Record, lock: Lock, fields: dict[str, Any]) -> dict[str, Any]:
    """
    Return all that is known of a document, as JSON data.

    Shape:
        {document, sort, name, *attributes of Lock in their order*, step, fields}; ``name`` is {kind, id}, or a text, or null;
        ``fields`` are sorted by name.
    """
    name: Any = record.name if record.task is None else {"kind": record.task.kind, "id": record.task.id}
    said = {"document": record.path, "sort": record.sort, "name": name}
    said |= {each.name: getattr(lock, each.name) for each in dataclasses.fields(lock)}
    said["journal"] = [entry_data(JournalEntry.of(stored)) for stored in lock.journal]
    said["mailbox"] = [event._asdict() for event in events(lock)]
    said |= {"step": lock.step, "fields": dict(sorted(fields.items()))}
    made: dict[str, Any] = _plain(said)
    return made


def _plain(value: Any) -> Any:
    """
    Return *value* as JSON data; values that JSON can't express become texts.
    """
    match value:
        case None | bool() | int():
            return value
        case Enum():
            return _plain(value.value)
        case str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            return instant(value)
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        case _:
            return str(value)


def described(record: Record, lock: Lock, stored: tuple[bytes, ...] | None = ()) -> list[str]:
    """
    Return a lock in lines for a person; params, result and payload left out. *stored* are the last entries of its journal.
    """
    rows: list[tuple[str, Any]] = [
        ("document", record.path),
        *_named(record),
        ("environment", lock.env),
        ("status", lock.status.value),
        ("sequence", f"{lock.sequence} (step {lock.step} of its chain)"),
        ("attempts", f"{lock.attempts} of {lock.max_attempts}"),
        ("token", lock.token),
        ("granted at", _time(lock.granted_at)),
        ("leased at", _time(lock.leased_at)),
        ("lease ends", _lease_end(lock)),
        ("waits until", _time(lock.wait_until)),
        ("due", lock.due),
        ("target", None if lock.url is None else without_data(lock.url)),
        ("queue", lock.queue),
        ("dispatches", lock.dispatches),
        ("holder", _holder(lock)),
        ("trace", lock.trace),
        ("cancelled", _time(lock.cancel_requested_at)),
        ("needs key", lock.key),
        ("parked", None if lock.parked is None else "until it is given its key"),
        ("paused", lock.paused or None),
    ]
    rows += state_rows(lock, stored)
    lines = [f"{name + ':':<13}{value}" for name, value in rows if value is not None]
    lines.extend(f"{'failed:':<13}{instant(e.at)} attempt {e.attempt}: {e.message}" for e in lock.errors)
    lines.extend(
        f"{'owed:':<13}{o.event} alert of {instant(o.at)}, tried {o.tries} times: {o.reason}" for o in lock.owed
    )
    return lines


def _named(record: Record) -> list[tuple[str, Any]]:
    if record.task is not None:
        recurs = " (recurring)" if record.sort is Sort.RECURRING else ""
        return [("once-task", f"{record.task.kind} {record.task.id!r}{recurs}")]
    match record.sort:
        case Sort.ONCE_KEY:
            return [("@once", record.name), ("key", None if record.key is None else repr(record.key))]
        case Sort.NAMED_LOCK | Sort.RESOURCE_KEY:
            return [(str(record.sort), None if record.name is None else repr(record.name))]
    return []


def _time(at: datetime | None) -> str | None:
    return None if at is None else instant(at)


def _lease_end(lock: Lock) -> str | None:
    if lock.status is not Status.LEASED or lock.leased_at is None or lock.granted_at is None:
        return None
    return "with its release" if lock.lease_seconds >= named.UNLIMITED else instant(expires_at(lock))


def _holder(lock: Lock) -> str | None:
    if lock.holder is None or lock.instance is None:
        return lock.holder
    return f"{lock.holder} on {lock.instance}"
