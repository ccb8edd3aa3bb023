"""
The fast path of the outbox: a document that was just written is dispatched, if its commit owed a Cloud Task that was not
made. The sweeper is the guarantee; this only comes sooner than its grace period.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gcp_oncetask import rules
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.codec import DocumentType, decode_lock, put
from gcp_oncetask.store.snapshot import Snapshot


def dispatch_written(
    locker: Locker, path: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> bool:
    """
    Make the Cloud Task that the write of a document owes, under the name that the writer gives it too: whichever comes
    second finds that it exists. Safe for events that repeat, come late or out of order.

    A record counts only in a collection of a model of this process, in one that is configured or registered, or as a once-task:
    whoever may write another document can write a ``lock`` into it.

    Costs nothing but for a write that makes a sequence or a dispatch; that one costs a CreateTask. The first of a process
    costs a look into the registry besides, where the collection or the base URL is not its own, else an empty Commit, which asks
    for the time.

    Args:
        locker: Whose environment, and where its tasks go.
        path: Path of the document below the database, such as ``orders/42``.
        before: Its fields before the write, as Firestore's client gives them; None if it did not exist.
        after: Its fields after the write; None if it is gone.

    Returns:
        Whether the write owed a task and it exists now. False: nothing was owed, the document's record does not count or its
        URL is not where tasks may go (that is logged), the due time has passed (the sweeper may have dispatched it under
        another name), or Cloud Tasks refused: that is logged, and the sweeper dispatches.

    Raises:
        ConfigError: The account or the project is not configured.
        StoreError: Firestore did not tell the time, or which collections are registered.
    """
    runtime = locker.runtime
    if after is None or not isinstance(after.get("lock"), Mapping):
        return False
    try:
        lock = _lock_of(after)
        owed = rules.newly_scheduled(_lock_of(before), lock, runtime.config.env)
    except (StoreError, UsageError) as error:
        runtime.events.undispatched(None, f"{path}: {error} The sweeper will set it aside.")
        return False
    if not owed or lock is None:
        return False
    # Without version and contents: an event may be late, and the claim then reads what is there now.
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
