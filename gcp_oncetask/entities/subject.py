"""
The entity that the handler of a model is given, and the attempt that belongs to it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.entities import models
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.handler_spec import unfit
from gcp_oncetask.execution.results import Continue
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Changes, Snapshot


class Entities:
    """
    Gives the handler of a model its subject: the entity of the attempt.
    """

    def __init__(self, model: type[models.LockedModel]) -> None:
        self.model = model

    def unread(self, runtime: Runtime, seen: Snapshot) -> str | None:
        """
        Return the reason why the fields of *seen* do not fit the model, if the sequence was scheduled by another model.
        """
        lock = seen.lock
        written = None if lock is None else lock.written_by(str(lock.sequence))
        return unfit(written, self.model, lambda: models.load(self.model, seen, runtime.store.reference))

    def written_at(self, seen: Snapshot) -> datetime | None:
        """
        Return None: the time is not known for an entity.
        """
        return None

    def load(self, runtime: Runtime, attempt: RunningAttempt) -> models.LockedModel:
        """
        Load the entity and bind it to its attempt.
        """
        entity = models.load(self.model, attempt.snapshot, runtime.store.reference, attempt)
        attempt.model = fingerprint(self.model)
        attempt.collection = self.model.__collection__
        return entity

    def changes(self, subject: models.LockedModel, value: Any) -> Changes:
        """
        Return the changed fields of the entity.

        Raises:
            UsageError: The value is a Continue with data, which only once-tasks have.
        """
        if isinstance(value, Continue) and value.data is not None:
            raise UsageError(
                "Continue(data=...) is for once-tasks; an entity's changed fields are saved by themselves."
            )
        return models.changes_of(subject)


def attempt_of(entity: models.LockedModel) -> RunningAttempt | None:
    """
    Return the attempt to which *entity* belongs; None outside its handler.
    """
    binding = models.binding_of(entity)
    return None if binding is None else binding.attempt
