"""
The contents of a task: payload, parameters, headers, result, messages of errors. Pages have their names and sizes, and values
only when an operator asks.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gcp_oncetask.console.formats import json_text, size_of
from gcp_oncetask.rules.document_paths import is_task
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot

MOST: Final = 100_000
"""Characters of all contents that a page shows."""


class Content(NamedTuple):
    """
    A part of the contents.

    Attributes:
        name: Its name.
        size: Its size in bytes, as JSON text.
        text: Its value as text; None: it is hidden.
        more: Characters that are left out of the text.
    """

    name: str
    size: int
    text: str | None
    more: int = 0


def of(snapshot: Snapshot, lock: Lock, *, shown: bool) -> list[Content]:
    """
    Return the contents of a document, with their values if they are *shown*. The fields of an entity are the user's own, and
    are left out.
    """
    values: list[tuple[str, Any]] = []
    if is_task(snapshot.path) and "data" in snapshot.fields:
        values.append(("data", decode(snapshot.fields["data"])))
    values += [("params", lock.params), ("headers", lock.headers), ("result", lock.returned.data())]
    values += [
        (f"error of attempt {error.attempt} of step {lock.step_of(error.sequence)}", error.message)
        for error in lock.errors
    ]
    made, left = [], MOST
    for name, value in values:
        if value is None:
            continue
        text = None
        more = 0
        if shown:
            whole = value if isinstance(value, str) else json_text(value)
            text, more = whole[:left], max(0, len(whole) - left)
            left -= len(text)
        made.append(Content(name, size_of(value), text, more))
    return made
