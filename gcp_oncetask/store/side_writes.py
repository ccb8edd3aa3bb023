"""
What each commit on a once-task's document writes along with its record, whoever makes it: a handler's end, a takeover by the
sweeper, a person. So no caller can forget to give a resource key back, or to let an ended task expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gcp_oncetask.rules.documents import is_task, key_path, resource_of, state_of, task_name
from gcp_oncetask.rules.keys import Effect, effect, holds
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.codec import Value, encode, encode_lock
from gcp_oncetask.store.retiring import DONE_AT, retirement, retires
from gcp_oncetask.store.snapshot import Snapshot, WriteType


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
        effect: What it does to the resource key of the task.
        key: That key, where it is given back or moved on by this; None: its document is left alone.
    """

    fields: Mapping[str, Value | None] = field(default_factory=dict)
    effect: Effect = Effect.NONE
    key: str | None = None

    @property
    def frees(self) -> bool:
        """
        Whether the key is given back.
        """
        return self.key is not None and self.effect is Effect.FREE

    def freed(self, result: Any | None) -> Freed | None:
        """
        The key that was given back, if somebody waits for it by the *result* of its write.

        Args:
            result: None: it is not known, or the key's document was not written.
        """
        if self.key is None or not self.frees:
            return None
        if result is None:
            return Freed(self.key)
        return Freed(self.key, result.update_time) if result.transform_results[0].integer_value > 0 else None

    def hold_in(self, snapshot: Snapshot, known: Hold | None) -> Hold | None:
        """
        That key as the attempt in *snapshot* has it: what is *known* of it, if that is of the same attempt.
        """
        lock = snapshot.lock
        if self.key is None or lock is None:
            return known
        if known is not None and (known.holder, known.token) == (snapshot.path, lock.token):
            return known
        return Hold.of(snapshot.path, lock)

    def moved(self, hold: Hold | None, after: Lock, result: Any | None) -> Hold | None:
        """
        The key in *hold* once it has moved on to the attempt in *after*; None: it has not.

        Args:
            hold: As the attempt before had it.
            after: The record that grants the next attempt.
            result: What the server said of the key's write; None: its answer was lost.
        """
        if self.effect is not Effect.MOVE or hold is None:
            return None
        return Hold(hold.path, hold.holder, after.token, None if result is None else result.update_time)


NOTHING: Final = Consequences()


def needs_time(snapshot: Snapshot, after: Lock) -> bool:
    """
    Whether only the server's time tells what a commit that takes the document of *snapshot* to the record *after* writes along;
    else it writes nothing along.
    """
    return is_task(snapshot.path) or retires(snapshot, after)


def consequences(snapshot: Snapshot, after: Lock, now: datetime) -> Consequences:
    """
    What a commit that takes the document of *snapshot* to the record *after* writes along, if ``needs_time`` says so.

    Args:
        snapshot: The document before.
        after: Its record afterwards.
        now: Estimate of the server's clock.
    """
    if not is_task(snapshot.path):
        return Consequences(retirement(snapshot, after, now))
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
    return Consequences(fields, done, None if done in (Effect.NONE, Effect.TAKE) else after.key)


class Hold:
    """
    The resource key of an attempt, as that attempt knows it.

    Attributes:
        path: Document of the key.
        holder: Document of the task that has it.
        token: Fencing token of the attempt that has it.
        version: Update time of the key's document, known from our own last write or from reading it; None: not known.
        lost: It was read, and is not this attempt's any more.
    """

    __slots__ = ("holder", "lost", "path", "token", "version")

    def __init__(self, path: str, holder: str, token: int, version: Any | None = None) -> None:
        self.path, self.holder, self.token = path, holder, token
        self.version = version
        self.lost = False

    @classmethod
    def of(cls, path: str, lock: Lock, version: Any | None = None) -> Hold | None:
        """
        That of the attempt that *lock*, the record at *path*, names; None: it needs no key, or rides with one that has it.
        """
        return None if lock.key is None or lock.rides else cls(key_path(lock.env, lock.key), path, lock.token, version)

    @property
    def known(self) -> bool:
        """
        Whether a write can be made on what is known.
        """
        return self.lost or self.version is not None

    def learn(self, record: Snapshot) -> None:
        """
        The key's document as it was read.
        """
        self.version = record.version
        self.lost = not holds(record.lock, self.holder, self.token)

    def check(self, name: str) -> Any:
        """
        A write that changes nothing of the key's document *name*, on condition that it is as it is known.
        """
        write = WriteType()
        write.update.name = name
        write.update_mask.SetInParent()
        write.current_document.update_time.CopyFrom(self.version)
        return write

    def write(self, name: str, effect: Effect, after: Lock) -> Any:
        """
        What the step to the record *after* writes to the key's document *name*, on condition that it is as it is known.
        """
        write = WriteType()
        write.update.name = name
        inner = write.update.fields["lock"].map_value.fields
        if effect is Effect.MOVE:
            inner["token"].integer_value = after.token
            inner["scheduledBy"].string_value = after.holder
            write.update_mask.field_paths.extend(("lock.token", "lock.scheduledBy"))
        else:
            inner["status"].string_value = Status.COMPLETED.value
            write.update_mask.field_paths.extend(("lock.status", "lock.holder"))
            # Adds nothing: its result tells whether somebody waits, without a read.
            added = write.update_transforms.add(field_path="waiting")
            added.increment.integer_value = 0
        write.current_document.update_time.CopyFrom(self.version)
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
