"""
Floods of alerts: group the alerts that belong together, send the first one at once, and let the others wait. Pure.

Alerts belong together that have the event, the kind and the cause in common. The kind is that of the once-task, or the
collection. The cause is the alert's name and reason without the parts that differ from one document to the next: the
document's id, quoted texts, and words with a digit, a slash or an at sign.

The first alert of a group opens a window and is sent at once. Alerts that come before the end of the window wait for it,
and become one mail. An event and kind has windows for ``MOST_CAUSES`` causes at a time; all further ones share a window.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import unquote

from gcp_oncetask.rules.document_paths import LOCKS, parse_task_path
from gcp_oncetask.rules.record import Event

MOST_CAUSES: Final = 20
"""Most causes of one event and kind that have windows of their own."""
OTHERS: Final = "others"
"""The cause that stands for all further ones."""
WAITS: Final = "wait-"
"""Beginning of ``PendingAlert.digest`` of an alert that waits; the group follows. An id of a digest never begins so."""
_LONGEST_CAUSE: Final = 200
_LONGEST_WORD: Final = 40
_QUOTED: Final = re.compile(r"""(?<!\w)(?:'[^']*'|"[^"]*"|`[^`]*`)(?!\w)""")
_VARIABLE: Final = re.compile(r"[0-9/@]")


class Group(NamedTuple):
    """
    The attributes that alerts of one group have in common.

    Attributes:
        event: The event.
        kind: Kind of the once-tasks, or the collection, the ids of parent documents left out.
        cause: Digest of the cause, or ``OTHERS``.
    """

    event: Event
    kind: str
    cause: str

    @property
    def mark(self) -> str:
        """
        ``PendingAlert.digest`` of the group's waiting alerts.
        """
        return WAITS + hashlib.sha256("\n".join(self).encode(errors="replace")).hexdigest()[:24]


class Window(NamedTuple):
    """
    A time in which alerts of one group wait.

    Attributes:
        until: Its end.
        first: Id of the alert that opened it.
    """

    until: datetime
    first: str


class Turn(NamedTuple):
    """
    The decision when an alert may be sent.

    Attributes:
        cause: Cause of its group.
        until: End of the waiting time; None: the alert is sent at once.
        windows: The windows to be written, by cause; None: they do not change.
    """

    cause: str
    until: datetime | None
    windows: dict[str, Window] | None


def group_of(event: Event, path: str, name: str, reason: str) -> Group:
    """
    Return the group of an alert.

    Args:
        event: Its event.
        path: The document.
        name: Id of the alert within the document; parts that are numbers are ignored.
        reason: Reason of the alert, as a sentence.
    """
    ids = _ids(path)
    parts = [part for part in name.split("-") if part not in ids and not _VARIABLE.search(part)]
    text = f"{'-'.join(parts)}: {_masked(reason, ids)}"[:_LONGEST_CAUSE]
    return Group(event, kind_of(path), hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16])


def kind_of(path: str) -> str:
    """
    Return the kind of the once-task at *path*, or its collection, with ``*`` for the ids of parent documents.
    """
    name = parse_task_path(path)
    if name is not None:
        return name.kind
    parts = path.split("/")[:-1]
    if parts == [LOCKS]:
        # In this collection, the id of a document has its sort (named lock, resource key, ...).
        return "/".join((LOCKS, *path.split(":", 3)[2:3]))
    return "/".join("*" if place % 2 else part for place, part in enumerate(parts))


def _ids(path: str) -> set[str]:
    name = parse_task_path(path)
    found = {*path.split("/")[1::2], path.rsplit("/", 1)[-1]} | ({name.id} if name is not None else set())
    return {one for each in found for one in (each, unquote(each)) if len(one) > 1}


def _masked(reason: str, ids: set[str]) -> str:
    text = _QUOTED.sub("*", reason)
    for one in sorted(ids, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", "*", text)
    return " ".join("*" if _VARIABLE.search(word) or len(word) > _LONGEST_WORD else word for word in text.split())


def turn_of(windows: Mapping[str, Window], cause: str, id_: str, now: datetime, length: float) -> Turn:
    """
    Decide whether the alert *id_* is sent at once.

    Args:
        windows: The windows of its event and kind, by cause.
        cause: Cause of its group.
        id_: Id of the alert. The alert that opened a window is decided again if it is not known whether it was sent.
        now: The server's time, estimated.
        length: Seconds of a window.
    """
    open_ = {name: window for name, window in windows.items() if now < window.until}
    if cause not in open_ and len(open_) >= MOST_CAUSES:
        cause = OTHERS
    window = open_.get(cause)
    if window is not None:
        return Turn(cause, None if window.first == id_ else window.until, None)
    open_[cause] = Window(now + timedelta(seconds=length), id_)
    return Turn(cause, None, open_)
