"""
Take over the tasks of the Go library oncetask, document by document.

Guarantee
    A task that the Go library has completed does not run here. A document that a worker of the Go library has leased is left
    until its lease is over. With ``delete``, the commit that creates a task here deletes the old document, on condition that
    no worker has claimed it since; so workers of the Go library may go on meanwhile. Without, nothing is written to the old
    documents, and a task that has not ended is taken only if its workers are said to be stopped. Safe to interrupt and to
    repeat: a task whose id exists is not created again.

No guarantee
    A worker of the Go library whose lease is over may still run its handler; the Go library itself would start another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gcp_oncetask.checks.told import text_of
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.errors import BackendError, ConfigError, OncetaskError, StoreError, UsageError
from gcp_oncetask.importing.translation import OldTask, UntakenError, env_of, translate
from gcp_oncetask.operate.many import Pace
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store.codec import Document, decode
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import Area, areas_of, count_all, page_by_name
from gcp_oncetask.tasks import creation, generator
from gcp_oncetask.tasks.data import TaskData, kind_of
from gcp_oncetask.tasks.draft import Draft
from gcp_oncetask.tasks.manager import TaskManager, create_drafted, models_of
from gcp_oncetask.tasks.moving import Move

IMPORTED: Final = "imported"
READY: Final = "ready"
EXISTS: Final = "exists"
LEFT: Final = "left"
REFUSED: Final = "refused"
OUTCOMES: Final = (IMPORTED, READY, EXISTS, LEFT, REFUSED)
_PAGE: Final = 300
_TRIES: Final = 3
_MOST_FAILURES: Final = 3
"""Documents in a row at which a service failed, after which an import ends."""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """
    The documents to take, and the way to take them.

    Attributes:
        collection: Their collection.
        env: Their environment; other documents are left out.
        kinds: Kind here of each type there that is taken; empty: all types, each under its own name.
        stopped: Whether all workers of the Go library are stopped, so that tasks that have not ended may be taken.
        delete: Whether each document is deleted in the commit that takes it.
        as_stored: Whether id and resource key of the document count if the model computes others.
        write: False: read and judge only.
    """

    collection: str
    env: str
    kinds: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False
    delete: bool = False
    as_stored: bool = False
    write: bool = True


class ImportReport(NamedTuple):
    """
    The outcome of one document.

    Attributes:
        path: Path of the document.
        kind: Its type; None: it has none.
        outcome: ``imported``; ``ready``, if nothing was to be written; ``exists``; ``left``, for a later call; ``refused``.
        said: The reason, or the state in which it was taken.
        deleted: Whether the document was deleted.
    """

    path: str
    kind: str | None
    outcome: str
    said: str
    deleted: bool = False

    @property
    def taken(self) -> bool:
        """
        True if there is a task for it here, or would be one.
        """
        return self.outcome in (IMPORTED, READY, EXISTS)


def price(manager: TaskManager, collection: str) -> int:
    """
    Return the number of documents that an import of *collection* reads at least.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    return count_all(runtime_of(manager.locker).store, Area(*_place(collection)))


def _place(collection: str) -> tuple[str, str]:
    parent, _, name = collection.rpartition("/")
    return parent, name


class GoImport:
    """
    An import of the documents of the Go library.

    Args:
        manager: The task manager whose handlers give the models of the kinds.
        plan: The documents, and the way to take them.
        pace: Rate and end of the import; None: as fast as it goes, to the last document.

    Attributes:
        passed_over: Number of documents of other environments or types.
    """

    def __init__(self, manager: TaskManager, plan: ImportPlan, pace: Pace | None = None) -> None:
        self._manager, self._plan, self._pace = manager, plan, pace
        self._runtime = runtime_of(manager.locker)
        self._models = models_of(manager)
        self.passed_over = 0

    def run(self) -> Iterator[ImportReport]:
        """
        Take the documents, and report each. Generators come last, after the occurrences that they have made.

        Raises:
            StoreError, BackendError: A service failed at three documents in a row, or while the documents were looked for.
            ConfigError: A setting is missing; nothing more was written.
        """
        generators: list[str] = []
        failures = 0
        for path, document in self._documents():
            if not self._is_ours(document):
                continue
            if document.fields["recurrence"].WhichOneof("value_type") == "map_value":
                generators.append(path)
                continue
            if self._pace is not None and not self._pace.turn():
                return
            report, failed = self._guarded(path, document)
            yield report
            failures = 0 if failed is None else failures + 1
            if failed is not None and failures == _MOST_FAILURES:
                raise failed
        for path in generators:
            if self._pace is not None and not self._pace.turn():
                return
            yield from self._generator(path)

    # --- finding ------------------------------------------------------------------------------------------------------

    def _documents(self) -> Iterator[tuple[str, Document]]:
        [area] = areas_of([self._plan.collection])
        last: str | None = None
        while True:
            found, _ = page_by_name(self._runtime.store, area, _PAGE, last)
            for document in found:
                yield self._runtime.wire.path(document.name), document
            if len(found) < _PAGE:
                return
            last = found[-1].name

    def _is_ours(self, document: Document) -> bool:
        """
        Tell whether the import is about *document*. The once-tasks here may be in the same collection.
        """
        if "lock" in document.fields:
            return False
        fields = {name: decode(document.fields[name]) for name in ("env", "type") if name in document.fields}
        env = env_of(fields)
        wanted = self._plan.kinds
        if env is None or (env == self._plan.env and (not wanted or fields["type"] in wanted)):
            return True
        self.passed_over += 1
        return False

    def _generator(self, path: str) -> Iterator[ImportReport]:
        document = self._runtime.store.document(path)
        if document is None:
            return
        try:
            due = _translated(path, document).occurrence
        except UntakenError:
            due = None
        if due is not None:
            # If the Go library has made this occurrence already, it must be known here before the generator makes it.
            beside = f"{self._plan.collection}/{due}"
            made = self._runtime.store.document(beside)
            if made is not None:
                report, _ = self._guarded(beside, made)
                if report.outcome in (IMPORTED, LEFT):
                    yield report
                if not report.taken:
                    said = f"its occurrence {due} is {report.outcome}: {report.said}"
                    yield ImportReport(path, report.kind, LEFT, said)
                    return
        report, failed = self._guarded(path, document)
        yield report
        if failed is not None:
            raise failed

    # --- taking -------------------------------------------------------------------------------------------------------

    def _guarded(self, path: str, document: Document) -> tuple[ImportReport, OncetaskError | None]:
        """
        Take one document; return its report, and the error if a service has failed.
        """
        try:
            return self._take(path, document), None
        except UntakenError as error:
            return ImportReport(path, _kind(document), REFUSED, str(error)), None
        except ConfigError:
            raise
        except OncetaskError as error:
            failed = error if isinstance(error, BackendError | StoreError) else None
            return ImportReport(path, _kind(document), REFUSED, str(error)), failed

    def _take(self, path: str, document: Document) -> ImportReport:
        for _ in range(_TRIES):
            old = _translated(path, document)
            if not (self._plan.delete or old.past.ended) and self._plan.stopped and self._plan.write:
                # The page may have been read some time ago.
                fresh = self._runtime.store.document(path)
                if fresh is None:
                    return ImportReport(path, old.kind, LEFT, "it was deleted meanwhile")
                document, old = fresh, _translated(path, fresh)
            report = self._decide(path, document, old)
            if report is not None:
                return report
            again = self._runtime.store.document(path)
            if again is None:
                return ImportReport(path, old.kind, LEFT, "it was deleted meanwhile")
            document = again
        return ImportReport(
            path, _kind(document), LEFT, "it keeps changing: a worker of the Go library is at work on it"
        )

    def _decide(self, path: str, document: Document, old: OldTask) -> ImportReport | None:
        """
        Take the task *old*; return None if its document has changed meanwhile.
        """
        plan, runtime = self._plan, self._runtime
        if old.leased(runtime.store.estimate()):
            assert old.leased_until is not None
            said = f"a worker of the Go library has its lease until {instant(old.leased_until)}"
            return ImportReport(path, old.kind, LEFT, said)
        made = self._drafted(path, old)
        if not (old.past.ended or plan.delete or plan.stopped):
            said = f"it is {old.said}, and a worker of the Go library could still run it"
            return ImportReport(path, old.kind, LEFT, said)
        if not plan.write:
            found = runtime.store.get(made.name.path)
            there = creation.differences(made, found) if found.exists else []
            said = _with_differences(old.said, there)
            return ImportReport(path, old.kind, EXISTS if found.exists else READY, said)
        move = Move(runtime, path, document.update_time) if plan.delete else None
        created = create_drafted(self._manager, made, move)
        if created:
            return ImportReport(path, old.kind, IMPORTED, old.said, deleted=plan.delete)
        if move is not None and move.lost:
            return None
        return self._existing(path, document, old, made, list(created.differences))

    def _existing(
        self, path: str, document: Document, old: OldTask, made: Draft, differences: list[str]
    ) -> ImportReport | None:
        lock = self._runtime.store.get(made.name.path).lock
        if lock is None:
            return None
        if old.past.ended and not lock.finished:
            said = (
                f"it is {old.said} in the Go library, and the task of its id here is {lock.status}: cancel that one by "
                f"python -m gcp_oncetask cancel {made.name.path}"
            )
            return ImportReport(path, old.kind, REFUSED, said)
        deleted = False
        if self._plan.delete and not differences:
            deleted = self._delete(path, document)
            if not deleted:
                return None
        return ImportReport(path, old.kind, EXISTS, _with_differences(old.said, differences), deleted)

    def _delete(self, path: str, document: Document) -> bool:
        wire = self._runtime.wire
        try:
            [(_, status)] = wire.batch_write([wire.deletion(path, document.update_time)])
        except WireError as error:
            raise error.translated(f"deleting {path}", unknown=True) from error
        return bool(status.code == 0)

    # --- the task here ------------------------------------------------------------------------------------------------

    def _drafted(self, path: str, old: OldTask) -> Draft:
        """
        Return the task as it is to be created here.

        Raises:
            UntakenError, UsageError: It can't be created.
        """
        model = self._model(old)
        data = model.of(old.data, path)
        past, kind = old.past, kind_of(model)
        if past.recurrence is not None and not generator.recurs(model):
            raise UntakenError(f"it recurs, and {model.__name__} has no recurrence()")
        if kind.max_running is not None and past.resource_key is not None:
            raise UntakenError(
                f"it has the resource key {past.resource_key!r}, and {model.__name__} has max_running= in place of keys"
            )
        if not self._plan.as_stored:
            _check_computed(data, old)
        return creation.draft(self._runtime, data, self._manager.path, past)

    def _model(self, old: OldTask) -> type[TaskData]:
        name = self._plan.kinds.get(old.kind, old.kind)
        model = self._models.get(name)
        if model is None:
            raise UntakenError(f"the task manager has no handler for the kind {name!r}")
        return model


def _check_computed(data: TaskData, old: OldTask) -> None:
    """
    Check that the model computes the id and the resource key of *old*, so that later tasks of the same thing meet it.

    Raises:
        UntakenError: It computes others, or raises.
    """
    past, model = old.past, type(data).__name__
    try:
        id_ = past.id if past.parent_id is not None else data.task_id()
        key = past.resource_key if kind_of(data).max_running is not None else data.resource_key() or None
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - the methods are user code
        raise UntakenError(f"{model} can't name it: {type(error).__name__}: {text_of(error)}") from None
    if id_ != past.id:
        raise UntakenError(
            f"{model}.task_id() is {id_!r}, so another request for it would not meet this task and would run again"
        )
    if key != past.resource_key:
        raise UntakenError(f"{model}.resource_key() is {key!r}, and the document has {past.resource_key!r}")


def _translated(path: str, document: Document) -> OldTask:
    fields: dict[str, Any] = {name: decode(value) for name, value in document.fields.items()}
    if env_of(fields) is None:
        raise UntakenError("it is no task of the Go library: its fields env and type are no texts")
    return translate(path.rpartition("/")[2], fields)


def _kind(document: Document) -> str | None:
    return document.fields["type"].string_value or None if "type" in document.fields else None


def _with_differences(said: str, differences: list[str]) -> str:
    names = ", ".join(creation.without_values(differences))
    return f"{said}; the task here has {creation.another(differences)} ({names})" if differences else said


def summed(tally: Counter[str], passed_over: int) -> str:
    """
    Return the numbers of an import as a sentence.
    """
    counts = ", ".join(f"{tally[each]} {each}" for each in OUTCOMES if tally[each] or each not in (READY, IMPORTED))
    return f"{counts}; {passed_over} of other environments or types passed over"
