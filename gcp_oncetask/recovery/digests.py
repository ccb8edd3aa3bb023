"""
Send many alerts of one kind and reason by one mail, a digest: a sweep puts together the alerts whose window is over.

A lock lets one process of an environment do so at a time, so that the alerts are not split into several mails; a process
that finds the lock held leaves them to the next sweep. But each alert is sent once not because of that lock, but because of
the writes:

1. Each entry is lent to the digest by a commit that writes the digest's id into the entry.
2. The digest is owed by a document of its own, with the list of the entries that were lent. There is one such document per
   id: a process that comes too late to make it sends nothing.
3. The digest is sent like all alerts that are owed.
4. The entries are removed from their documents.

A sender that dies after 1 leaves entries with an id that has no document: they become the digest of that id. After 2 the
digest's document is due, and the digest is sent again unchanged. After 3 the entries with its id are removed; an entry that
is not on its list joins the next digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from gcp_oncetask import rules
from gcp_oncetask.clock import elapsed
from gcp_oncetask.effects import owed_alerts, windows
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.execution.renewal import Renewals
from gcp_oncetask.locks.lock import NamedLock
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import floods
from gcp_oncetask.rules.document_paths import digest_path, is_digest
from gcp_oncetask.rules.floods import WAITS
from gcp_oncetask.rules.record import PendingAlert
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot

LOCK: Final = "gcp-oncetask: digests of alerts"
"""Name of the lock for the processes that make an environment's digests."""
MOST: Final = 500
"""Most alerts of one digest."""


class Entry(NamedTuple):
    """
    An alert that a document owes.
    """

    snapshot: Snapshot
    owed: PendingAlert


class Digests:
    """
    The due alerts that a sweep finds.

    Args:
        runtime: Shared parts.
        complain: Told of each error at a document; deals with writes that are refused for good.

    Attributes:
        failed: Whether any alert could not be attended to.
    """

    def __init__(self, runtime: Runtime, complain: Callable[[Snapshot, OncetaskError], None]) -> None:
        self._runtime = runtime
        self._complain = complain
        self.failed = False
        # Waiting alerts by their group; lent alerts by the id of their digest; and the documents of digests that are due.
        self._waiting: dict[str, list[Entry]] = {}
        self._lent: dict[str, list[Entry]] = {}
        self._due: list[Snapshot] = []

    def attend(self, snapshot: Snapshot, ids: Iterable[str]) -> int:
        """
        Send those of the due alerts *ids* that are mails of their own; keep the others for ``close``. Return the number of
        alerts sent.

        Raises:
            OncetaskError: As ``Store.change``.
        """
        runtime, lock = self._runtime, snapshot.lock
        assert lock is not None
        if is_digest(snapshot.path):
            self._due.append(snapshot)
            return 0
        alone, decided = dict[str, str | None](), []
        for owed in (each for each in lock.owed if each.id in ids):
            if owed.digest is not None:
                kept = self._waiting if owed.digest.startswith(WAITS) else self._lent
                kept.setdefault(owed.digest, []).append(Entry(snapshot, owed))
            elif rules.is_decided(owed) and runtime.config.alert_window:
                decided.append(owed.id)
            else:
                alone[owed.id] = None
        sent = owed_alerts.take_and_send(runtime, snapshot, alone) if alone else 0
        return sent + (owed_alerts.send_in_turn(runtime, snapshot, decided) if decided else 0)

    @property
    def kept(self) -> bool:
        """
        Tell whether any alerts were kept.
        """
        return bool(self._waiting or self._lent or self._due)

    def close(self, more: Callable[[], None] = lambda: None) -> int | None:
        """
        Send the digests of the kept alerts, and of those to which *more* attends while this process has the lock. Failures
        are logged.

        Returns:
            The number of mails sent; None: another process has the lock.
        """
        runtime = self._runtime
        if not self.kept:
            return 0
        ttl = max(runtime.config.alert_retry, 3 * runtime.config.margin)
        lock = NamedLock(runtime, lambda: Renewals(runtime.clock), LOCK, ttl=ttl)
        sent = 0
        try:
            if not lock.acquire(blocking=False):
                return None
            try:
                more()
                for snapshot, send in self._sendings():
                    sent += self._tried(snapshot, send)
                    lock.refresh()
            finally:
                lock.end()
        except OncetaskError as error:
            self.failed = True
            LOGGER.error("the digests of alerts are left to the next sweep: %s", error)
        return sent

    def _sendings(self) -> Iterable[tuple[Snapshot, Callable[[], int]]]:
        """
        Yield the sendings in order, each with its first document; each is computed once the one before it is done.
        """
        for snapshot in self._due:
            yield snapshot, partial(owed_alerts.take_and_send, self._runtime, snapshot, _owed_by(snapshot))
        for id_, entries in self._lent.items():
            yield entries[0].snapshot, partial(self._go_on, id_, entries)
        for group, entries in self._waiting.items():
            ordered = sorted(entries, key=lambda one: one.owed.at)
            for start in range(0, len(ordered), MOST):
                yield ordered[start].snapshot, partial(self._begin, group, ordered[start : start + MOST])

    def _tried(self, snapshot: Snapshot, send: Callable[[], int]) -> int:
        try:
            return send()
        except OncetaskError as error:
            self._fails(snapshot, error)
        except Exception:  # noqa: BLE001 - one digest's trouble holds up no other
            self.failed = True
            LOGGER.exception("a digest of alerts could not be sent")
        return 0

    def _fails(self, snapshot: Snapshot, error: OncetaskError) -> None:
        self.failed = True
        self._complain(snapshot, error)

    def _begin(self, group: str, entries: Sequence[Entry]) -> int:
        if len(entries) == 1:
            snapshot, owed = entries[0]
            return owed_alerts.take_and_send(self._runtime, snapshot, {owed.id: owed.digest})
        return self._send(self._runtime.clock.nonce(), group, entries)

    def _go_on(self, id_: str, entries: Sequence[Entry]) -> int:
        """
        Go on with a digest whose sender is overdue.
        """
        runtime = self._runtime
        document = runtime.store.read(digest_path(runtime.config.env, id_))
        if document.lock is None:
            path, owed = entries[0].snapshot.path, entries[0].owed
            return self._send(id_, floods.group_of(owed.event, path, owed.id, owed.reason).mark, entries)
        members = set(decode(document.fields["members"]))
        told = [one for one in entries if windows.entry_id(one.snapshot.path, one.owed) in members]
        # The others are not on the digest's list: its sender did not learn that they were lent to it.
        others = [one for one in entries if one not in told]
        if others:
            self._waiting.setdefault(decode(document.fields["group"]), []).extend(others)
        if document.lock.owed:
            again = runtime.store.estimate() + timedelta(seconds=runtime.config.alert_retry)
            for snapshot, ids in _by_document(told):
                owed_alerts.put_off(runtime, snapshot, ids, max(document.lock.owed[0].until, again))
            return 0
        self._over(told)
        return 0

    def _send(self, id_: str, group: str, entries: Sequence[Entry]) -> int:
        """
        Lend *entries* to the digest *id_*, and send it; return the number of mails sent.
        """
        runtime = self._runtime
        start, lent = runtime.clock.mark(), list[Entry]()
        for snapshot, seen in _by_document(entries):
            # The entries that were lent first must be sent before another process takes them for forgotten.
            if lent and elapsed(start, runtime.clock.mark()) > runtime.config.alert_retry / 4:
                break
            lent += self._lend(id_, snapshot, seen)
        if not lent:
            return 0
        alerts = [owed_alerts.alert_of(runtime, *one) for one in lent]
        members = [windows.entry_id(one.snapshot.path, one.owed) for one in lent]
        mark = runtime.clock.mark()
        document = windows.owe(runtime, id_, group, alerts, members)
        if document is None:
            return 0
        sent = owed_alerts.send_each(runtime, document, list(_owed_by(document)), mark)
        if sent:
            self._over(lent)
        return sent

    def _lend(self, id_: str, snapshot: Snapshot, seen: Mapping[str, str | None]) -> list[Entry]:
        try:
            taken = owed_alerts.take(self._runtime, snapshot, seen, id_)
        except OncetaskError as error:
            self._fails(snapshot, error)
            return []
        if taken is None:
            return []
        after, mine = taken
        assert after.lock is not None
        return [Entry(after, owed) for owed in after.lock.owed if owed.id in mine]

    def _over(self, told: Sequence[Entry]) -> None:
        for snapshot, ids in _by_document(told):
            try:
                owed_alerts.note_sent(self._runtime, snapshot, ids)
            except OncetaskError as error:
                self._fails(snapshot, error)


def _owed_by(snapshot: Snapshot) -> dict[str, str | None]:
    assert snapshot.lock is not None
    return {owed.id: owed.digest for owed in snapshot.lock.owed}


def _by_document(entries: Iterable[Entry]) -> Iterable[tuple[Snapshot, dict[str, str | None]]]:
    """
    Return the documents of *entries*, each with the ids of its alerts and their ``digest``.
    """
    found: dict[str, tuple[Snapshot, dict[str, str | None]]] = {}
    for snapshot, owed in entries:
        found.setdefault(snapshot.path, (snapshot, {}))[1][owed.id] = owed.digest
    return found.values()
