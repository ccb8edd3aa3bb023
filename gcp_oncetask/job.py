"""
What a delivery runs: a handler, what it is given, and how it wants its leases and retries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gcp_oncetask import models
from gcp_oncetask.attempt import Attempt, Continue
from gcp_oncetask.decision import Policy
from gcp_oncetask.engine import Engine
from gcp_oncetask.errors import UsageError
from gcp_oncetask.record import Lock
from gcp_oncetask.retry import RetryPolicy
from gcp_oncetask.store.snapshot import Changes


class Subject(Protocol):
    """
    What a handler is given: how it is made of a document, and what of it is saved.
    """

    def load(self, engine: Engine, attempt: Attempt) -> Any:
        """
        The subject of *attempt*.

        Raises:
            UsageError: What is stored does not fit.
        """

    def changes(self, subject: Any, value: Any) -> Changes:
        """
        The fields to save with the settling, of a run that ended in *value*: a result or a verdict.

        Raises:
            UsageError: The value asks for what can't be stored.
        """


@dataclass(frozen=True, slots=True)
class Job:
    """
    A handler with what its deliveries need.

    Attributes:
        subject: What it is given.
        run: User code: (subject, attempt, **route variables) -> result or verdict.
        policy: How it wants its leases.
        retry: Retry policy; None: the queue retries.
        renew: Whether leases are renewed while it runs.
        keyed: Whether its documents may need a resource key.
        cleanup: The handler of cancelled tasks, if there is one.
    """

    subject: Subject
    run: Callable[..., Any]
    policy: Policy
    retry: RetryPolicy | None
    renew: bool
    keyed: bool = False
    cleanup: Job | None = None

    def of(self, lock: Lock | None) -> Job:
        """
        The handler for a document with this record.
        """
        cancelled = lock is not None and lock.cancel_requested_at is not None
        return self.cleanup if cancelled and self.cleanup is not None else self


class Entities:
    """
    What the handler of a model is given: the entity of the attempt.
    """

    def __init__(self, model: type[models.LockedModel]) -> None:
        self.model = model

    def load(self, engine: Engine, attempt: Attempt) -> models.LockedModel:
        """
        The entity, bound to its attempt.
        """
        entity = models.load(self.model, attempt.snapshot, engine.store.reference)
        models.bind(entity, attempt)
        return entity

    def changes(self, subject: models.LockedModel, value: Any) -> Changes:
        """
        Its changed fields.

        Raises:
            UsageError: The value is a Continue with data, which once-tasks have.
        """
        if isinstance(value, Continue) and value.data is not None:
            raise UsageError(
                "Continue(data=...) is for once-tasks; an entity's changed fields are saved by themselves."
            )
        return models.changes_of(subject)
