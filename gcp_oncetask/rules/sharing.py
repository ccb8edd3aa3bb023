"""
The writes that may share a remote call with the writes of other callers. Pure.

A call that applies several writes is answered when its slowest write is done, and Firestore makes a write wait for a document
that a transaction has read. So a write may share a call only if no transaction of others has a reason to read its document.
"""

from __future__ import annotations

from gcp_oncetask.rules.record import Lock, Status


def may_share(before: Lock | None, after: Lock) -> bool:
    """
    Tell whether the write that takes the record *before* to the record *after* may share a call: it creates the document,
    grants the first lease of a sequence, or ends a lease.
    """
    if before is None:
        return True
    if after.status is Status.LEASED:
        return before.status is Status.SCHEDULED and after.attempts == 1
    return before.status is Status.LEASED
