"""
The sort of a document that was read: a chain, a once-task, a named lock, ...
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.rules import verbs
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot


def record_of(snapshot: Snapshot) -> verbs.Record:
    """
    Return the sort of the record: a chain, a once-task, a named lock, ...
    """
    fields = snapshot.fields
    known: dict[str, Any] = {name: decode(fields[name]) for name in ("name", "key", "recurrence") if name in fields}
    return verbs.record_of(snapshot.path, snapshot.lock, known)
