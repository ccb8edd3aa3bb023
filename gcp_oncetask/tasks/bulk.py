"""
The creation and deletion of many once-tasks by batched writes. Each write has its own condition, so that a task that
exists does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gcp_oncetask.effects import keys, kin
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.chains import refusal
from gcp_oncetask.errors import OncetaskError, StoreError
from gcp_oncetask.rules import features
from gcp_oncetask.rules.choices import kept_for_runs
from gcp_oncetask.rules.decisions import CallRefused
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.family import PARENT
from gcp_oncetask.rules.record import Chunk, Lock
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.chunk_life import deletion
from gcp_oncetask.store.codec import Document
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.lock_codec import salvage
from gcp_oncetask.store.needs import check_needs, needs_newer
from gcp_oncetask.store.side_writes import Freed
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import creation
from gcp_oncetask.tasks.data import TaskData
from gcp_oncetask.tasks.draft import Created, Draft

T = TypeVar("T")
BATCH: Final = 50
"""Writes of one call, so that 1,000 tasks need 20 calls."""
_TRIES: Final = 10
_MOVED: Final = (5, 9, 10)
"""Statuses of a write that was refused because its document has changed: NOT_FOUND, FAILED_PRECONDITION, ABORTED."""


@dataclass(frozen=True, slots=True)
class CreatedMany:
    """
    The results of ``create_tasks``, one for each payload, in order.

    Attributes:
        items: ``Created``, or the error because of which the task was not created.
    """

    items: tuple[Created | OncetaskError, ...]

    @property
    def created(self) -> int:
        """
        Number of new tasks.
        """
        return sum(not isinstance(item, OncetaskError) and item.created for item in self.items)

    @property
    def errors(self) -> tuple[OncetaskError, ...]:
        """
        The errors. Another call with the same payloads creates the missing tasks.
        """
        return tuple(item for item in self.items if isinstance(item, OncetaskError))

    def __iter__(self) -> Iterator[Created | OncetaskError]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def create_many(
    runtime: Runtime,
    tasks: Sequence[TaskData],
    *,
    path: str,
    create: Callable[[Draft], Created],
    parallel: int,
    progress: Callable[[int, int], None] | None,
) -> CreatedMany:
    """
    Create many tasks; see ``TaskManager.create_tasks``.

    Args:
        runtime: Shared parts.
        tasks: The payloads.
        path: Path or URL of their deliveries.
        create: Creates a single task, if the batch could not do it.
        parallel: Most batches at once.
        progress: Called with the number of tasks that are done and the number of all; None: not called.
    """
    drafts = [creation.draft(runtime, data, path) for data in tasks]
    # Of several drafts with one id, one counts, as if they were created one after the other: the last one if the newest
    # replaces the others, else the first.
    counts: dict[TaskName, int] = {}
    for index, made in enumerate(drafts):
        if made.name not in counts or made.kind.on_conflict == "replace":
            counts[made.name] = index
    chosen = sorted(counts.values())
    batches = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    runtime.store.estimate()
    for url in {made.target.url for made in drafts}:
        runtime.register(None, url)
    outcome: dict[int, Created | OncetaskError] = {}
    done = 0
    for batch, found in zip(
        batches, _each(parallel, lambda b: _create(runtime, create, drafts, b), batches), strict=True
    ):
        outcome |= found
        done += len(batch)
        if progress is not None:
            progress(done, len(chosen))
    return CreatedMany(tuple(_item(runtime, drafts, outcome, index, counts) for index in range(len(drafts))))


def _item(
    runtime: Runtime,
    drafts: Sequence[Draft],
    outcome: dict[int, Created | OncetaskError],
    index: int,
    counts: dict[TaskName, int],
) -> Created | OncetaskError:
    if index in outcome:
        return outcome[index]
    made, other = drafts[index], drafts[counts[drafts[index].name]]
    if made.kind.on_conflict == "replace":
        return Created(made.name.id, created=False, dispatched=False)
    found = creation.drafts_differ(made, other)
    if found and made.kind.on_conflict == "raise":
        return creation.conflict(runtime, made, made.name.path, found)
    return Created(made.name.id, created=False, dispatched=False, differences=tuple(found))


def _each(parallel: int, call: Callable[[Any], T], batches: Sequence[Any]) -> Iterator[T]:
    if parallel <= 1 or len(batches) <= 1:
        yield from map(call, batches)
        return
    with ThreadPoolExecutor(parallel, thread_name_prefix="oncetask-bulk") as pool:
        yield from pool.map(call, batches)


def _create(
    runtime: Runtime, create: Callable[[Draft], Created], drafts: Sequence[Draft], batch: Sequence[int]
) -> dict[int, Created | OncetaskError]:
    """
    Create one batch and dispatch its tasks. Tasks that the batch could not create are created one by one.
    """
    updates = [creation.new_task(runtime, drafts[index]) for index in batch]
    answers: list[tuple[Any, Any]] = []
    try:
        answers = runtime.wire.batch_write([update.message for update in updates])
    except WireError:
        # Each task is created again. A write that was applied is then recognised by its nonce, as after any lost
        # answer.
        answers = [(None, None)] * len(batch)
    found: dict[int, Created | OncetaskError] = {}
    for index, update, (result, status) in zip(batch, updates, answers, strict=True):
        made = drafts[index]
        if status is not None and status.code == 0:
            dispatched = dispatch(runtime, update.applied(result))
            found[index] = Created(made.name.id, created=True, dispatched=dispatched)
            continue
        try:
            found[index] = create(made)
        except OncetaskError as error:
            found[index] = error
    return found


def delete_many(runtime: Runtime, paths: Sequence[str], *, open_runs: bool = False) -> int:
    """
    Delete documents; return the number that existed. The keys that they held are handed over to waiting tasks. Only with
    *open_runs* are those deleted that have begun a run once whose result is not known.

    Each document is deleted only if it is unchanged since it was read, so a late deletion deletes no newer document.

    Raises:
        StoreError: Firestore was unreachable or refused, or a document kept changing; calling again deletes the rest.
        UnknownFeatureError: A record needs a newer release; the other documents are deleted.
        TaskError: A record has such a run; the other documents are deleted.
    """
    deleted = 0
    newer: dict[str, tuple[str, ...]] = {}
    asked: dict[str, CallRefused] = {}
    for start in range(0, len(paths), BATCH):
        left, tries = list(paths[start : start + BATCH]), 0
        while left:
            if tries == _TRIES:
                raise StoreError(f"{left[0]} could not be deleted, because it kept changing; try again.", unknown=False)
            read = runtime.store.documents(left)
            there = {path: document for path, (document, _) in read.items() if document is not None}
            # A damaged record is read as far as possible.
            known = {path: salvage(document)[0] for path, document in there.items()}
            newer |= {path: needs for path, values in known.items() if (needs := features.of(values.get("needs", ())))}
            if not open_runs:
                asked |= {
                    path: no for path, document in there.items() if (no := _kept_for_runs(path, document)) is not None
                }
            found = {path: document for path, document in there.items() if path not in newer and path not in asked}
            codes = _deleted(runtime, found)
            deleted += codes.count(0)
            left = [path for path, code in zip(found, codes, strict=True) if code in _MOVED]
            for path, code in zip(found, codes, strict=True):
                if code and code not in _MOVED:
                    raise StoreError(f"{path} could not be deleted (status {code}); try again.", unknown=True)
            held = [known[path].get("key") for path in found if path not in left]
            for path, document in found.items():
                if path not in left and PARENT in document.fields:
                    kin.child_deleted(runtime, path, document.fields)
            for key in sorted({key for key in held if key is not None}):
                keys.hand_over(runtime, Freed(key))
            tries += 1
    for path, needs in newer.items():
        raise needs_newer(path, needs)
    for path, refused in asked.items():
        raise refusal(path, refused)
    return deleted


def _kept_for_runs(path: str, document: Document) -> CallRefused | None:
    values, troubles = salvage(document)
    return kept_for_runs(path, None if troubles else Lock.of(values), values.get("open", ()))


def delete_unchanged(runtime: Runtime, snapshot: Snapshot) -> bool:
    """
    Delete a document if it is unchanged since *snapshot*. The key that it held is handed over to a waiting task. The caller
    has looked for open runs.

    Returns:
        False: it has changed, or exists no more.

    Raises:
        StoreError: Firestore was unreachable or refused.
        UnknownFeatureError: The record needs a newer release.
    """
    check_needs(snapshot)
    document = snapshot.document
    assert document is not None
    [code] = _deleted(runtime, {snapshot.path: document})
    if code and code not in _MOVED:
        raise StoreError(f"{snapshot.path} could not be deleted (status {code}); try again.", unknown=True)
    if not code and PARENT in snapshot.fields:
        kin.child_deleted(runtime, snapshot.path, snapshot.fields)
    if not code and snapshot.lock is not None and snapshot.lock.key is not None:
        keys.hand_over(runtime, Freed(snapshot.lock.key))
    return not code


def _deleted(runtime: Runtime, found: Mapping[str, Document]) -> list[int]:
    if not found:
        return []
    try:
        writes = {path: runtime.wire.deletion(path, document.update_time) for path, document in found.items()}
        sealed = {path: parts for path, document in found.items() if (parts := salvage(document)[0].get("chunks"))}
        codes = {path: _deleted_whole(runtime, writes.pop(path), parts) for path, parts in sealed.items()}
        if writes:
            answers = runtime.wire.batch_write(list(writes.values()))
            codes |= {path: status.code for path, (_, status) in zip(writes, answers, strict=True)}
        return [codes[path] for path in found]
    except WireError as error:
        raise error.translated("deleting tasks", unknown=error.failure is not FailureClass.REFUSED) from error


def _deleted_whole(runtime: Runtime, write: Any, chunks: Sequence[Chunk]) -> int:
    """
    Delete a record with the sealed parts of its journal, in one commit; return 0, or the code of a record that has moved.
    """
    request = runtime.wire.request()
    request.writes.extend([write, *(deletion(runtime.wire.name, chunk) for chunk in chunks)])
    try:
        runtime.wire.commit(request)
    except WireError as error:
        if error.failure is FailureClass.MOVED:
            return _MOVED[0]
        raise
    return 0
