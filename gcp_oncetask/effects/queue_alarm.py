"""
One alarm for a queue whose tasks stand still, however many they are; the lane of a kind that workers pull is such a queue.

Shape:
    onceLocks/{2 hex}:{env}:queue:{queue, escaped}: ``queue`` (of a kind that workers pull ``pull.{kind}``), ``since`` (when the
    oldest of its tasks could first have been claimed), ``tasks`` (how many were seen), ``seenAt``, ``sendUntil`` (until then its
    present sender is trusted), ``told``. Not seen for ``FORGOTTEN``, it is over: the next standstill is told anew.

Guarantee
    Each standstill is told once, under one Message-ID; again only where the sender died before it could say that it had sent it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules.documents import queue_path
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot

FORGOTTEN: Final = timedelta(hours=2)
"""A queue of which nothing stuck was seen for this long stands still no more: each task is looked at once an hour."""
SEEN_EVERY: Final = timedelta(minutes=15)
"""How often it is noted that it still stands still."""


class Standstill(NamedTuple):
    """
    Tasks of one queue that wait for too long.

    Attributes:
        queue: Full name of the queue, or the lane of a kind that workers pull.
        tasks: How many were seen.
        since: When the oldest of them could first have been claimed.
        sentence: What a person is told.
    """

    queue: str
    tasks: int
    since: datetime
    sentence: str


def tell(runtime: Runtime, found: Standstill) -> int:
    """
    Tell a person of *found*, unless one was told of this standstill; returns how many alerts were sent. Failures are logged.
    """
    try:
        return _tell(runtime, found)
    except OncetaskError as error:
        LOGGER.error("%s That could not be told: %s", found.sentence, error)
        return 0


def _tell(runtime: Runtime, found: Standstill) -> int:
    path = queue_path(runtime.config.env, found.queue)
    stored = runtime.store.read_all([path])[path]
    now = runtime.store.estimate()
    known = {name: decode(value) for name, value in stored.fields.items()}
    if known and now - known["seenAt"] > FORGOTTEN:
        known = {}
    told = bool(known.get("told"))
    if known and (now - known["seenAt"] < SEEN_EVERY if told else now < known["sendUntil"]):
        return 0
    fields: dict[str, Any] = {
        "queue": found.queue,
        "since": known.get("since", found.since),
        "tasks": found.tasks,
        "seenAt": now,
        "sendUntil": now + timedelta(seconds=runtime.config.alert_retry),
        "told": told,
    }
    mine = runtime.store.put_fields(stored, fields)
    if mine is None or told:
        return 0
    LOGGER.error("%s", found.sentence)
    about, id_ = Snapshot(path, None, None, None), f"stuck-{instant(fields['since'])}"
    if not owed_alerts.send_directly(runtime, about, id_, found.sentence, waits=False):
        return 0
    runtime.store.put_fields(mine, {**fields, "told": True})
    return 1
