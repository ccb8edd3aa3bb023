"""
Queues where the newest request per key wins, without a model of their own.

Source:
    esync: its README and first tests. Scoped by name: two queues may use the same key.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Self, Unpack

from pydantic import PrivateAttr

from gcp_oncetask.errors import UsageError
from gcp_oncetask.tasks.data import KindOptions, TaskData, named


class Request(TaskData):
    """
    A request of a queue: bring *key* up to date with *data*.

    Attributes:
        key: What is to be brought up to date; the task's id.
        data: JSON data.
    """

    key: str
    data: Any = None

    _not_before: datetime | None = PrivateAttr(default=None)

    @classmethod
    def request(cls, key: str, data: Any, not_before: datetime | None) -> Self:
        """
        A request, to be run not before an instant.
        """
        made = cls(key=key, data=data)
        made._not_before = not_before
        return made

    def task_id(self) -> str:
        """
        The key: of several requests for one, only the newest is run.
        """
        return self.key

    def scheduled_at(self) -> datetime | None:
        """
        Not before the delay that was asked for.
        """
        return self._not_before


_KINDS: Final[dict[str, type[Request]]] = {}


def queue_kind(name: str, **options: Unpack[KindOptions]) -> type[Request]:
    """
    The kind of the queue *name*; the first call may give its options.

    Args:
        name: Of the queue, and of its kind.
        options: As of ``Kind``; ``on_conflict`` is ``replace``.

    Raises:
        UsageError: The name can't be a kind, or the queue has other options already.
    """
    if named(name) not in _KINDS:
        _KINDS[name] = type(
            f"Queue[{name}]", (Request,), {"__module__": __name__}, kind=name, on_conflict="replace", **options
        )
    elif options:
        known = _KINDS[name].__kind__
        different = [option for option, value in options.items() if getattr(known, option, None) != value]
        if different:
            raise UsageError(f"The queue {name!r} was made before with another {different[0]}=.")
    return _KINDS[name]
