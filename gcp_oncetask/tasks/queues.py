"""
Queues in which the newest request for a key wins, and which need no model of their own.

Source:
    The README and the first tests of esync. Here keys belong to a queue by its name, so two queues may use the same
    key.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Self, Unpack

from pydantic import PrivateAttr

from gcp_oncetask.errors import UsageError
from gcp_oncetask.tasks.data import KindOptions, TaskData, named


class Request(TaskData):
    """
    A request of a queue to bring *key* up to date with *data*.

    Attributes:
        key: Name of the thing to bring up to date; it is the id of the task.
        data: JSON data.
    """

    key: str
    data: Any = None

    _not_before: datetime | None = PrivateAttr(default=None)

    @classmethod
    def request(cls, key: str, data: Any, not_before: datetime | None) -> Self:
        """
        Make a request that runs at *not_before* at the earliest; None: at once.
        """
        made = cls(key=key, data=data)
        made._not_before = not_before
        return made

    def task_id(self) -> str:
        """
        Return the key. Only the newest of several requests for one key is run.
        """
        return self.key

    def scheduled_at(self) -> datetime | None:
        """
        Return the earliest time of the run, after the requested delay.
        """
        return self._not_before


_KINDS: Final[dict[str, type[Request]]] = {}


def queue_kind(name: str, **options: Unpack[KindOptions]) -> type[Request]:
    """
    Return the kind of the queue *name*; the first call may give its options.

    Args:
        name: Name of the queue and of its kind.
        options: Options of ``Kind``; ``on_conflict`` is ``replace``.

    Raises:
        UsageError: The name is not valid for a kind, or the queue has other options already.
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
