"""
The fast path of the outbox: dispatch a document that was just written, if its commit owed a Cloud Task that was not
created. The sweeper guarantees the dispatch; this path only comes sooner than its grace period.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gcp_oncetask import rules
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.codec import DocumentType, put
from gcp_oncetask.store.lock_codec import decode_lock
from gcp_oncetask.store.snapshot import Snapshot

__all__ = ["dispatch_written"]


def dispatch_written(
    locker: Locker, path: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> bool:
    """
    Create the Cloud Task that the write of a document owes. The writer uses the same name for it, so the second of the two
    finds that it exists. Safe for events that repeat, come late or out of order.

    A record counts only in a collection of a model of this process, in one that is configured or registered, or as a
    once-task: otherwise, a user who may write another document could write a ``lock`` into it.

    A write that makes no sequence and no dispatch costs no call; any other costs a CreateTask. The first one of a process
    also costs a read of the registry, if the collection or the base URL is not its own, else an empty Commit, which returns
    the time.

    Args:
        locker: Gives the environment, and the targets to which its tasks may go.
        path: Path of the document below the database, such as ``orders/42``.
        before: Its fields before the write, as Firestore's client gives them; None if it did not exist.
        after: Its fields after the write; None if it is gone.

    Returns:
        True if the write owed a task and it exists now. False if the write owed none; if the document's record does not
        count, or tasks may not go to its URL (both are logged); if the due time has passed, because the sweeper may have
        dispatched it under another name; or if Cloud Tasks refused (logged; the sweeper dispatches).

    Raises:
        ConfigError: The account or the project is not configured.
        StoreError: Firestore did not answer with the time or the registered collections.
    """
    runtime = runtime_of(locker)
    if after is None or not isinstance(after.get("lock"), Mapping):
        return False
    try:
        lock = _lock_of(after)
        owed = rules.newly_scheduled(_lock_of(before), lock, runtime.config.env)
    except (StoreError, UsageError) as error:
        runtime.events.undispatched(None, f"{path}: {error} The sweep sets it aside.")
        return False
    if not owed or lock is None:
        return False
    # Without version and contents: an event may be late, so the claim reads the present document.
    written = Snapshot(path, None, None, lock, None, whole=False)
    if runtime.registry.template_of(path, runtime.collections) is None:
        left = "its collection is neither registered nor in ONCETASK_COLLECTIONS, so its record does not count"
        runtime.events.left(runtime.about(written), left)
        return False
    if rules.is_overdue(lock, runtime.store.estimate()):
        return False
    return dispatch(runtime, written)


def _lock_of(fields: Mapping[str, Any] | None) -> Lock | None:
    if fields is None or not isinstance(fields.get("lock"), Mapping):
        return None
    document = DocumentType()
    put(document.fields["lock"], fields["lock"])
    return decode_lock(document)
