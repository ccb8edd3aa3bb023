"""
The creation of once-tasks: the stored fields, and the decision on an id that exists already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.errors import TaskConflictError, UsageError
from gcp_oncetask.observe.observers import Message, destination
from gcp_oncetask.rules.decisions import CallRefused, Put, Target
from gcp_oncetask.rules.document_paths import TaskName, check_resource_key
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.runtime import addressing
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Value, decode, encode
from gcp_oncetask.store.json_data import check_fields
from gcp_oncetask.store.sizes import OCCURRENCE, check_room
from gcp_oncetask.store.snapshot import Changes, Snapshot, Update
from gcp_oncetask.tasks import redeclaring
from gcp_oncetask.tasks.data import Kind, TaskData, difference, hash_of, key_of, kind_of
from gcp_oncetask.tasks.draft import Draft
from gcp_oncetask.tasks.earlier import EarlierTask

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence

MAX_PAYLOAD = 900_000
"""Most bytes of a stored payload; a document of Firestore has at most 1 MiB."""
_SMALL: Final = 100_000
"""Bytes up to which a payload leaves enough room in any document."""

_STATES: Final = {Status.SCHEDULED: "queued", Status.LEASED: "running", Status.QUARANTINED: "running"}
"""The words of ``unique`` for the states of a task that has not ended."""


def draft(
    runtime: Runtime,
    data: TaskData,
    url: str,
    past: EarlierTask | None = None,
    *,
    id_: str | None = None,
    **more: Any,
) -> Draft:
    """
    Return the draft of the task for *data*, whose deliveries go to *url*. If another system has left the task, *past* has its
    id, time, resource key and recurrence. *id_* replaces the id of the payload; *more* are further attributes of the draft.

    Raises:
        UsageError: The payload, its id, time or recurrence is invalid.
        ConfigError: The URL, queue or account is not configured.
    """
    kind = kind_of(data)
    at, recurrence = _times(runtime, data) if past is None else (past.wait_until, past.recurrence)
    payload = data.payload()
    digest = hash_of(payload)
    name = TaskName(runtime.config.env, kind.name, id_ or (_id_of(data, digest) if past is None else past.id))
    key = key_of(data, name.id) if past is None or kind.max_running is not None else past.resource_key
    _check_names(name, key, recurrence)
    made = Draft(
        name=name,
        kind=kind,
        target=_target(runtime, kind, url, at),
        payload=payload,
        stored=stored_payload(kind, payload),
        digest=digest,
        nonce=runtime.clock.nonce(),
        resource_key=key,
        recurrence=recurrence,
        data=data,
        model=fingerprint(type(data)),
        past=past,
        **more,
    )
    if made.stored.ByteSize() > _SMALL:
        # The size is checked here, so that no task of many payloads is created if one of them is too large. An
        # occurrence is as large as its generator.
        update = new_task(runtime, made)
        check_room(update.before, [update.message], keep=0 if recurrence is None else OCCURRENCE)
    return made


def _times(runtime: Runtime, data: TaskData) -> tuple[datetime | None, Recurrence | None]:
    """
    Return the time for which a new task waits, and its recurrence.
    """
    at, recurrence = data.scheduled_at(), data.recurrence()
    if recurrence is not None and at is not None:
        raise UsageError(f"{type(data).__name__}: give scheduled_at() or recurrence(), not both.")
    if at is not None:
        at = values.time(at, f"{type(data).__name__}.scheduled_at()")
    if recurrence is not None:
        at = recurrence.first_due(runtime.store.estimate())
        if at is None:
            raise UsageError(f"{type(data).__name__}: its recurrence has no run (left); nothing would ever happen.")
    return at, recurrence


def _is_hashed(model: type[TaskData]) -> bool:
    return model.task_id is TaskData.task_id and model.payload_hash is TaskData.payload_hash


def _id_of(data: TaskData, digest: str) -> str:
    if _is_hashed(type(data)):
        return digest[:40]
    return values.name(data.task_id(), f"{type(data).__name__}.task_id()")


def _check_names(name: TaskName, key: str | None, recurrence: Recurrence | None) -> None:
    """
    Check that the id and the resource key are not too long, for the task and for its future occurrences.

    Raises:
        UsageError: A name is too long; the message has the limit.
    """
    names = [name]
    if recurrence is not None:
        from gcp_oncetask.tasks.recurrence import occurrence_id

        names.append(TaskName(name.env, name.kind, occurrence_id(name.id, datetime.max.replace(tzinfo=UTC))))
        if key is None and recurrence.overlap == "queue":
            key = overlap_key(name.kind, name.id)
    for each in names:
        _ = each.path
    if key is not None:
        check_resource_key(name.env, name.kind, key)


def overlap_key(kind: str, generator: str) -> str:
    """
    Return the resource key of the occurrences of a generator that has none. It lets one occurrence run at a time.
    """
    return f"recurrence/{kind}/{generator}"


def stored_payload(kind: Kind, payload: dict[str, Any]) -> Value:
    """
    Return Firestore's value of *payload*.

    Raises:
        UsageError: Firestore can't hold the payload, or it is too large.
    """
    owner = f"The payload of this {kind.name!r} task"
    try:
        if any(type(value) in (dict, list) for value in payload.values()):
            check_fields(payload, owner, "data")
        value = encode(payload)
    except UsageError:
        check_fields(payload, owner, "data")
        raise
    size = value.ByteSize()
    if size > MAX_PAYLOAD:
        raise UsageError(
            f"The payload of this {kind.name!r} task has {size} bytes; at most {MAX_PAYLOAD} are stored. "
            "Keep large contents elsewhere (Cloud Storage) and their name in the payload."
        )
    return value


def _target(runtime: Runtime, kind: Kind, url: str, at: Any) -> Target:
    wait = addressing.wait_until(runtime, None, at)
    if kind.pull:
        return Target(url=None, queue=None, wait_until=wait, traceparent=runtime.events.traceparent())
    return addressing.target(runtime, url, queue=kind.queue, params=None, headers=None, delay=None, at=at)


def message(runtime: Runtime, operation: str, tasks: Sequence[TaskData]) -> Message | None:
    """
    Return the description, for observers, of the tasks that a call is about to create; None if there are none.
    """
    kinds = {kind.name: kind for kind in map(kind_of, tasks)}
    if not kinds:
        return None
    places = {
        destination(None if kind.pull else kind.queue or runtime.config.queue, name) for name, kind in kinds.items()
    }
    to = min(places) if len(places) == 1 else ""
    kind = min(kinds) if len(kinds) == 1 else None
    return Message(operation, to, None, kind, None if operation == "create_task" else len(tasks))


# --- deciding ---------------------------------------------------------------------------------------------------------


def new_task(runtime: Runtime, made: Draft) -> Update:
    """
    Return the write that creates *made*, on condition that its document does not exist.
    """
    missing = Snapshot(made.name.path, None, None, None)
    put = decide(runtime, made, missing)
    assert isinstance(put, Put)
    fields = Changes(made.fields(runtime)).with_(runtime.store.consequences(missing, put.lock).fields)
    return Update(runtime.wire.write(missing.path), missing, put.lock, fields)


def decide(runtime: Runtime, made: Draft, seen: Snapshot) -> Put | CallRefused:
    """
    Decide to create the task, or decide on the stored one as the kind says.
    """
    at = runtime.decision_context(seen, None if seen.exists else made.lane)
    if not seen.exists:
        put = rules.schedule(None, None, made.target, made.nonce, at)
        assert isinstance(put, Put)
        new = put._replace(lock=made.lock(put.lock))
        return new if made.past is None else made.past.record(new, made.nonce, at)
    lock = seen.lock
    if lock is None:
        return CallRefused(Refusal.MISSING, "its field 'lock' was removed")
    if lock.scheduled_by == made.nonce:
        return CallRefused(Refusal.EXISTS, "this very call has created it")
    if made.past is not None:
        # A task of another system is older than the stored one.
        return CallRefused(Refusal.EXISTS, "it exists")
    unique = made.kind.unique
    if unique is not None and str(_STATES.get(lock.status)) in unique.split("_or_"):
        return CallRefused(Refusal.UNIQUE, f"it is {_STATES[lock.status]}")
    if not made.kind.replaces:
        return CallRefused(Refusal.EXISTS, "it exists")
    if made.recurrence is not None or "recurrence" in seen.fields:
        return _written(made, redeclaring.decide(made, seen, lock, differences(made, seen), at))
    # If max_running has changed since, the stored key serves as well.
    if lock.key != made.resource_key and made.kind.max_running is None:
        raise TaskConflictError(
            f"{seen.path}: the newer payload needs the resource key {made.resource_key!r}, the stored one {lock.key!r}; "
            "the key of a task that is replaced must stay. Nothing was written.",
            document=seen.path,
        )
    # Without a time the task runs at once, as a new one does. An estimate of the server's time a moment later does not
    # count as a later date.
    return _written(made, rules.replace(lock, made.target, made.nonce, at))


def _written(made: Draft, decision: Put | CallRefused) -> Put | CallRefused:
    """
    Return *decision* with the fingerprint of the model by which its payload is written.
    """
    if isinstance(decision, CallRefused):
        return decision
    return decision._replace(lock=decision.lock.but(fingerprint=made.fingerprint))


def changes(runtime: Runtime, made: Draft, seen: Snapshot) -> Changes:
    """
    Return the fields that are stored with the decision.
    """
    if not seen.exists:
        return Changes(made.fields(runtime))
    schedule = {} if made.recurrence is None else redeclaring.fields(made)
    return Changes({"data": made.stored, "dataHash": encode(made.digest), **schedule})


def differences(made: Draft, stored: Snapshot) -> list[str]:
    """
    Return the differences of the payload and the schedule between the stored task and *made*.
    """
    return _payload_differences(made, stored.fields) + redeclaring.differences(made, stored)


def _payload_differences(made: Draft, fields: Mapping[str, Value]) -> list[str]:
    if "dataHash" in fields and decode(fields["dataHash"]) == made.digest:
        return []
    if "data" not in fields:
        return ["data: (erased) -> another payload"]
    return difference(decode(fields["data"]), made.payload) or ["data: differs in its types"]


def drafts_differ(made: Draft, other: Draft) -> list[str]:
    """
    Return the differences between *made* and the *other* draft of the same id.
    """
    schedule = None if other.recurrence is None else other.recurrence.to_data()
    return difference(other.payload, made.payload) + redeclaring.schedule_differences(schedule, made.recurrence)


def another(found: Sequence[str]) -> str:
    """
    Return "another payload", "another schedule" or both, according to the differences *found*.
    """
    parts = {each.partition(":")[0].partition(".")[0] == "recurrence" for each in found}
    return {(True,): "another schedule", (False, True): "another payload and schedule"}.get(
        tuple(sorted(parts)), "another payload"
    )


def without_values(found: Sequence[str]) -> list[str]:
    """
    Return the differences *found* as names of fields only. No part of a payload may get into a log or an alert, unless
    ``log_contents`` allows it.
    """
    return [each.partition(": ")[0] for each in found]


def conflict(runtime: Runtime, made: Draft, path: str, found: list[str]) -> TaskConflictError:
    """
    Return the error for an id that exists with another payload or schedule; its ``differences`` have the values.
    """
    shown = found if runtime.config.log_contents else without_values(found)
    return TaskConflictError(
        f"A {made.name.kind!r} task {made.name.id!r} exists with {another(found)} ({'; '.join(shown)}). Nothing was written; "
        "give it another task_id(), or let its kind keep or replace (on_conflict=).",
        document=path,
        differences=found,
    )
