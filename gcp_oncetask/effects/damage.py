"""
Damaged locks. They are set aside until the sweep finds them again, reported once, and written anew when a person asks
for it.

No rule decides on a record that can't be decoded. Only ``due`` (and ``attention``) are written to it, and only if the
document has not changed. So the sweep looks at it again later, and the tasks behind it go on. A ``lock`` that is no map
is never written to. A document of its own under ``onceLocks`` records that a damage was reported. So it is reported
once, even if several processes find it several times.

Shape:
    onceLocks/{..}:{env}:told:{digest}: ``document``, ``field``, ``trouble``, ``env``, ``toldAt``, ``expireAt``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.effects.windows import DAMAGED
from gcp_oncetask.errors import ContentionError, DamagedError, StoreError
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.rules import Wishes
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.document_paths import KEY, LOCKS, PUSH, is_key, parse_task_path, pull_lane
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime import addressing
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Document, decode, encode
from gcp_oncetask.store.flow import Changed
from gcp_oncetask.store.forms import is_due
from gcp_oncetask.store.lock_codec import WHOLE, salvage
from gcp_oncetask.store.snapshot import Changes, Snapshot, snapshot_of, version_of

LATER: Final = timedelta(hours=1)
"""Time after which a damaged document is looked at again."""
_TRIES: Final = 5
_REMEMBERED: Final = timedelta(days=30)
"""Time after which a TTL policy, if there is one, deletes the record that a damage was reported."""


# --- set aside --------------------------------------------------------------------------------------------------------


def attend(runtime: Runtime, error: DamagedError) -> Outcome:
    """
    Read the document of *error* again; if it is damaged still, set it aside and tell a person.

    Returns:
        SET_ASIDE: the sweep will find the document. FOREIGN: it belongs to another environment. DAMAGED: the delivery
        must come again, because the sweep may not find the document, or because it was repaired meanwhile.
    """
    path = error.document
    try:
        document = runtime.store.document(path)
        snapshot_of(path, document, None)
    except DamagedError as now:
        assert document is not None
        if _is_foreign(runtime, now, document):
            return Outcome.FOREIGN
        if set_aside(runtime, now, document):
            return Outcome.SET_ASIDE
    except StoreError as trouble:
        _about(runtime, path).log(logging.ERROR, "it is damaged, and can't be set aside: %s", trouble)
    return Outcome.DAMAGED


def set_aside(runtime: Runtime, error: DamagedError, document: Document) -> bool:
    """
    Move the due time of *document*, so that it is looked at again later and holds up no other task until then, and tell
    a person.

    Returns:
        Whether the due time was written.
    """
    is_map = error.field != WHOLE
    written = is_map and _put_aside(runtime, error, document)
    runtime.events.damaged(_about(runtime, error.document), str(error))
    if written or not is_map:
        _tell(runtime, document, error)
    return written


def pass_over(runtime: Runtime, error: DamagedError, document: Document) -> None:
    """
    Deal with a damaged document as ``set_aside`` does, but write to it only if no sweep would look at it again.
    """
    due = _text(document.fields["lock"].map_value.fields, "due")
    if is_due(due) and due.rsplit("/", 1)[1] > instant(runtime.store.estimate()):
        _tell(runtime, document, error)
    else:
        set_aside(runtime, error, document)


def _put_aside(runtime: Runtime, error: DamagedError, document: Document) -> bool:
    path, stored = error.document, document.fields["lock"].map_value.fields
    mended = error.field == "due"
    try:
        now = runtime.store.estimate()
        when = now + (timedelta(seconds=runtime.config.dispatch_grace) if mended else LATER)
        fields = {"lock.due": encode(f"{_place(runtime, path, stored)}/{instant(when)}")}
        if not mended and not _text(stored, "attention"):
            fields["lock.attention"] = encode(f"{runtime.place(path, 'damaged')}/{instant(now)}")
        return runtime.store.write_raw(path, document.update_time, fields)
    except StoreError as trouble:
        _about(runtime, path).log(logging.ERROR, "it is damaged, and its due time can't be moved: %s", trouble)
        return False


def _place(runtime: Runtime, path: str, stored: Any) -> str:
    due = _text(stored, "due")
    if is_due(due) and due.startswith(f"{runtime.config.env}/"):
        return due.rsplit("/", 1)[0]
    name, lane = parse_task_path(path), PUSH
    if is_key(path):
        lane = KEY
    elif name is not None and "url" not in stored:
        lane = pull_lane(name.kind)
    return runtime.place(path, lane)


def _is_foreign(runtime: Runtime, error: DamagedError, document: Document) -> bool:
    ours = runtime.config.env
    due = _text(document.fields["lock"].map_value.fields, "due")
    return error.env not in (None, ours) and not due.startswith(f"{ours}/")


def _about(runtime: Runtime, path: str) -> LogContext:
    return runtime.about(Snapshot(path, None, None, None))


def _text(stored: Any, name: str) -> str:
    return str(stored[name].string_value) if name in stored else ""


# --- reports ----------------------------------------------------------------------------------------------------------


def _tell(runtime: Runtime, document: Document, error: DamagedError) -> None:
    """
    Alert a person, unless that was done before. If the note about it could not be written, the alert is sent again
    under the same id.
    """
    path, stored = error.document, document.fields["lock"].map_value.fields
    # A record that was made anew, or has run since it was repaired, counts as newly damaged. The damage itself may hide the
    # sequence and the token, but each schedule has a nonce of its own.
    names = ("sequence", "token", "scheduledBy")
    state = [repr(decode(stored[name]))[:60] if name in stored else "" for name in names]
    told = "\n".join((runtime.config.env, path, error.field, error.trouble, *state))
    digest = hashlib.sha256(told.encode(errors="replace")).hexdigest()[:40]
    note = f"{LOCKS}/{digest[:2]}:{runtime.config.env}:told:{digest}"
    try:
        if runtime.store.document(note) is not None:
            return
        snapshot = Snapshot(path, None, None, None)
        if owed_alerts.send_directly(runtime, snapshot, f"{DAMAGED}{error.field}-{digest[:12]}", _said(error)):
            _note(runtime, note, path, error)
    except StoreError as trouble:
        _about(runtime, path).log(logging.ERROR, "whether its damage was told is not known: %s", trouble)


def _said(error: DamagedError) -> str:
    match error.field:
        case "lock":
            then = "It is never written to, and its deliveries are refused until it is repaired."
        case "due":
            then = "The due time is made anew, and it goes on."
        case _:
            then = f"It is looked at again every {LATER.total_seconds() / 60:.0f} minutes."
    return f"{error} {then}"


def _note(runtime: Runtime, note: str, path: str, error: DamagedError) -> None:
    now = runtime.store.estimate()
    fields = {
        "document": path,
        "field": error.field,
        "trouble": error.trouble,
        "env": runtime.config.env,
        "toldAt": now,
        "expireAt": now + _REMEMBERED,
    }
    request = runtime.wire.request()
    write = runtime.wire.write(note, request)
    write.current_document.exists = False
    for name, value in fields.items():
        write.update.fields[name].CopyFrom(encode(value))
    runtime.store.commit_both(request)


# --- made anew --------------------------------------------------------------------------------------------------------


def reset(
    runtime: Runtime,
    path: str,
    wishes: Wishes,
    signed: Callable[[Put, DecisionContext], Put],
    if_version: str | None = None,
) -> Changed[Put | CallRefused]:
    """
    Write the record of the damaged document at *path* anew, as a new sequence, with all values that can be read.

    Args:
        runtime: Shared parts.
        path: The document.
        wishes: The person's settings.
        signed: Puts the act of the person into the new record.
        if_version: Version of the document that the person has seen; None: any.

    Raises:
        DamagedError: The document's ``lock`` is no map.
        UsageError: No task may go to the URL of the record.
        ContentionError: Others kept changing the document.
        OncetaskError: As ``Store.change``.
    """
    nonce = runtime.clock.nonce()
    for _ in range(_TRIES):
        document, read = runtime.store.documents([path])[path]
        try:
            snapshot = snapshot_of(path, document, read)
        except DamagedError as error:
            if error.field == WHOLE:
                raise
            assert document is not None
            start = Snapshot(path, document.update_time, document, None, read)
            if if_version not in (None, version_of(start.version)):
                return Changed(CallRefused(Refusal.MOVED, f"it has changed since version {if_version}"), start)
        else:
            lock = snapshot.lock
            if lock is not None and lock.scheduled_by == nonce:
                # An earlier try was applied, and its answer was lost.
                return Changed(Put(lock, dispatch=True), snapshot)
            return Changed(CallRefused(Refusal.MOVED, "it has been repaired meanwhile; look at it again"), snapshot)
        try:
            changed = _try_reset(runtime, start, wishes, nonce, signed)
        except DamagedError as error:
            # The document has changed and is damaged still, or the fate of a try is unknown, so it is read again.
            _about(runtime, path).log(logging.WARNING, "%s It is tried again.", error)
            continue
        if changed is not None:
            return changed
    raise ContentionError(
        f"{path}: others kept changing it; whether its record was made anew is not known.", document=path
    )


def _try_reset(
    runtime: Runtime, start: Snapshot, wishes: Wishes, nonce: str, signed: Callable[[Put, DecisionContext], Put]
) -> Changed[Put | CallRefused] | None:
    """
    Write the record anew; return None if the document has changed.
    """
    path = start.path
    found, lost = salvage(start.document)
    if (url := found.get("url")) is not None:
        addressing.check_target(runtime, url, found.get("queue") or wishes.queue or "", found.get("headers"))
        runtime.register(None, url)
    if "key" in lost and isinstance(key := _field(start, "resourceKey"), str):
        found["key"] = key
        del lost["key"]
    name = parse_task_path(path)
    pulled = name is not None and "url" not in found and "url" not in lost
    lane = pull_lane(name.kind) if name is not None and pulled else PUSH
    # The fields that an ended task has beside its record.
    cleared = dict.fromkeys(("doneAt", "expireAt") if name is not None else ())

    def decide(seen: Snapshot) -> Put | CallRefused | None:
        if seen is not start:
            return None
        at = runtime.decision_context(seen, lane)
        decision = rules.repair(found, lost, wishes, nonce, at)
        return signed(decision, at) if isinstance(decision, Put) else decision

    changed = runtime.store.change(path, decide, start=start, changes=Changes(cleared))
    if changed.decision is None:
        return None
    if isinstance(changed.decision, Put):
        left = f"; could not be read and is left out: {', '.join(sorted(lost))}" if lost else ""
        runtime.events.repaired(runtime.about(changed.snapshot), f"its record was made anew{left}")
    return Changed(changed.decision, changed.snapshot)


def _field(snapshot: Snapshot, name: str) -> Any:
    fields = snapshot.fields
    return decode(fields[name]) if name in fields else None
