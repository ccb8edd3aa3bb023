"""
A task about to be created, and the result of its creation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gcp_oncetask.checks import values
from gcp_oncetask.rules import retention
from gcp_oncetask.rules.decisions import Target
from gcp_oncetask.rules.document_paths import PUSH, TaskName, pull_lane
from gcp_oncetask.rules.family import CHILD, PARENT
from gcp_oncetask.rules.record import Fingerprint, Lock
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Value, encode
from gcp_oncetask.store.retiring import EXPIRE_AT, RETENTION
from gcp_oncetask.tasks.data import Kind, TaskData
from gcp_oncetask.tasks.earlier import EarlierTask
from gcp_oncetask.tasks.task import SCHEMA

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class Created:
    """
    The result of ``create_task``; it is true only if the task is new.

    Attributes:
        id: Id of the task.
        created: Whether this call created it.
        dispatched: Whether its Cloud Task was created; if not, the sweeper creates it. It is also False for a task that
            existed.
        replaced: Whether this payload runs in place of the stored one, or after it (``on_conflict="replace"``,
            ``unique=``).
        refused: Whether the kind's ``unique`` refused it, because its task is queued or running.
        differences: The differences between this payload and recurrence and the stored ones, which were kept.
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
        Create the Cloud Task, after the caller's own transaction was committed. Repeated calls are safe.

        Returns:
            Whether the Cloud Task was created.
        """
        return self.dispatched or (self._dispatch is not None and self._dispatch())


@dataclass(frozen=True, slots=True)
class Draft:
    """
    A task about to be created.

    Attributes:
        name: Name of the task: environment, kind and id.
        kind: Kind of the task.
        target: Destination and time of its delivery.
        payload: The payload as JSON data.
        stored: Firestore's value of the payload.
        digest: Hash of the payload.
        nonce: Nonce by which this creation is recognised.
        resource_key: The resource key that the task needs; None: it needs none.
        recurrence: The rule of a generator; None: the task is none.
        needed: Seconds for which another document refers to the task; its retention is longer by this time.
        extra: More stored fields: an occurrence's parent and nominal time.
        data: The payload as it was given; None: the task is an occurrence.
        model: Fingerprint of the model by which the payload was written; None: it is not known.
        past: The state in which another system has left the task; None: it is new.
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
    past: EarlierTask | None = None

    @property
    def lane(self) -> str:
        """
        The lane of its due time, which decides who looks at the task: the sweeper, or workers of its kind.
        """
        return pull_lane(self.kind.name) if self.kind.pull else PUSH

    def fields(self, runtime: Runtime) -> dict[str, Value | None]:
        """
        Return the fields that are stored beside the record.
        """
        fields: dict[str, Any] = {
            "id": self.name.id,
            "kind": self.name.kind,
            "env": self.name.env,
            "dataHash": self.digest,
            "createdAt": runtime.store.estimate(),
            "schema": SCHEMA,
            **self.extra,
            **({} if self.past is None else self.past.fields()),
        }
        if self.resource_key is not None:
            fields["resourceKey"] = self.resource_key
        if self.kind.retention is not None and not self.kind.tombstone:
            fields[RETENTION] = values.seconds(self.kind.retention, "retention") + self.needed
            if self.past is not None and self.past.done_at is not None:
                now = runtime.store.estimate()
                fields[EXPIRE_AT] = retention.expires_at(self.past.done_at, fields[RETENTION], now)
        if self.recurrence is not None:
            fields["recurrence"] = self.recurrence.to_data()
        return {"data": self.stored} | {name: encode(value) for name, value in fields.items()}

    @property
    def fingerprint(self) -> Fingerprint | None:
        """
        Fingerprint of the payload and of its model; None: it is not known.
        """
        return None if self.model is None else Fingerprint(self.digest, self.model)

    def lock(self, made: Lock) -> Lock:
        """
        Return the record *made* with the values that the kind and the payload determine.
        """
        erase = self.kind.retention if self.kind.tombstone else None
        return made.but(
            # A generator makes tasks that need the key, and needs none itself.
            key=None if self.recurrence is not None else self.resource_key,
            cleanup=self.recurrence is None,
            erase_seconds=None if erase is None else values.seconds(erase, "retention"),
            fingerprint=self.fingerprint,
            needs=(CHILD,) if PARENT in self.extra else made.needs,
        )
