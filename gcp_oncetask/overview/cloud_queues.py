"""
The queues of Cloud Tasks that the kinds of a deployment use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gcp_oncetask.errors import BackendError
from gcp_oncetask.runtime import addressing
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.cloud_tasks import QueueState


class QueueRow(NamedTuple):
    """
    A queue.

    Attributes:
        name: Full name of the queue.
        kinds: Kinds whose tasks go there.
        state: Its state; None: it could not be asked.
        trouble: Reason for which it could not be asked; None: it could.
    """

    name: str
    kinds: tuple[str, ...]
    state: QueueState | None
    trouble: str | None


def queues(runtime: Runtime, used: Sequence[tuple[str, str | None]]) -> list[QueueRow]:
    """
    Return the configured queue and those of some kinds, each asked of Cloud Tasks.

    Args:
        runtime: The shared parts.
        used: Pairs of a kind and its queue, an id or a full name; None: the configured one.

    Raises:
        ConfigError: The project or the region is neither configured nor found.
    """
    kinds: dict[str, list[str]] = {addressing.queue_name(runtime, None): []}
    for kind, queue in used:
        kinds.setdefault(addressing.queue_name(runtime, queue), []).append(kind)
    rows = []
    for name, own in kinds.items():
        try:
            state, trouble = runtime.tasks.queue(name), None
        except BackendError as error:
            state, trouble = None, str(error)
        rows.append(QueueRow(name, tuple(sorted(own)), state, trouble))
    return rows
