"""
Payloads of once-tasks. The class of a payload declares its kind, with all options that a producer must know.
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
    The options of a kind. Every process that creates tasks of the kind must have the same ones.

    Attributes:
        name: Name of the kind; it is stored with each task.
        queue: Queue id or full name; None: the configured one.
        pull: Whether workers pull the tasks; otherwise Cloud Tasks pushes them.
        on_conflict: The decision on an id that exists with another payload or recurrence: ``keep`` the first one,
            ``raise`` an error, or ``replace`` it by the newest one; a recurring task is replaced from its next run on.
        unique: ``queued``, ``running`` or ``queued_or_running``: a second request for an id is refused while its task
            is in such a state. Otherwise it replaces the payload of a waiting task, or runs after a running one. The id
            of an ended task may be used again.
        on_refused: Function that is called with the payload of each request that ``unique`` refuses.
        max_running: Most tasks that run at once, in all workers and deliveries together; None: no limit. The id of a
            task selects one of as many resource keys. So if few tasks wait, fewer than the limit may run. A change
            counts for tasks created after it.
        retention: Time after its end after which Firestore's TTL deletes a task that owes no alert; seconds or a
            timedelta, an hour at least. None: tasks are kept.
        tombstone: Whether only payload and result are erased after the retention. The id, outcome and payload hash
            stay, so that the id can't be used again.
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
        True if a newer request for an id may replace the stored one.
        """
        return self.on_conflict == "replace" or self.unique is not None


class KindOptions(TypedDict, total=False):
    """
    Arguments of a kind that a queue also has; see ``Kind``.
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

    A payload that is stored and loaded again is equal to the original; see ``payload()``.

    Raises:
        UsageError: While the class is created: a field has the name of a method, the kind is malformed, its arguments
            contradict each other, or no value of a field could be stored and loaded again.
    """

    model_config = ConfigDict(extra="forbid")

    __kind__: ClassVar[Kind | None] = None
    __home__: ClassVar[type[TaskData] | None] = None
    """The class that declares the kind; stored payloads are loaded as this class."""
    __plain__: ClassVar[bool] = False
    """True if the class has only plain fields and declares its kind itself."""

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
            UsageError: There is another class argument.
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
        Return the id by which a task is recognised as the same one; by default a canonical hash of the payload.
        """
        return self.payload_hash()[:40]

    def resource_key(self) -> str | None:
        """
        Return the resource key; None: the task needs none. Tasks with the same key, of any kind, run one at a time.
        """
        return None

    def scheduled_at(self) -> datetime | None:
        """
        Return the earliest time of the run, an aware datetime; None: at once.
        """
        return None

    def recurrence(self) -> Recurrence | None:
        """
        Return the rule by which the task recurs; None: it runs once.
        """
        return None

    def payload(self) -> dict[str, Any]:
        """
        Return the payload as JSON data, by alias. It is loaded again as an equal object. Sets become lists in ascending
        order, which is the same in every process.

        Raises:
            UsageError: The loaded object would not be equal; the message names the field.
        """
        stored: dict[str, Any] = in_order(
            self,
            payloads.stored_form(self, self.__home__, frozenset(self.__private_attributes__), plain=self.__plain__),
        )
        return stored

    def payload_hash(self) -> str:
        """
        Return the SHA-256 of the canonical JSON of the payload, hexadecimal.
        """
        return hash_of(self.payload())

    @classmethod
    def of(cls, payload: dict[str, Any], path: str) -> Self:
        """
        Return the payload stored at *path* as an object of this class.

        Raises:
            UsageError: The payload does not fit; the message lists the fields.
        """
        try:
            return payloads.load(cls, payload)
        except ValidationError as error:
            raise UsageError(f"The payload of {path} does not fit {cls.__name__}: {problems(error)}.") from harmless(
                error
            )


def named(kind: object) -> str:
    """
    Return *kind* if it is a valid name of a kind.

    Raises:
        UsageError: The name is invalid.
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
        raise UsageError(f"{name}: on_refused= is called for requests that unique= refuses; give unique= too.")
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
    Return the resource key that the task *id_* needs: its own, or one of the ``max_running`` keys of its kind.
    """
    kind = kind_of(data)
    if kind.max_running is None:
        key = data.resource_key()
        return None if key in (None, "") else values.name(key, f"{type(data).__name__}.resource_key()")
    return f"max-running/{kind.name}/{zlib.crc32(id_.encode()) % kind.max_running}"


def kind_of(data: TaskData | type[TaskData]) -> Kind:
    """
    Return the kind of a payload.

    Raises:
        UsageError: The class declares no kind.
    """
    cls = data if isinstance(data, type) else type(data)
    if cls.__kind__ is None:
        raise UsageError(f'{cls.__name__} has no kind; declare it: class {cls.__name__}(TaskData, kind="...").')
    return cls.__kind__


def hash_of(payload: Any) -> str:
    """
    Return the SHA-256 of the canonical JSON of *payload*: keys sorted, no spaces.
    """
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def difference(stored: Any, given: Any, at: str = "") -> list[str]:
    """
    Return the differences of two payloads, field by field, as ``field: stored -> given``; at most ten.
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
