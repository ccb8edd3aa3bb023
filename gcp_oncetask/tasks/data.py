"""
Payloads of once-tasks: what a producer must know of a kind is said on its class.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypedDict, Unpack, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from gcp_oncetask.checks import field_types, values, words
from gcp_oncetask.checks.class_arguments import OnConflict, TaskMeta, Unique, hand_on
from gcp_oncetask.checks.ordered import in_order
from gcp_oncetask.checks.told import harmless, problems
from gcp_oncetask.checks.values import Duration
from gcp_oncetask.errors import UsageError
from gcp_oncetask.tasks import payloads

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence

KIND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_METHODS: Final = ("task_id", "resource_key", "scheduled_at", "recurrence")


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What every process that creates tasks of a kind must know of it.

    Attributes:
        name: Stored with each task.
        queue: Queue id or full name; None: the configured one.
        pull: Claimed by workers instead of pushed by Cloud Tasks.
        on_conflict: What happens when an id exists with another payload or recurrence: ``keep`` the first, ``raise``, or
            ``replace`` it by the newest; of a recurring task, from its next run on.
        unique: The id may be used again once its task has ended; while it is ``queued``, ``running``, or either, a second
            request is refused. A request that is not refused replaces the payload of what waits, or runs after what runs.
        on_refused: Called with the payload of each request that ``unique`` refuses.
        max_running: At most so many run at once, across all workers and deliveries; None: any number. Each task falls on one of
            so many resource keys by its id, so with few that wait fewer may run. A change holds for tasks created after it.
        retention: Ended tasks of which nobody need be told any more are deleted so long after their end (seconds or a timedelta),
            an hour at least, by Firestore's TTL; None: kept.
        tombstone: After the retention only payload and result are erased: id, outcome and payload hash stay, so that the
            id can't be used again.
    """

    name: str
    queue: str | None = None
    pull: bool = False
    on_conflict: OnConflict = "keep"
    unique: Unique | None = None
    on_refused: Callable[[Any], object] | None = None
    max_running: int | None = None
    retention: Duration | None = None
    tombstone: bool = False

    @property
    def replaces(self) -> bool:
        """
        Whether a newer request for an id may take the place of the stored one.
        """
        return self.on_conflict == "replace" or self.unique is not None


class KindOptions(TypedDict, total=False):
    """
    Arguments of a kind that a queue has too; see ``Kind``.
    """

    queue: str | None
    pull: bool
    unique: Unique | None
    on_refused: Callable[[Any], object] | None
    max_running: int | None
    retention: Duration | None
    tombstone: bool


_ARGUMENTS: Final = tuple("kind" if name == "name" else name for name in Kind.__slots__)


class TaskData(BaseModel, metaclass=TaskMeta):
    """
    The payload of a once-task, and its kind: ``class ChargeCard(TaskData, kind="charge-card")``.

    Class arguments are those of ``Kind``. Four methods may be overridden: ``task_id()``, ``resource_key()``,
    ``scheduled_at()`` and ``recurrence()``; no field may have one of these names.

    What is stored of it is equal to it when it is loaded; see ``payload()``.

    Raises:
        UsageError: When the class is made: a field has a method's name, the kind is malformed, its arguments contradict each
            other, or no value of a field could be stored and loaded again.
    """

    model_config = ConfigDict(extra="forbid")

    __kind__: ClassVar[Kind | None] = None
    __home__: ClassVar[type[TaskData] | None] = None
    """The class that declares the kind: what is stored is loaded as that."""
    __plain__: ClassVar[bool] = False
    """Whether it is made of plain fields, and declares its kind itself."""

    @classmethod
    def __init_subclass__(
        cls,
        *,
        kind: str | None = None,
        queue: str | None = None,
        pull: bool = False,
        on_conflict: OnConflict = "keep",
        unique: Unique | None = None,
        on_refused: Callable[[Any], object] | None = None,
        max_running: int | None = None,
        retention: Duration | None = None,
        tombstone: bool = False,
        **kwargs: Unpack[ConfigDict],
    ) -> None:
        """
        Accept the kind's arguments as class arguments, beside those of pydantic's configuration.

        Raises:
            UsageError: There is another one.
        """
        hand_on(cls.__name__, {**kwargs}, _ARGUMENTS, super().__init_subclass__)

    @classmethod
    def __pydantic_init_subclass__(cls, *, kind: str | None = None, **kwargs: Any) -> None:
        """
        Check the kind.
        """
        ours = {name: kwargs.pop(name) for name in _ARGUMENTS if name in kwargs}
        super().__pydantic_init_subclass__(**kwargs)
        taken = [name for name in _METHODS if name in cls.model_fields or name in cls.__annotations__]
        if taken:
            raise UsageError(
                f"{cls.__name__} has a field named {taken[0]!r}; that name is a method of every TaskData. Rename the field."
            )
        field_types.check_model(cls, field_types.PAYLOAD)
        cls.__plain__ = False
        if kind is None:
            if ours:
                raise UsageError(f"{cls.__name__}: {min(ours)}= is said of a kind; give kind= too.")
            return
        made = _checked(cls.__name__, Kind(kind, **ours))
        if made.max_running is not None and cls.resource_key is not TaskData.resource_key:
            raise UsageError(
                f"{cls.__name__}: max_running= is kept by resource keys of its own; it can't have a resource_key() too."
            )
        cls.__kind__, cls.__home__ = made, cls
        cls.__plain__ = _is_plain(cls)

    def task_id(self) -> str:
        """
        What makes the task the same task: by default a canonical hash of the payload.
        """
        return self.payload_hash()[:40]

    def resource_key(self) -> str | None:
        """
        Tasks with the same key, of whatever kind, run one at a time; None: it needs none.
        """
        return None

    def scheduled_at(self) -> datetime | None:
        """
        Not before this instant, aware; None: at once.
        """
        return None

    def recurrence(self) -> Recurrence | None:
        """
        Run again and again; None: once.
        """
        return None

    def payload(self) -> dict[str, Any]:
        """
        The payload as JSON data, by alias, which is loaded as an equal object; sets are lists in ascending order, the same in
        every process.

        Raises:
            UsageError: It would not be equal; the message names the field.
        """
        stored: dict[str, Any] = in_order(
            self,
            payloads.stored_form(self, self.__home__, frozenset(self.__private_attributes__), plain=self.__plain__),
        )
        return stored

    def payload_hash(self) -> str:
        """
        SHA-256 of the canonical JSON of the payload, hexadecimal.
        """
        return hash_of(self.payload())

    @classmethod
    def of(cls, payload: dict[str, Any], path: str) -> Self:
        """
        The payload stored at *path*.

        Raises:
            UsageError: It does not fit; the message lists where.
        """
        try:
            return payloads.load(cls, payload)
        except ValidationError as error:
            raise UsageError(f"The payload of {path} does not fit {cls.__name__}: {problems(error)}.") from harmless(
                error
            )


def named(kind: object) -> str:
    """
    The name of a kind.

    Raises:
        UsageError: It can't be one.
    """
    if not isinstance(kind, str) or not KIND.fullmatch(kind):
        raise UsageError(
            f"{values.shown(kind)} is not a kind: letters, digits, '.', '_' and '-', up to 100 of them, are."
        )
    return kind


def _is_plain(cls: type[TaskData]) -> bool:
    return (
        field_types.is_plain(cls) and not cls.__private_attributes__ and not cls.__pydantic_decorators__.computed_fields
    )


def _checked(name: str, kind: Kind) -> Kind:
    named(kind.name)
    words.check(f"{name}: on_conflict", kind.on_conflict, get_args(OnConflict))
    if kind.unique is not None:
        words.check(f"{name}: unique", kind.unique, get_args(Unique))
    if kind.on_refused is not None and kind.unique is None:
        raise UsageError(f"{name}: on_refused= is called for what unique= refuses; give that too.")
    if kind.max_running is not None:
        values.whole(kind.max_running, f"{name}: max_running")
    if kind.queue is not None:
        values.queue(kind.queue, f"{name}: queue")
    if kind.tombstone and kind.retention is None:
        raise UsageError(f"{name}: a tombstone needs retention=, after which the payload is erased.")
    if kind.retention is not None:
        kind = replace(kind, retention=values.length(kind.retention, f"{name}: retention"))
    return kind


def key_of(data: TaskData, id_: str) -> str | None:
    """
    The resource key that the task *id_* needs: its own, or its place among the ``max_running`` of its kind.
    """
    kind = kind_of(data)
    if kind.max_running is None:
        key = data.resource_key()
        return None if key in (None, "") else values.name(key, f"{type(data).__name__}.resource_key()")
    return f"max-running/{kind.name}/{zlib.crc32(id_.encode()) % kind.max_running}"


def kind_of(data: TaskData | type[TaskData]) -> Kind:
    """
    The kind of a payload.

    Raises:
        UsageError: Its class declares none.
    """
    cls = data if isinstance(data, type) else type(data)
    if cls.__kind__ is None:
        raise UsageError(f'{cls.__name__} has no kind; declare it: class {cls.__name__}(TaskData, kind="...").')
    return cls.__kind__


def hash_of(payload: Any) -> str:
    """
    SHA-256 of the canonical JSON of *payload*: keys sorted, no spaces.
    """
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def difference(stored: Any, given: Any, at: str = "") -> list[str]:
    """
    Where two payloads differ, field by field, as ``field: stored -> given``; at most ten.
    """
    if isinstance(stored, dict) and isinstance(given, dict):
        found: list[str] = []
        for name in sorted({*stored, *given}):
            found += difference(stored.get(name), given.get(name), f"{at}.{name}" if at else name)
        return found[:10]
    return [] if stored == given else [f"{at or 'data'}: {_short(stored)} -> {_short(given)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
