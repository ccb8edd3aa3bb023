"""
The past: the timeline of one document, and the acts of people on all documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gcp_oncetask.console.asked import length_of
from gcp_oncetask.console.page import ConsolePage
from gcp_oncetask.history import acts_of, timeline_of
from gcp_oncetask.runtime.runtime import Runtime

_USUAL: Final = "7d"
_MOST: Final = 200
"""Acts of a page."""


def timeline(runtime: Runtime, asked: Mapping[str, str]) -> ConsolePage:
    """
    The timeline of a document. It asks Cloud Logging, so a person opens it, and no script fetches it again.

    Raises:
        UsageError: The path is no document's.
        TaskNotFoundError: There is no such document, and no lines tell of it.
    """
    found = timeline_of(runtime, asked.get("path", "").strip())
    values = {
        "path": found.document,
        "gone": found.lock is None,
        "entries": found.entries,
        "unread": found.unread,
        "age": round(found.age),
    }
    return ConsolePage(template="timeline.html", title=f"Timeline of {found.document}", values=values)


def acts(runtime: Runtime, asked: Mapping[str, str]) -> ConsolePage:
    """
    The acts of people from the trail, newest first.

    Raises:
        UsageError: A length of time can't be read.
    """
    since, by = asked.get("since", "").strip() or _USUAL, asked.get("by", "").strip()
    found = acts_of(runtime, None, by=by or None, since=length_of(since, "since"))
    newest = tuple(reversed(found.items))
    values = {
        "items": newest[:_MOST],
        "more": max(0, len(newest) - _MOST),
        "unread": found.unread,
        "since": since,
        "by": by,
        "age": round(found.age),
    }
    return ConsolePage(template="acts.html", title="Acts", values=values)
