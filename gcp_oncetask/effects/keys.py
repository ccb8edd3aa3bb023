"""
Resource keys: a claim takes the key in its own commit, or parks the task. The process that gives a key back hands it
over to the task that has waited longest.

Shape:
    onceLocks/{..}:{env}:key:{key}: ``lock`` (``status`` leased or completed, ``holder`` the path of the task that has
    the key, ``token`` the fencing token of its attempt, ``scheduledBy`` the nonce of its attempt once it has claimed,
    ``due`` only while tasks wait), ``key``, ``waiting`` (0 or 1).

A crash between giving back and handing over loses nothing: the key's document is due, and the sweeper hands the key
over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from gcp_oncetask.checks.values import LATEST
from gcp_oncetask.effects import damage, refused
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import DamagedError, OncetaskError, StoreError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import features
from gcp_oncetask.rules import keys as rules
from gcp_oncetask.rules.decisions import DecisionContext, Put, Refused
from gcp_oncetask.rules.document_paths import KEY, key_path, parked_place, parked_prefix
from gcp_oncetask.rules.keys import KeyStanding
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.needs import check_needs
from gcp_oncetask.store.queries import parked, waited_for
from gcp_oncetask.store.side_writes import Freed, key_write
from gcp_oncetask.store.snapshot import NO_CHANGES, Snapshot, Update, snapshot_of

_TRIES: Final = 20
_NEVER: Final = LATEST - timedelta(days=366)
_MAY_RUN: Final = Lock.of(
    {"env": "", "sequence": 1, "status": Status.LEASED, "granted_at": _NEVER, "leased_at": _NEVER}
)
"""Record that stands for the record of a key's holder, if that can't be read."""


@dataclass(frozen=True, slots=True)
class Contested:
    """
    The answer that the lease of the key's *holder* has expired. The holder must be judged by the evidence before the
    next claim.
    """

    holder: Snapshot


class Gate:
    """
    The resource key of one claim.

    Args:
        runtime: Shared parts.
        path: Document of the task.
        key: The key that it needs.
        undecided: Nonce of an expired holder that was judged already, with the verdict that nothing is known about it.

    Attributes:
        free: Whether the key is free although the task was parked, behind others that wait. Then the key must be handed
            over.
        version: Update time of the key's document after the claim has written it; None: it was not written, or the
            answer was lost.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """

    def __init__(self, runtime: Runtime, path: str, key: str, *, undecided: str | None = None) -> None:
        self._runtime = runtime
        self._path = path
        self.key = key
        self._undecided = undecided
        self._write: Any | None = None
        self.free = False
        self.version: Any | None = None
        self.again()

    def again(self) -> None:
        """
        Read the key and its holder.
        """
        self._write = None
        self._record, self._holder = read_key(self._runtime, self.key, but=self._path)

    def admit(self, seen: Snapshot, put: Put, at: DecisionContext) -> Put | Refused | Contested:
        """
        Return the grant *put* if the key can be taken with it; otherwise park the task, or return ``Contested``.
        """
        key, holder = self._record.lock, self._holder
        read = self._record.read if holder is None else holder.read
        assert read is not None
        found = rules.standing(key, self._path, put.lock.token, None if holder is None else holder.lock, read)
        self._write = None
        self.free = found is KeyStanding.FREE and _waiting(self._record)
        if found is KeyStanding.EXPIRED and holder is not None and not self._is_undecided(holder):
            return Contested(holder)
        if found not in (KeyStanding.FREE, KeyStanding.OURS) or self.free:
            return self._park(seen, at)
        taken = rules.taken(key, at.env, self._path, put.lock.token, self._runtime.clock.nonce())
        self._write = self._written(taken, waiting=_waiting(self._record))
        return put

    def _is_undecided(self, holder: Snapshot) -> bool:
        return holder.lock is not None and holder.lock.holder == self._undecided

    def _park(self, seen: Snapshot, at: DecisionContext) -> Put | Refused:
        lock, key = seen.lock, self._record.lock
        assert lock is not None
        assert key is not None
        reason = f"it waits for the resource key {self.key!r}, which {key.holder or 'another one that waits'} has"
        if lock.parked is not None:
            return Refused(Outcome.PARKED, reason)
        created = decode(seen.fields["createdAt"])
        waited = rules.look_at_key(key, self._runtime.place(self._record.path, KEY), at)
        self._write = self._written(waited, waiting=True)
        return rules.park(lock, parked_place(at.env, self.key, lock.wait_until, created), at)

    def _written(self, after: Lock, *, waiting: bool) -> Any:
        name = self._runtime.wire.name(self._record.path)
        return key_write(name, self.key, self._record.version, after, waiting=waiting)

    def writes(self, put: Put) -> Sequence[Any]:
        """
        Return the write of the key's document, if the decision needs one.
        """
        return () if self._write is None else (self._write,)

    def done(self, results: Sequence[Any] | None) -> None:
        """
        Keep the version of the key's document, which the end of the attempt needs.
        """
        self.version = results[0].update_time if results else None


def read_key(runtime: Runtime, key: str, *, but: str = "") -> tuple[Snapshot, Snapshot | None]:
    """
    Return the key's document and its holder's document, each with the server's time. The latter is None if no task
    holds the key, or if *but* holds it.
    """
    path = key_path(runtime.config.env, key)
    record = runtime.store.read_all([path])[path]
    check_needs(record)
    lock = record.lock
    if lock is None or lock.status is not Status.LEASED or lock.holder in (None, but):
        return record, None
    path = lock.holder
    assert path is not None
    document, read = runtime.store.documents([path])[path]
    try:
        return record, snapshot_of(path, document, read)
    except DamagedError as error:
        # The holder may run, so it keeps the key until its record is repaired.
        assert document is not None
        damage.pass_over(runtime, error, document)
        return record, Snapshot(path, None, None, _MAY_RUN.but(token=lock.token), read)


def _waiting(record: Snapshot) -> bool:
    return "waiting" in record.fields and bool(decode(record.fields["waiting"]))


# --- hand-over --------------------------------------------------------------------------------------------------------


def hand_over(runtime: Runtime, freed: Freed) -> None:
    """
    Hand over a freed key to the task that has waited longest. A failure is logged and left to the sweeper.
    """
    try:
        pass_on(runtime, freed.key, freed.version)
    except OncetaskError as error:
        LOGGER.warning("the resource key %r was not handed over: %s The sweep hands it over.", freed.key, error)


def pass_on(runtime: Runtime, key: str, version: Any = None) -> bool:
    """
    Hand over *key* to the task that has waited longest, if the key is free.

    Args:
        runtime: Shared parts.
        key: The key.
        version: Update time at which the key's document shows it free; None: the document is read.

    Returns:
        Whether a task has got the key.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    path = key_path(runtime.config.env, key)
    skipped: set[str] = set()
    for _ in range(_TRIES):
        if version is None:
            record, holder = read_key(runtime, key)
            if _standing(record, holder) is not KeyStanding.FREE:
                _remember(runtime, key, record)
                return False
            if record.lock is None:
                # A person has deleted the key's document, and with it the note that tasks wait.
                record = Snapshot(path, record.version, None, rules.unused(runtime.config.env))
        else:
            record, version = Snapshot(path, version, None, rules.unused(runtime.config.env)), None
        waiters, newer = _waiters(runtime, key, skipped)
        try:
            done = _give(runtime, key, record, waiters, newer=newer)
        except StoreError as error:
            if not waiters or not error.of_contents:
                raise
            # The tasks behind this one must not wait for a task that can't be written any more.
            error.seen = waiters[0]
            refused.attend(runtime, error)
            skipped.add(waiters[0].path)
            continue
        if done is not None:
            return done
    return False


def _standing(record: Snapshot, holder: Snapshot | None) -> KeyStanding:
    read = record.read if holder is None else holder.read
    assert read is not None
    return rules.standing(record.lock, "", 0, None if holder is None else holder.lock, read)


def _remember(runtime: Runtime, key: str, record: Snapshot) -> None:
    """
    Note on the document of a held *key* that tasks wait. The note is missing if a person has deleted the document and a
    claim has made it again.
    """
    lock = record.lock
    if lock is None or _waiting(record) or not parked(runtime.store, parked_prefix(runtime.config.env, key), limit=1):
        return
    request = runtime.wire.request()
    watched = rules.look_at_key(lock, runtime.place(record.path, KEY), runtime.decision_context(record))
    request.writes.append(key_write(runtime.wire.name(record.path), key, record.version, watched, waiting=True))
    # If this is refused, another process has written the document. It knows of the waiting tasks, or the next sweep
    # looks again.
    runtime.store.commit_both(request)


def _waiters(runtime: Runtime, key: str, refused: Collection[str]) -> tuple[list[Snapshot], bool]:
    """
    Return the first two tasks that wait for *key*, and whether others were passed over because they need a newer
    release or are *refused*.
    """
    limit = 2
    while True:
        aside = partial(damage.pass_over, runtime)
        found = parked(runtime.store, parked_prefix(runtime.config.env, key), limit=limit, aside=aside)
        mine = [one for one in found if one.path not in refused and not features.unknown(one.lock)]
        if len(mine) >= 2 or len(found) < limit:
            return mine[:2], len(mine) < len(found)
        limit *= 4


def _give(runtime: Runtime, key: str, record: Snapshot, waiters: Sequence[Snapshot], *, newer: bool) -> bool | None:
    """
    Commit the hand-over to the first of *waiters*. If *newer* is true, other tasks wait that only a newer release can
    give the key to, so the key stays due.

    Returns:
        Whether a task has got the key; None if another process was quicker.
    """
    store, lock = runtime.store, record.lock
    assert lock is not None
    first = waiters[0] if waiters else None
    if first is None and record.version is None:
        return False
    at = runtime.decision_context(first or record)
    request = runtime.wire.request()
    place, more_wait = runtime.place(record.path, KEY), newer or len(waiters) > 1
    after = lock.but(status=Status.COMPLETED, holder=None, due=None)
    update = None
    put = None
    if first is not None:
        assert first.lock is not None
        put = rules.unpark(first.lock, at)
        more = store.consequences(first, put.lock)
        update = Update(runtime.wire.write(first.path, request), first, put.lock, NO_CHANGES.with_(more.fields))
        after = rules.taken(lock, at.env, first.path, first.lock.token + 1, runtime.clock.nonce()).but(due=None)
    if more_wait:
        after = rules.look_at_key(after, place, at)
    request.writes.append(key_write(runtime.wire.name(record.path), key, record.version, after, waiting=more_wait))
    response = store.commit_both(request)
    if response is None:
        return None
    if update is not None and put is not None:
        dispatch(runtime, update.applied(response.write_results[0]))
        message = f"it is given the resource key {key!r} that it waited for"
        runtime.events.key_handed_over(partial(runtime.about, update.before), message)
    return first is not None


def attend(runtime: Runtime, snapshot: Snapshot) -> bool:
    """
    Deal with a key's document that is due, for the sweeper: hand the key over, or look at it again later.

    Returns:
        Whether a task has got the key.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    key = str(decode(snapshot.fields["key"]))
    if pass_on(runtime, key):
        return True
    record, _ = read_key(runtime, key)
    lock = record.lock
    if lock is not None and lock.due is not None and lock.due == (snapshot.lock or lock).due:
        request = runtime.wire.request()
        later = rules.look_at_key(lock, runtime.place(record.path, KEY), runtime.decision_context(record))
        name = runtime.wire.name(record.path)
        request.writes.append(key_write(name, key, record.version, later, waiting=_waiting(record)))
        runtime.store.commit_both(request)
    return False


def look_for_forgotten(runtime: Runtime) -> int:
    """
    Find tasks that wait for a key whose document does not know of them, because a person has deleted it. The first one
    gets the key if it is free; otherwise the key's document notes that tasks wait. The sweeper uses this.

    If the key's document is damaged, a person is told.

    Returns:
        Number of keys handed over.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    given = 0
    for names in waited_for(runtime.store, runtime.config.env):
        paths = {key_path(runtime.config.env, name): name for name in names}
        found = runtime.store.documents(list(paths)) if paths else {}
        for path, (document, _) in found.items():
            if document is not None and document.fields["waiting"].integer_value:
                continue
            try:
                given += pass_on(runtime, paths[path])
            except OncetaskError as error:
                if isinstance(error, DamagedError) and error.document == path and document is not None:
                    # Without a due time no sweep would find it.
                    damage.pass_over(runtime, error, document)
                else:
                    LOGGER.error(
                        "the resource key %r, for which others wait, was not handed over: %s", paths[path], error
                    )
    return given


def give_up_reservation(runtime: Runtime, snapshot: Snapshot) -> None:
    """
    Give up the key that was handed over to the task of *snapshot*, which will not run now; the next task gets the key.
    """
    lock = snapshot.lock
    if lock is not None and lock.key is not None:
        hand_over(runtime, Freed(lock.key))


def attend_refused(runtime: Runtime, error: StoreError, *, holder: str | None = None) -> refused.Attended:
    """
    Deal with a refused write as ``refused.attend`` does. If the task has ended by it, its resource key goes to the next
    one.

    Raises:
        OncetaskError: As ``refused.attend``.
    """
    attended = refused.attend(runtime, error, holder=holder)
    if error.seen is not None and attended.outcome in (Outcome.FAILED, Outcome.CANCELLED):
        give_up_reservation(runtime, error.seen)
    return attended
