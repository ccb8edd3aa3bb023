"""
The sweep, a periodic pass over due documents: dispatch again, judge expired leases, send owed alerts. A sweep never runs
user code, and any number of sweeps at the same time is harmless.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import partial

from gcp_oncetask import rules
from gcp_oncetask.checks.told import said_by
from gcp_oncetask.effects import damage, keys, kin, owed_alerts
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import ConfigError, DamagedError, OncetaskError, StoreError
from gcp_oncetask.execution import takeover
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.recovery import unfetched
from gcp_oncetask.recovery.digests import MOST, Digests
from gcp_oncetask.recovery.rounds import Round
from gcp_oncetask.recovery.unclaimed import Unclaimed
from gcp_oncetask.rules import features, verbs
from gcp_oncetask.rules.decisions import Expired, Lost, NeedTime, Put, Refused, SweepAction
from gcp_oncetask.rules.document_paths import LOCKS, parse_task_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Status
from gcp_oncetask.runtime.requirements import DISPATCH
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Document
from gcp_oncetask.store.queries import due_for_workers
from gcp_oncetask.store.snapshot import Changes, Snapshot, snapshot_of

BATCH = 50
"""Number of expired leases that are judged with one query of the logs."""


@dataclass(slots=True)
class Swept:
    """
    The actions of a sweep, in numbers.

    Attributes:
        looked: Documents that were due.
        dispatched: Cloud Tasks made again.
        queued: Tasks that are still in their queue; only their due time was moved.
        left: Tasks whose Cloud Task may not be made here (``ONCETASK_TARGETS``), left to other processes; only their due
            time was moved.
        taken_over: Expired leases released, completed from the evidence, or given up.
        unknown: Expired leases left alone for now.
        quarantined: Expired leases handed to a person.
        handed_over: Resource keys given to a task that waited.
        alerted: Alerts sent.
        reminded: Mails sent about all records that still need a person; 0 or 1.
        damaged: Documents that could not be decoded.
        newer: Documents that need a newer release; they stay due.
        failed: Documents at which an error was raised; they stay due.
        needs: Features that the documents for newer releases need.
        collections: The swept collections: paths and templates.
    """

    looked: int = 0
    dispatched: int = 0
    queued: int = 0
    left: int = 0
    taken_over: int = 0
    unknown: int = 0
    quarantined: int = 0
    handed_over: int = 0
    alerted: int = 0
    reminded: int = 0
    damaged: int = 0
    newer: int = 0
    failed: int = 0
    needs: list[str] = field(default_factory=list, repr=False)
    collections: tuple[str, ...] = field(default=(), repr=False)

    def add(self, unclaimed: Unclaimed) -> None:
        """
        Add the counts of the unclaimed tasks.
        """
        for name in ("dispatched", "queued", "left", "alerted", "failed"):
            setattr(self, name, getattr(self, name) + getattr(unclaimed, name))

    def __str__(self) -> str:
        numbers = ", ".join(f"{getattr(self, f.name)} {f.name.replace('_', ' ')}" for f in fields(self) if f.repr)
        return f"{numbers} (in {', '.join(self.collections)})"


def sweep(runtime: Runtime, *, collections: tuple[str, ...] | None = None, limit: int = 10_000) -> Swept:
    """
    Attend to every document that is due.

    A collection whose query fails does not hold up the others: the failure is logged at once, and raised at the end.

    Args:
        runtime: Shared parts of the environment and database.
        collections: Paths or templates; None: the library's own, those in which a process of this environment has scheduled,
            those of the models known to this process and those configured.
        limit: Most documents; the rest is left to the next sweep.

    Raises:
        ConfigError: No project is known, or a document needs a Cloud Task and the account of its identity token is not
            known.
        StoreError: Firestore was unreachable or refused a query. The sweep of the other collections is done; the error has
            its numbers as ``swept``.
    """
    around = Round(runtime, collections)
    swept = Swept(collections=around.collections)
    expired: list[Snapshot] = []
    complain = partial(_complain, runtime)
    unclaimed, digests = Unclaimed(runtime, complain), Digests(runtime, complain)
    for document, read in around.all_due():
        if swept.looked - unclaimed.unasked >= limit:
            break
        swept.looked += 1
        _guarded(runtime, swept, document, read, expired, digests, unclaimed)
        if len(expired) >= BATCH:
            _judge(runtime, swept, expired)
    _judge(runtime, swept, expired)
    unclaimed.close()
    swept.add(unclaimed)
    swept.alerted += unfetched.tell(runtime, around.pulled)
    swept.alerted += digests.close() or 0
    if LOCKS in around.collections:
        swept.handed_over += keys.look_for_forgotten(runtime)
    if (error := around.error(swept=swept)) is not None:
        raise error
    return swept


def _guarded(
    runtime: Runtime,
    swept: Swept,
    document: Document,
    read: datetime,
    expired: list[Snapshot],
    digests: Digests,
    unclaimed: Unclaimed,
) -> None:
    """
    Attend to one document; an error there does not hold up the other documents.
    """
    path = runtime.wire.path(document.name)
    try:
        snapshot = snapshot_of(path, document, read)
    except DamagedError as error:
        swept.damaged += 1
        damage.set_aside(runtime, error, document)
        return
    if features.unknown(snapshot.lock):
        _leave_alone(runtime, swept, snapshot)
        return
    with _alone(runtime, swept, snapshot):
        _one(runtime, swept, snapshot, expired, digests, unclaimed)


@contextmanager
def _alone(runtime: Runtime, swept: Swept, snapshot: Snapshot) -> Iterator[None]:
    """
    Handle errors of the block about the document of *snapshot*, so that they do not hold up the other documents.
    """
    try:
        yield
    except DamagedError as error:
        # The document was damaged after it was found, or another document that it needs is damaged.
        swept.damaged += 1
        _complain(runtime, snapshot, error)
        damage.attend(runtime, error)
    except ConfigError as error:
        # A missing setting would fail every other document, too, so it ends the sweep.
        runtime.require(DISPATCH)
        _upset(runtime, swept, snapshot, error)
    except OncetaskError as error:
        swept.failed += 1
        _complain(runtime, snapshot, error)
    except Exception as error:  # noqa: BLE001 - a document that upsets the rules
        _upset(runtime, swept, snapshot, error)


def _upset(runtime: Runtime, swept: Swept, snapshot: Snapshot, error: Exception) -> None:
    swept.damaged += 1
    runtime.about(snapshot).log(logging.ERROR, "sweeping it failed", exc_info=error)
    trouble = said_by(error)
    document = snapshot.document
    assert document is not None
    what = f"{snapshot.path}: sweeping it failed, so its record is held to be damaged: {trouble[:200]}."
    damaged = DamagedError(what, document=snapshot.path, field="record", trouble=trouble[:200], env=None, unknown=False)
    damage.set_aside(runtime, damaged, document)


def _leave_alone(runtime: Runtime, swept: Swept, snapshot: Snapshot) -> None:
    """
    Leave a record alone that this release does not understand. It is logged once for each feature, and does not count
    against the limit.
    """
    for feature in features.unknown(snapshot.lock):
        if feature in swept.needs:
            continue
        swept.needs.append(feature)
        about = runtime.about(snapshot)
        about.log(
            logging.ERROR,
            "it needs %r, which this release does not know; it and all like it are left to a newer one: deploy that here too",
            feature,
        )
    swept.newer += 1
    swept.looked -= 1


def _complain(runtime: Runtime, snapshot: Snapshot, error: OncetaskError) -> None:
    about = runtime.about(snapshot)
    about.log(logging.ERROR, "sweeping it failed: %s", error)
    if isinstance(error, StoreError) and error.final:
        try:
            keys.attend_refused(runtime, error)
        except OncetaskError as failed:
            about.log(logging.ERROR, "it could not be ended either: %s", failed)


def _one(
    runtime: Runtime,
    swept: Swept,
    snapshot: Snapshot,
    expired: list[Snapshot],
    digests: Digests,
    unclaimed: Unclaimed | None = None,
) -> None:
    lock = snapshot.lock
    if lock is None or lock.env != runtime.config.env:
        return
    if verbs.record_of(snapshot.path, lock, {}).sort is verbs.Sort.RESOURCE_KEY:
        swept.handed_over += keys.attend(runtime, snapshot)
        return
    found = rules.look(lock, runtime.decision_context(snapshot))
    match found.action:
        case SweepAction.PUT:
            assert found.put is not None
            runtime.store.put(snapshot, found.put)
        case SweepAction.ERASE:
            assert found.put is not None
            runtime.store.put(snapshot, found.put, Changes({"data": None}))
        case SweepAction.CHILDREN:
            assert found.put is not None
            if kin.ask(runtime, snapshot):
                swept.dispatched += 1
            else:
                runtime.store.put(snapshot, found.put)
        case SweepAction.ORPHANS:
            kin.attend(runtime, snapshot)
        case SweepAction.ALERT:
            swept.alerted += digests.attend(snapshot, found.owed)
        case SweepAction.DISPATCH:
            assert unclaimed is not None
            unclaimed.attend(snapshot, lock)
        case SweepAction.JUDGE:
            expired.append(snapshot)
        case SweepAction.LEAVE:
            pass


def attend(runtime: Runtime, snapshot: Snapshot) -> Ended | None:
    """
    Attend to a task of the workers that does not need to run: send its alerts, erase its payload, judge its holder, or
    correct its due time.

    Returns:
        RECOVERED: that is done. BUSY: another process sends its alerts at this moment. UNAVAILABLE: it failed. None: the
        task must be run.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    lock = snapshot.lock
    assert lock is not None
    found = rules.look(lock, runtime.decision_context(snapshot))
    if found.action is SweepAction.DISPATCH or (found.action is SweepAction.JUDGE and lock.status is Status.LEASED):
        return None
    swept, expired, digests = Swept(), list[Snapshot](), Digests(runtime, partial(_complain, runtime))
    _one(runtime, swept, snapshot, expired, digests)
    _judge(runtime, swept, expired)
    if digests.close(partial(_others, runtime, snapshot, digests)) is None:
        return Ended(Outcome.BUSY, "another process sends its alerts")
    if digests.failed or swept.failed or swept.damaged:
        return Ended(Outcome.UNAVAILABLE, "its alerts or its holder could not be attended to")
    return Ended(Outcome.RECOVERED, str(found.action))


def _others(runtime: Runtime, snapshot: Snapshot, digests: Digests) -> None:
    """
    Attend to alerts that other tasks of the same kind owe to digests, because sweeps skip the tasks of workers.
    """
    name, config = parse_task_path(snapshot.path), runtime.config
    if name is None:
        return
    aside = partial(damage.set_aside, runtime)
    for other in due_for_workers(runtime.store, config.env, name.kind, range(config.pull_shards), MOST, aside):
        at, lock = runtime.decision_context(other), other.lock
        if other.path == snapshot.path or lock is None or at.read is None or features.unknown(lock):
            continue
        digests.attend(other, [o.id for o in lock.owed if o.digest is not None and o.until <= at.read])


# --- judge ------------------------------------------------------------------------------------------------------------


def _judge(runtime: Runtime, swept: Swept, expired: list[Snapshot]) -> None:
    batch, expired[:] = list(expired), []
    if not batch:
        return
    for judged in takeover.judge_all(runtime, batch):
        with _alone(runtime, swept, judged.snapshot):
            _take_over(runtime, swept, judged)


def _take_over(runtime: Runtime, swept: Swept, judged: takeover.Judged) -> None:
    before = takeover.lock_of(judged.snapshot)
    if before.url is not None:
        runtime.require(DISPATCH)
    changed = takeover.commit_takeover(runtime, judged, None)
    decision: Put | Refused | Lost | NeedTime | Expired = changed.decision
    if isinstance(decision, Refused) and decision.outcome in (Outcome.UNKNOWN, Outcome.QUARANTINED):
        swept.unknown += before.status is Status.LEASED
        runtime.store.put(judged.snapshot, rules.later(before, runtime.decision_context(judged.snapshot)))
        return
    if not isinstance(decision, Put):
        return
    runtime.events.taken_over(runtime.about(judged.snapshot), judged.verdict, decision.outcome)
    if decision.outcome is Outcome.QUARANTINED:
        swept.quarantined += 1
    else:
        swept.taken_over += 1
    if decision.dispatch:
        swept.dispatched += dispatch(runtime, changed.snapshot)
    swept.alerted += owed_alerts.send_newly_owed(runtime, before, changed.snapshot, runtime.clock.mark())
