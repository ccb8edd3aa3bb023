"""
What each commit on a once-task's document writes along with its record, whoever makes it: a handler's end, a takeover by the
sweeper, a person. So no caller can forget to give a resource key back, or to let an ended task expire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gcp_oncetask.documents import key_path, resource_of, state_of, task_name
from gcp_oncetask.lease.keys import Effect, effect
from gcp_oncetask.record import Lock, Status
from gcp_oncetask.store.codec import Value, encode, encode_lock
from gcp_oncetask.store.retiring import DONE_AT, retirement
from gcp_oncetask.store.snapshot import Snapshot, WriteType

_NO_WRITES: Final[tuple[Any, ...]] = ()


@dataclass(frozen=True, slots=True)
class Freed:
    """
    A resource key that was given back while somebody waits for it.

    Attributes:
        key: The key.
        version: Update time of its document; None if the commit did not tell.
    """

    key: str
    version: Any = None


@dataclass(frozen=True, slots=True)
class Consequences:
    """
    What is written along.

    Attributes:
        fields: Fields of the document itself, by stored name; None deletes.
        writes: Plain writes of other documents, in the same commit: at most one.
        frees: The resource key that is given back by it.
    """

    fields: Mapping[str, Value | None] = field(default_factory=dict)
    writes: tuple[Any, ...] = _NO_WRITES
    frees: str | None = None

    def freed(self, result: Any | None) -> Freed | None:
        """
        The key that was given back, if somebody waits for it by the *result* of its write; None: the result is not known.
        """
        if self.frees is None:
            return None
        if result is None:
            return Freed(self.frees)
        return Freed(self.frees, result.update_time) if result.transform_results[0].integer_value > 0 else None


NOTHING: Final = Consequences()


def consequences(snapshot: Snapshot, after: Lock, name: Callable[[str], str], now: datetime) -> Consequences:
    """
    What a commit that takes the document of *snapshot* to the record *after* writes along.

    Args:
        snapshot: The document before.
        after: Its record afterwards.
        name: Makes the full name of a document's path.
        now: Estimate of the server's clock.
    """
    task = task_name(snapshot.path)
    if task is None:
        return NOTHING
    before = snapshot.lock
    fields: dict[str, Value | None] = {}
    state = state_of(task.kind, after)
    if before is None or state_of(task.kind, before) != state:
        fields["state"] = encode(state)
    if after.key is not None:
        place = resource_of(task.kind, after, after.key)
        if before is None or resource_of(task.kind, before, after.key) != place:
            fields["resource"] = encode(place)
    if before is not None and before.finished != after.finished:
        fields[DONE_AT] = encode(now) if after.finished else None
    fields |= retirement(snapshot, after, now)
    done = effect(before, after)
    if done in (Effect.NONE, Effect.TAKE) or after.key is None:
        return Consequences(fields)
    path = key_path(after.env, after.key)
    if done is Effect.MOVE:
        return Consequences(fields, (_moved(name(path), snapshot.path, after),))
    return Consequences(fields, (_freed(name(path), after),), after.key)


def _moved(name: str, path: str, after: Lock) -> Any:
    # The task's own precondition stands for the key's: while the task is leased, nobody else takes its key.
    write = WriteType()
    inner = _begun(write, name, after, Status.LEASED)
    inner["token"].integer_value = after.token
    inner["holder"].string_value = path
    write.update_mask.field_paths.extend(("lock.token", "lock.holder"))
    return write


def _begun(write: Any, name: str, after: Lock, status: Status) -> Any:
    # A whole record even where somebody has deleted the key's document.
    write.update.name = name
    write.update.fields["key"].string_value = after.key
    inner = write.update.fields["lock"].map_value.fields
    inner["env"].string_value = after.env
    inner["sequence"].integer_value = 1
    inner["status"].string_value = status.value
    write.update_mask.field_paths.extend(("key", "lock.env", "lock.sequence", "lock.status"))
    return inner


def _freed(name: str, after: Lock) -> Any:
    write = WriteType()
    _begun(write, name, after, Status.COMPLETED)
    write.update_mask.field_paths.append("lock.holder")
    # Adds nothing: its result tells whether somebody waits, without a read.
    added = write.update_transforms.add(field_path="waiting")
    added.increment.integer_value = 0
    return write


def key_write(name: str, key: str, version: Any | None, after: Lock, *, waiting: bool) -> Any:
    """
    The write of a key's whole record, on condition that it still has *version* (None: that there is none).
    """
    write = WriteType()
    write.update.name = name
    encode_lock(write.update.fields["lock"], after)
    write.update.fields["key"].string_value = key
    write.update.fields["waiting"].integer_value = int(waiting)
    if version is None:
        write.current_document.exists = False
    else:
        write.current_document.update_time.CopyFrom(version)
    return write
