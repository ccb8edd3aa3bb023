"""
Generators: tasks that recur. When a generator is due, one commit creates its occurrences and sets its next time. So
neither can happen without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gcp_oncetask import rules
from gcp_oncetask.effects import damage, owed_alerts
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import DamagedError, RecurrenceError
from gcp_oncetask.execution.claiming import postpone
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.rules.decisions import NeedTime, Put, Refused, Target
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode, encode
from gcp_oncetask.store.snapshot import Changes, Snapshot, Update
from gcp_oncetask.tasks.creation import new_task, overlap_key
from gcp_oncetask.tasks.data import Kind, TaskData, kind_of
from gcp_oncetask.tasks.draft import Draft

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence

LAST: Final = "lastOccurrence"
"""Field of a generator: the document of the occurrence that it made last."""


def recurs(model: type[TaskData]) -> bool:
    """
    Tell whether tasks of this model may be generators.
    """
    return model.recurrence is not TaskData.recurrence


def deliver(runtime: Runtime, model: type[TaskData], delivery: Delivery, start: Snapshot) -> Ended | None:
    """
    Make the due occurrences of the generator of *delivery*, which was read as *start*. Return None if the task is no
    generator.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    if "recurrence" not in start.fields:
        return None
    return _step(runtime, kind_of(model), delivery, start)


def make_due(runtime: Runtime, kind: Kind, seen: Snapshot) -> None:
    """
    Make the due occurrences of a generator, as its delivery would.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    assert seen.lock is not None
    _step(runtime, kind, Delivery.present(seen.path, seen.lock), seen)


def _step(runtime: Runtime, kind: Kind, delivery: Delivery, start: Snapshot) -> Ended:
    step = _Step(runtime, kind, delivery)
    changed = runtime.store.change(delivery.document, step.decide, start=start, changes=step.changes, along=step)
    decision = changed.decision
    if isinstance(decision, Refused):
        return postpone(runtime, changed.snapshot, decision)
    assert isinstance(decision, Put)
    owed_alerts.send_newly_owed(runtime, start.lock, changed.snapshot, runtime.clock.mark())
    failed = sum(not dispatch(runtime, made) for made in step.made)
    failed += decision.dispatch and not dispatch(runtime, changed.snapshot)
    assert decision.outcome is not None
    left = f"; {failed} deliveries could not be made, the sweeper will" if failed else ""
    about = partial(runtime.about, start, delivery.sequence)
    return Ended(decision.outcome, f"{len(step.made)} occurrences made{left}", about)


class _Step:
    """
    A step of a generator: its decision, and the occurrences that are created in the same commit.
    """

    def __init__(self, runtime: Runtime, kind: Kind, delivery: Delivery) -> None:
        self._runtime = runtime
        self._kind = kind
        self._delivery = delivery
        self._nonce = runtime.clock.nonce()
        self._planned: list[Draft] = []
        self._there: set[str] = set()
        self._written: list[Update] = []
        self._tried: dict[str, Update] = {}
        self.made: list[Snapshot] = []

    def decide(self, seen: Snapshot) -> Put | Refused | NeedTime:
        """
        Decide which occurrences are due, and when the generator is due again.
        """
        from gcp_oncetask.tasks.recurrence import Recurrence, advance

        at = self._runtime.decision_context(seen)
        refusal = rules.ready(seen.lock, self._delivery, at)
        if refusal is not None:
            return refusal
        lock = seen.lock
        assert lock is not None
        due = lock.wait_until or at.now
        try:
            recurrence = Recurrence.from_data(decode(seen.fields["recurrence"]))
            step = advance(recurrence, due, max(at.now, due))
        except (RecurrenceError, TypeError, AttributeError) as error:
            # Another try can't help, so the generator fails, and a person is told.
            self._planned = []
            return rules.fail(lock.but(settled_by=self._nonce), f"its stored recurrence can't be read: {error}", at)
        spawn = step.spawn
        if spawn and recurrence.overlap == "skip":
            # Of several missed occurrences only the newest is made, because they would overlap each other.
            spawn = () if self._last_runs(seen) else spawn[-1:]
        # The generator refers to its last occurrence until it makes the next one.
        referred = 0.0 if step.next is None else max(0.0, (step.next - at.now).total_seconds())
        self._planned = [
            self._occurrence(seen, recurrence, nominal, referred if nominal == spawn[-1] else 0.0)
            for nominal in spawn
            if self._path(seen, nominal) not in self._there
        ]
        return rules.recur(lock, step.next, self._nonce, at)

    def _last_runs(self, seen: Snapshot) -> bool:
        """
        Tell whether the last occurrence has not ended; a quarantined one may still run. A missing document counts as ended:
        TTL deletes only ended tasks (``rules.retention``), and the handler of a task that a person has deleted can write
        nothing more.
        """
        if LAST not in seen.fields:
            return False
        try:
            last = self._runtime.store.get(decode(seen.fields[LAST]))
        except DamagedError as error:
            # The occurrence may run. Later ones wait until it is repaired, and the generator goes on.
            damage.attend(self._runtime, error)
            return True
        return last.lock is not None and not last.lock.finished

    def _name(self, seen: Snapshot, nominal: datetime) -> TaskName:
        from gcp_oncetask.tasks.recurrence import occurrence_id

        generator = decode(seen.fields["id"])
        return TaskName(self._runtime.config.env, self._kind.name, occurrence_id(generator, nominal))

    def _path(self, seen: Snapshot, nominal: datetime) -> str:
        return self._name(seen, nominal).path

    def _occurrence(self, seen: Snapshot, recurrence: Recurrence, nominal: datetime, referred: float) -> Draft:
        fields, lock = seen.fields, seen.lock
        assert lock is not None
        generator, digest = decode(fields["id"]), decode(fields["dataHash"])
        key = decode(fields["resourceKey"]) if "resourceKey" in fields else None
        if key is None and recurrence.overlap == "queue":
            key = overlap_key(self._kind.name, generator)
        return Draft(
            name=self._name(seen, nominal),
            kind=self._kind,
            target=Target(lock.url, lock.queue, wait_until=nominal, traceparent=lock.traceparent),
            payload=decode(fields["data"]),
            stored=fields["data"],
            digest=digest,
            nonce=self._runtime.clock.nonce(),
            resource_key=key,
            needed=referred,
            extra={"parentRecurrenceId": generator, "occurrenceAt": nominal},
            model=lock.written_by(digest),
        )

    def changes(self, seen: Snapshot) -> Changes:
        """
        Return the field of the generator that names its last occurrence.
        """
        return Changes({LAST: encode(self._planned[-1].name.path)}) if self._planned else Changes()

    # --- along --------------------------------------------------------------------------------------------------------

    def writes(self, put: Put) -> Sequence[Any]:
        """
        Return the write that creates each occurrence.
        """
        self._written = [new_task(self._runtime, draft) for draft in self._planned]
        self._tried |= {update.before.path: update for update in self._written}
        return [update.message for update in self._written]

    def done(self, results: Sequence[Any] | None) -> None:
        """
        Note the occurrences that the commit has created.
        """
        if results is not None:
            self.made = [update.applied(result) for update, result in zip(self._written, results, strict=True)]
            return
        # The lost answer may belong to an earlier try, whose occurrences are not planned any more.
        self.made = [Snapshot(path, None, None, update.lock, whole=False) for path, update in self._tried.items()]

    def again(self) -> None:
        """
        Look which planned occurrences exist already; for these the generator only advances.
        """
        paths = [draft.name.path for draft in self._planned]
        if paths:
            found = self._runtime.store.documents(paths)
            self._there |= {path for path, (document, _) in found.items() if document is not None}
