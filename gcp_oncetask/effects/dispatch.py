"""
The dispatch of a sequence: its Cloud Task is created after the commit that owes it. If it can't be created, it is left
to the sweeper.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from gcp_oncetask.errors import DispatchError, StoreError, UsageError
from gcp_oncetask.rules.delivery import Delivery, cloud_task_id, delivery_url
from gcp_oncetask.runtime.addressing import account
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.cloud_tasks import Push
from gcp_oncetask.store.snapshot import Snapshot, contents_of, version_of

HORIZON: Final = timedelta(days=29)
"""Cloud Tasks takes schedule times up to 30 days ahead; a later task gets an earlier delivery, which makes the next one."""


def dispatch(runtime: Runtime, snapshot: Snapshot, task_id: str | None = None) -> bool:
    """
    Create the Cloud Task of the present sequence. A failure is logged and left to the sweeper. A task that workers pull
    needs none.

    Args:
        runtime: Shared parts.
        snapshot: The document.
        task_id: Id of the Cloud Task, if it is known.

    Returns:
        False if a needed Cloud Task was not created.
    """
    if snapshot.lock is not None and snapshot.lock.url is None:
        return True
    try:
        runtime.tasks.create(push_of(runtime, snapshot, task_id))
    except DispatchError as error:
        severity = logging.ERROR if error.final else logging.WARNING
        then = "It is left to a process that may." if error.facts.get("left") else "The sweep creates the task."
        runtime.events.undispatched(runtime.about(snapshot), f"{error} {then}", severity)
        return False
    return True


def push_of(runtime: Runtime, snapshot: Snapshot, task_id: str | None = None) -> Push:
    """
    Return the Cloud Task of the present sequence in *snapshot*. Its *task_id* is computed, if it is not given.

    Raises:
        DispatchError: This process may not create the Cloud Task (``left``), or whether it may is not known.
    """
    lock = snapshot.lock
    assert lock is not None
    assert lock.url is not None
    assert lock.queue is not None
    contents = None
    limit = runtime.config.inline_limit
    if limit and snapshot.whole and snapshot.version is not None and snapshot.source is not None:
        contents = contents_of(snapshot)
        contents = contents if len(contents) <= limit else None
    delivery = Delivery(
        env=lock.env,
        document=snapshot.path,
        sequence=lock.sequence,
        dispatch=lock.dispatches,
        scheduled_by=lock.scheduled_by or "-",
        token=lock.token,
        version=None if snapshot.version is None else version_of(snapshot.version),
        wait_until=lock.wait_until,
        contents=contents,
    )
    at = lock.wait_until
    if at is not None:
        at = min(at, runtime.store.estimate() + HORIZON)
    try:
        audience = runtime.targets.check(lock.url, lock.queue, lock.headers)
    except UsageError as error:
        raise DispatchError(str(error), final=True, left=True) from None
    except StoreError as error:
        raise DispatchError(f"Whether a task may go to its URL is not known: {error}") from error
    sender = account(runtime)
    return Push(
        queue=lock.queue,
        task_id=task_id or cloud_task_id(snapshot.path, lock),
        url=delivery_url(delivery, lock.url),
        body=delivery.to_json(),
        headers=lock.headers or {},
        at=at,
        deadline=runtime.config.dispatch_deadline,
        service_account=sender,
        audience="" if sender is None else audience,
    )


def cloud_task_name(snapshot: Snapshot) -> str:
    """
    Return the full name of the Cloud Task of the present sequence in *snapshot*.
    """
    lock = snapshot.lock
    assert lock is not None
    return f"{lock.queue}/tasks/{cloud_task_id(snapshot.path, lock)}"
