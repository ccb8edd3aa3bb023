"""
The alarm for a queue whose tasks stand still: one alarm for all its tasks. The lane of a kind that workers pull counts
as a queue.

Shape:
    onceLocks/{2 hex}:{env}:queue:{queue, escaped}: ``queue`` (``pull.{kind}`` for a kind that workers pull), ``since``
    (time at which the oldest of its tasks could first have been claimed), ``tasks`` (number of tasks seen), ``seenAt``,
    ``sendUntil`` (time until which the present sender is trusted), ``told``. A standstill that was not seen for
    ``FORGOTTEN`` is over, and the next one has its own alarm.

Guarantee
    Each standstill is reported once, under one Message-ID. It is reported again only if the sender died before it could
    record that it had sent the alarm.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules.document_paths import queue_path
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot

FORGOTTEN: Final = timedelta(hours=2)
"""Time without a stuck task after which a standstill is over; each task is looked at once an hour."""
SEEN_EVERY: Final = timedelta(minutes=15)
"""Time between two notes that a standstill goes on."""


class Standstill(NamedTuple):
    """
    Tasks of one queue that wait for too long.

    Attributes:
        queue: Full name of the queue, or the lane of a kind that workers pull.
        tasks: Number of tasks seen.
        since: Time at which the oldest of them could first have been claimed.
        sentence: Message to a person.
    """

    queue: str
    tasks: int
    since: datetime
    sentence: str


def tell(runtime: Runtime, found: Standstill) -> int:
    """
    Tell a person of *found*, unless a person was told of this standstill before. Failures are logged.

    Returns:
        Number of alerts sent.
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
