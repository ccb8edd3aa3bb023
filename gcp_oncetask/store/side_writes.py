"""
The additional writes of each commit on a once-task's record, be it of a handler's end, of a takeover by the sweeper or of a
person's command. They are computed here, so no caller can forget to give a resource key back, or to let an ended task
expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gcp_oncetask.rules.document_paths import OWN, is_task, key_path, parse_task_path, resource_of, state_of
from gcp_oncetask.rules.family import PARENT, parent_text
from gcp_oncetask.rules.keys import Effect, effect, holds
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.codec import Value, decode, encode
from gcp_oncetask.store.lock_codec import encode_lock
from gcp_oncetask.store.retiring import DONE_AT, retirement, retires
from gcp_oncetask.store.snapshot import Snapshot, WriteType


@dataclass(frozen=True, slots=True)
class Freed:
    """
    A resource key that was given back while tasks wait for it, or may wait.

    Attributes:
        key: The key.
        version: Update time of its document; None if the commit's answer was lost.
    """

    key: str
    version: Any = None


@dataclass(frozen=True, slots=True)
class Consequences:
    """
    The additional writes of a commit.

    Attributes:
        fields: Fields of the document itself, by stored name; None deletes.
        effect: The effect on the resource key of the task.
        key: That key, if the commit gives it back or moves it on; None: the key's document is not written.
    """

    fields: Mapping[str, Value | None] = field(default_factory=dict)
    effect: Effect = Effect.NONE
    key: str | None = None

    @property
    def frees(self) -> bool:
        """
        Tell whether the key is given back.
        """
        return self.key is not None and self.effect is Effect.FREE

    def freed(self, result: Any | None) -> Freed | None:
        """
        Return the key that was given back, if tasks wait for it or may wait; None if the commit gave none back, or if no
        task waits.

        Args:
            result: Result of the write of the key's document, which shows whether tasks wait; None: it is not known, or that
                document was not written.
        """
        if self.key is None or not self.frees:
            return None
        if result is None:
            return Freed(self.key)
        return Freed(self.key, result.update_time) if result.transform_results[0].integer_value > 0 else None

    def hold_in(self, snapshot: Snapshot, known: Hold | None) -> Hold | None:
        """
        Return the key as the attempt in *snapshot* has it: the *known* one, if that is of the same attempt.
        """
        lock = snapshot.lock
        if self.key is None or lock is None:
            return known
        if known is not None and (known.holder, known.token) == (snapshot.path, lock.token):
            return known
        return Hold.of(snapshot.path, lock)

    def moved(self, hold: Hold | None, after: Lock, result: Any | None) -> Hold | None:
        """
        Return the key in *hold* after it has moved on to the attempt in *after*; None if it has not.

        Args:
            hold: The key as the attempt before had it.
            after: The record that grants the next attempt.
            result: Result of the write of the key's document; None: the answer was lost.
        """
        if self.effect is not Effect.MOVE or hold is None:
            return None
        return Hold(hold.path, hold.holder, after.token, None if result is None else result.update_time)


NOTHING: Final = Consequences()


def needs_time(snapshot: Snapshot, after: Lock) -> bool:
    """
    Tell whether a commit that takes the document of *snapshot* to the record *after* may have additional writes; to compute
    them, the server's time is needed. Else there are none.
    """
    path = snapshot.path
    return path.startswith(OWN) and (is_task(path) or retires(snapshot, after))


def consequences(snapshot: Snapshot, after: Lock, now: datetime) -> Consequences:
    """
    Return the additional writes of a commit that takes the document of *snapshot* to the record *after*, if ``needs_time``.

    Args:
        snapshot: The document before.
        after: Its record afterwards.
        now: Estimate of the server's clock.
    """
    if not is_task(snapshot.path):
        return Consequences(retirement(snapshot, after, now))
    task = parse_task_path(snapshot.path)
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
    if PARENT in snapshot.fields:
        fields |= _parent(snapshot, after)
    fields |= retirement(snapshot, after, now)
    done = effect(before, after)
    return Consequences(fields, done, None if done in (Effect.NONE, Effect.TAKE) else after.key)


def _parent(snapshot: Snapshot, after: Lock) -> dict[str, Value | None]:
    stored = decode(snapshot.fields[PARENT])
    told = parent_text(str(stored).partition("/")[0], after)
    return {} if told == stored else {PARENT: encode(told)}


class Hold:
    """
    The resource key of an attempt, as that attempt knows it.

    Attributes:
        path: Document of the key.
        holder: Document of the task that has the key.
        token: Fencing token of the attempt that has the key.
        version: Update time of the key's document, known from the process's own last write or from a read; None: not known.
        lost: Whether a read has shown that the attempt no longer has the key.
    """

    __slots__ = ("holder", "lost", "path", "token", "version")

    def __init__(self, path: str, holder: str, token: int, version: Any | None = None) -> None:
        self.path, self.holder, self.token = path, holder, token
        self.version = version
        self.lost = False

    @classmethod
    def of(cls, path: str, lock: Lock, version: Any | None = None) -> Hold | None:
        """
        Return the key of the present attempt of *lock*, the record at *path*; None if the task needs no key, or if it rides
        in the batch of another task, which has the key.
        """
        return None if lock.key is None or lock.rides else cls(key_path(lock.env, lock.key), path, lock.token, version)

    @property
    def known(self) -> bool:
        """
        Tell whether enough is known for a conditional write, or that none is needed.
        """
        return self.lost or self.version is not None

    def learn(self, record: Snapshot) -> None:
        """
        Note the state of the key's document as it was read.
        """
        self.version = record.version
        self.lost = not holds(record.lock, self.holder, self.token)

    def check(self, name: str) -> Any:
        """
        Make a write that changes nothing in the key's document *name*, on condition that the document has the known version.
        """
        write = WriteType()
        write.update.name = name
        write.update_mask.SetInParent()
        write.current_document.update_time.CopyFrom(self.version)
        return write

    def write(self, name: str, effect: Effect, after: Lock) -> Any:
        """
        Make the write of the key's document *name* for the step to the record *after*, on condition that the document has
        the known version.
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
            # The increment of 0 changes nothing; its result shows whether tasks wait, without a read.
            added = write.update_transforms.add(field_path="waiting")
            added.increment.integer_value = 0
        write.current_document.update_time.CopyFrom(self.version)
        return write


def key_write(name: str, key: str, version: Any | None, after: Lock, *, waiting: bool) -> Any:
    """
    Make the write of a key's whole record, on condition that its document still has *version* (None: does not exist).
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
