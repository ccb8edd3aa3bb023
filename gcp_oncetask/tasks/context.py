"""
Functions that return the attempt, the task and the resource key of the present context.
"""

from __future__ import annotations

from gcp_oncetask.errors import NoAttemptError
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.attempt import current_attempt as current_of_context
from gcp_oncetask.observe.log_context import current


def current_attempt() -> Attempt:
    """
    Return the attempt whose handler runs in this context; in a batch, the leader's attempt.

    Raises:
        NoAttemptError: No handler runs in this context.
    """
    attempt = current_of_context.get()
    if attempt is None:
        raise NoAttemptError("current_attempt() was called outside a handler.")
    return attempt


def current_task_id() -> str | None:
    """
    Return the id of the once-task whose handler runs in this context; None outside a handler, and in a batch of
    several.
    """
    context = current.get()
    return None if context is None else context.task


def current_resource_key() -> str | None:
    """
    Return the resource key of the handler's task in this context; None outside a handler, or if the task needs none.
    """
    context = current.get()
    return None if context is None else context.key
