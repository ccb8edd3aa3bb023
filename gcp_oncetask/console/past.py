"""
The past: the timeline of one document and its effects outside, and the acts of people on all documents.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final

from gcp_oncetask.console.access import Visitor
from gcp_oncetask.console.asked import length_of
from gcp_oncetask.console.page import ConsolePage
from gcp_oncetask.entities.chains import stored_chain
from gcp_oncetask.history import acts_of, timeline_of
from gcp_oncetask.rules import journal
from gcp_oncetask.rules.ledger import effects_of
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import journals

_LOG: Final = logging.getLogger("gcp_oncetask")
_USUAL: Final = "7d"
_MOST: Final = 200
"""Acts or effects of a page, the last ones."""


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
        "kin": found.kin,
        "gone": found.lock is None,
        "entries": found.entries,
        "unread": found.unread,
        "age": round(found.age),
    }
    return ConsolePage(template="timeline.html", title=f"Timeline of {found.document}", values=values)


def effects(runtime: Runtime, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
    """
    The effects outside of a durable handler: its runs with ``once=True``. Receipts are contents, so only an operator sees
    them, and the log says so.

    Raises:
        TaskNotFoundError: There is no such document.
        DamagedError: A part of its journal can't be read.
    """
    path = asked.get("path", "").strip()
    _, lock = stored_chain(runtime, path)
    found = effects_of(journal.latest(journals.read(runtime.store, path, lock)))
    if visitor.acts and found:
        _LOG.info("%s looks at the receipts of %s", visitor.name, path)
    values = {
        "path": path,
        "items": found[-_MOST:],
        "more": max(0, len(found) - _MOST),
        "receipts": {one.name: json.dumps(one.receipt) for one in found if visitor.acts and one.receipt is not None},
    }
    return ConsolePage(template="effects.html", title=f"Effects of {path}", values=values)


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
