"""
A task about to be created, and how its creation went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gcp_oncetask.checks import values
from gcp_oncetask.rules.decisions import Target
from gcp_oncetask.rules.documents import PUSH, TaskName, pull_lane
from gcp_oncetask.rules.record import Fingerprint, Lock
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Value, encode
from gcp_oncetask.store.retiring import RETENTION
from gcp_oncetask.tasks.data import Kind, TaskData
from gcp_oncetask.tasks.recurrence import Recurrence
from gcp_oncetask.tasks.task import SCHEMA


@dataclass(frozen=True, slots=True)
class Created:
    """
    What ``create_task`` did; true only if the task is new.

    Attributes:
        id: Id of the task.
        created: Whether this call created it.
        dispatched: Whether its Cloud Task was made; if not, the sweeper makes it. False too for a task that existed.
        replaced: This payload runs instead of, or after, the one that was there (``on_conflict="replace"``, ``unique=``).
        refused: The kind's ``unique`` refused it: its task is queued or running.
        differences: Where the stored payload and recurrence, which were kept, differ from these.
    """

    id: str
    created: bool
    dispatched: bool
    replaced: bool = False
    refused: bool = False
    differences: tuple[str, ...] = ()
    _dispatch: Callable[[], bool] | None = field(default=None, repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.created

    def dispatch(self) -> bool:
        """
        Make the Cloud Task, after the caller's own transaction has been committed; safe to repeat.
        """
        return self.dispatched or (self._dispatch is not None and self._dispatch())


@dataclass(frozen=True, slots=True)
class Draft:
    """
    A task about to be created.

    Attributes:
        name: What tells it from all others.
        kind: Its kind.
        target: Where it goes, and when.
        payload: The payload as JSON data.
        stored: Firestore's value of it.
        digest: Its hash.
        nonce: Recognises this creation.
        resource_key: The key that it needs.
        recurrence: Its rule, if it is a generator.
        needed: Seconds for which another document refers to it; its retention is longer by that.
        extra: More stored fields: an occurrence's parent and nominal time.
        data: The payload as it was given.
        model: Fingerprint of the model by which the payload was written; None: not known.
    """

    name: TaskName
    kind: Kind
    target: Target
    payload: dict[str, Any]
    stored: Value
    digest: str
    nonce: str
    resource_key: str | None = None
    recurrence: Recurrence | None = None
    needed: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    data: TaskData | None = None
    model: str | None = None

    @property
    def lane(self) -> str:
        """
        By whom it is looked at.
        """
        return pull_lane(self.kind.name) if self.kind.pull else PUSH

    def fields(self, runtime: Runtime) -> dict[str, Value | None]:
        """
        What is stored beside the record.
        """
        fields: dict[str, Any] = {
            "id": self.name.id,
            "kind": self.name.kind,
            "env": self.name.env,
            "dataHash": self.digest,
            "createdAt": runtime.store.estimate(),
            "schema": SCHEMA,
            **self.extra,
        }
        if self.resource_key is not None:
            fields["resourceKey"] = self.resource_key
        if self.kind.retention is not None and not self.kind.tombstone:
            fields[RETENTION] = values.seconds(self.kind.retention, "retention") + self.needed
        if self.recurrence is not None:
            fields["recurrence"] = self.recurrence.to_data()
        return {"data": self.stored} | {name: encode(value) for name, value in fields.items()}

    @property
    def fingerprint(self) -> Fingerprint | None:
        """
        The model by which the payload was written.
        """
        return None if self.model is None else Fingerprint(self.digest, self.model)

    def lock(self, made: Lock) -> Lock:
        """
        *made*, with what the kind and the payload say.
        """
        erase = self.kind.retention if self.kind.tombstone else None
        return made.but(
            # A generator makes tasks that need the key; it needs none itself.
            key=None if self.recurrence is not None else self.resource_key,
            cleanup=self.recurrence is None,
            erase_seconds=None if erase is None else values.seconds(erase, "retention"),
            fingerprint=self.fingerprint,
        )
