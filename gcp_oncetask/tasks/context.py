"""
Who am I: the attempt that runs in this context.
"""

from __future__ import annotations

from gcp_oncetask.errors import NoAttemptError
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.attempt import current_attempt as current_of_context
from gcp_oncetask.observe.log_context import current


def current_attempt() -> Attempt:
    """
    The attempt whose handler runs in this context; in a batch, that of the task which holds the key.

    Raises:
        NoAttemptError: None does.
    """
    attempt = current_of_context.get()
    if attempt is None:
        raise NoAttemptError("current_attempt() was called outside a handler.")
    return attempt


def current_task_id() -> str | None:
    """
    Id of the once-task whose handler runs in this context; None outside, and in a batch of several.
    """
    context = current.get()
    return None if context is None else context.task


def current_resource_key() -> str | None:
    """
    The resource key that the handler of this context holds; None outside, or if it needs none.
    """
    context = current.get()
    return None if context is None else context.key
