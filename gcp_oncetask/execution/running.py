"""
A running attempt: the lease of one sequence, the commits under it, and its settling.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from gcp_oncetask import rules
from gcp_oncetask.effects import keys
from gcp_oncetask.errors import AlreadySettledError, LeaseLostError, RequestLogError, StoreError, UsageError
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.execution.held_lease import HeldLease
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules.decisions import Lost, Put, Settlement, SettlementKind
from gcp_oncetask.rules.document_paths import DATA_HASH
from gcp_oncetask.rules.journal import JournalEntry, JournalWrite
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import NO_RESULT, Fingerprint
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.codec import pack
from gcp_oncetask.store.flow import Changed
from gcp_oncetask.store.side_writes import Hold
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, check_conflicts

MAX_SETTLEMENT: Final = 32_768
"""Bytes of a settlement in a log line; larger ones are left out of it."""
_SAVES: Final = frozenset(
    {SettlementKind.COMPLETE, SettlementKind.CONTINUE, SettlementKind.SNOOZE, SettlementKind.CHECKPOINT}
)
"""The settlements that save changed fields."""


def without_result(how: Settlement, error: StoreError) -> Settlement:
    """
    Return *how* without the result that Firestore refuses for good: the run is done, and is not repeated for its result.

    Raises:
        StoreError: *error*, if the reason for it is not the result.
    """
    less = how.instead(str(error))
    if not error.of_contents or less.kind is not how.kind:
        raise error
    return less


class Stop(NamedTuple):
    """
    The end of an attempt that a word of its handler has set; the handler can't change it.

    Attributes:
        error: The exception that the word has raised, and that each later word raises.
        how: The settlement; None: the attempt has failed with *error*.
        unread: Reason for which the journal can't be read here; None: it can.
    """

    error: BaseException
    how: Settlement | None = None
    unread: str | None = None


class Pending:
    """
    Entries of the journal, and events that were taken, that the next commit of the attempt writes.
    """

    def __init__(self) -> None:
        self.replaying = False
        self.entries: list[JournalEntry] = []
        self.taken: list[str] = []
        self.said: str | None = None

    def write(self) -> JournalWrite | None:
        """
        Return the write of the next commit; None: there is none.
        """
        if not (self.entries or self.taken or self.said is not None):
            return None
        return self.write_with()

    def write_with(self, entries: Iterable[JournalEntry] = (), *, progress: bool = False) -> JournalWrite:
        """
        Return the write of all that waits for a commit, and of *entries*; with *progress* it brings the handler forward in any
        case.
        """
        return JournalWrite(
            (*self.entries, *entries),
            tuple(self.taken),
            progress=progress or journals.forward(self.entries),
            said=self.said,
        )

    def settle_down(self) -> None:
        """
        Wait until no word is under way in any thread of the handler, so that each result is kept.
        """

    def clear(self) -> None:
        """
        Forget all, because it was written.
        """
        self.entries.clear()
        self.taken.clear()
        self.said = None


class RunningAttempt(HeldLease):
    """
    A running attempt; user code sees it as an ``Attempt``.

    Attributes:
        renewing: Whether its lease is renewed while it runs.
        hold: The resource key under which it runs: its own, or its leader's; None: it needs none.
        leader: The attempt that leads its batch; None: it rides in no batch.
        subject: The entity or task that its handler is given; None: it is not loaded yet.
        model: Digest of the model by which it reads and writes the document; None: it has not read the document.
        collection: Collection or template of its entity; None: its task is a once-task.
        cancelled: Whether a cancellation has been seen.
        open: Its transaction, while user code runs in it; None: there is none.
        settled: Outcome of its settling; None: it is not settled.
        pending: A settlement whose commit failed, with the fields that it saves; it is tried again when the handler
            ends.
        ended: The end of its delivery; None: it runs.
        stop: The end that a word of the handler has set; None: the handler's own end counts.
        told: Whether its handler knows of the cancellation.
        batched: Whether it leads a batch.
        journaled: The entries of the journal that are not committed yet; None: the handler has said no word.
    """

    renewing = False
    hold: Hold | None = None
    leader: RunningAttempt | None = None
    subject: Any = None
    model: str | None = None
    collection: str | None = None
    open: transactions.Open | None = None
    settled: Outcome | None = None
    pending: tuple[Settlement, Changes] | None = None
    ended: Ended | None = None
    stop: Stop | None = None
    told = False
    batched = False
    journaled: Pending | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RunningAttempt:
        """
        Return this attempt itself: a copied entity belongs to the same attempt.
        """
        return self

    def held_for(self) -> float:
        """
        Return the seconds for which this process may still rely on its lease; 0 or less after the end of that time. A rider
        runs under the resource key of its leader, so it can't rely on it for longer than the leader, which gives the key
        back at its own end.
        """
        leader = self.leader
        if leader is None:
            return self.left()
        over = leader.lost.is_set() or leader.settled is not None
        return 0.0 if over else min(self.left(), leader.held_for())

    def remaining(self) -> float:
        """
        Return the seconds until the earliest of run limit, dispatch deadline and request time-out; if the lease is not
        renewed, its end counts, too. 0 once that time has passed or the lease is lost.
        """
        config = self.runtime.config
        limit = min(self.policy.run_limit - config.margin, config.dispatch_deadline, config.request_timeout)
        left = self.until(limit)
        return left if self.renewing else min(left, max(0.0, self.held_for()))

    @property
    def tries(self) -> int:
        """
        Number of attempts, this one included, since the last one that brought the journal forward; at least 1.
        """
        lock = self.snapshot.lock or self.granted
        return max(1, self.granted.attempts - min(lock.progress_at, self.granted.attempts))

    def replays(self) -> bool:
        """
        Tell whether the handler says again the words of an earlier attempt: all of them so far had their answers.
        """
        words = self.journaled
        if words is not None:
            return words.replaying
        return bool(self.granted.journal or self.granted.chunks or self.granted.wait)

    # --- under the lease ---

    def _goes_on(self) -> bool:
        return self.settled is None and self.open is None

    def _renew(self) -> None:
        if self.settled is not None:
            raise AlreadySettledError("The attempt is settled; there is no lease to renew.")
        changed = self.runtime.store.change(
            self.snapshot.path,
            lambda seen: rules.renew(seen.lock, self.fence, self.runtime.decision_context(seen)),
            start=self.snapshot,
            alive=self.alive,
            own=True,
        )
        self.took(changed)

    def took(self, changed: Changed[Any]) -> Put:
        """
        Note the document as a commit under the lease has left it.

        Raises:
            LeaseLostError: The attempt does not hold the lease any more.
        """
        decision = changed.decision
        if isinstance(decision, Lost):
            self.runtime.events.lease_lost(decision, self.lost)
            self.lost.set()
            raise LeaseLostError(
                f"{self.context.document}: {decision.reason}. Stop; nothing more can be written.",
                document=self.context.document,
                sequence=self.granted.sequence,
                token=self.granted.token,
                finished=decision.finished,
                removed=changed.snapshot.exists and changed.snapshot.lock is None,
            )
        assert isinstance(decision, Put)
        self.snapshot = changed.snapshot
        lock = changed.snapshot.lock
        self.cancelled = self.cancelled or (lock is not None and lock.cancel_requested_at is not None)
        return decision

    def checkpoint(self, changes: Changes) -> None:
        """
        Write *changes* under the fence; the attempt goes on.

        Raises:
            As ``settle``.
        """
        with self.mutex:
            if self.settled is not None:
                raise AlreadySettledError("The attempt is settled; nothing more can be saved by it.")
            if self.open is not None:
                raise UsageError("Inside a transaction of the attempt, write through it: txn.update(...).")
            mark = self._signed(Settlement(kind=SettlementKind.CHECKPOINT, nonce=self.runtime.clock.nonce()), changes)
            self.took(self._commit(mark, changes))

    def _commit(self, how: Settlement, changes: Changes) -> Changed[Put | Lost]:
        def saved(seen: Snapshot) -> Changes:
            return NO_CHANGES if rules.outdated(seen.lock, how) else changes

        return self.runtime.store.change(
            self.snapshot.path,
            lambda seen: rules.settle(seen.lock, self.fence, how, self.runtime.decision_context(seen)),
            start=self.snapshot,
            changes=saved if changes.values else NO_CHANGES,
            alive=self.alive,
            own=True,
            hold=self.hold,
            room=how.kind is SettlementKind.CONTINUE,
            shares=True,
        )

    # --- settling ---

    def settle(self, how: Settlement, changes: Changes = NO_CHANGES, transaction: Transaction | None = None) -> Put:
        """
        End the attempt. ``schedule``, ``complete`` and the end of the handler use this.

        Raises:
            AlreadySettledError: The attempt is settled already.
            LeaseLostError: The attempt does not hold the lease any more.
            ConflictError: Another writer has changed a field of *changes*.
            UsageError: The next step would leave no room in the document for the records of its run.
            StoreError: Firestore was unreachable or refused.
        """
        how = self._signed(how, changes)
        with self.mutex:
            if self.settled is not None or (self.open is not None and self.open.ending is not None):
                document, sequence = self.context.document, self.granted.sequence
                raise AlreadySettledError(
                    f"{document}: sequence {sequence} was scheduled on or completed before in this attempt.",
                    document=document,
                    sequence=sequence,
                )
            if self.open is not None:
                return self._settle_in(self.open, how, changes, transaction)
            if transaction is not None:
                raise UsageError("transaction= must be the one of attempt.transaction() or attempt.run_transaction().")
            if self.pending is not None and self.pending[0].kind is how.kind:
                # The same settling is tried again. It keeps its nonces, so that the first try is recognised if it was
                # applied after all.
                how = how._replace(nonce=self.pending[0].nonce, next_nonce=self.pending[0].next_nonce)
            logged = self.announce(how, changes)
            try:
                if how.kind is SettlementKind.CONTINUE:
                    self._register(how)
                try:
                    changed = self._commit(how, changes)
                except StoreError as error:
                    less = without_result(how, error)
                    self.context.log(logging.ERROR, "the result could not be stored: %s", error)
                    changed = self._commit(less, changes)
            except StoreError as error:
                if not error.of_contents:
                    # This settlement may be tried again as it is. One whose contents are refused for good can't be, so
                    # another one may replace it.
                    self.pending = how, changes
                    self._write_through(how, logged)
                raise
            put = self.took(changed)
            self.note_settled(put)
            if changed.freed is not None:
                keys.hand_over(self.runtime, changed.freed)
            return put

    def _signed(self, how: Settlement, changes: Changes) -> Settlement:
        """
        Return *how* with the entries of the journal that wait for a commit, and with the fingerprints of the model and of the
        payload whose fields it saves.
        """
        if self.journaled is not None and how.journal is None and how.kind is not SettlementKind.CHECKPOINT:
            how = how._replace(journal=self.journaled.write())
        if self.model is None or how.kind not in _SAVES:
            return how
        if self.context.task is None:
            data_hash = str(self.granted.sequence + (how.kind is SettlementKind.CONTINUE))
            return how._replace(fingerprint=Fingerprint(data_hash, self.model))
        payload = changes.values.get(DATA_HASH)
        written = None if payload is None else Fingerprint(payload.string_value, self.model)
        return how._replace(fingerprint=written, wanted=self.granted.wanted)

    def _register(self, how: Settlement) -> None:
        self.runtime.register(self.collection, None if how.target is None else how.target.url)

    def _settle_in(
        self, opened: transactions.Open, how: Settlement, changes: Changes, transaction: Transaction | None
    ) -> Put:
        """
        Decide on the settling inside the open transaction; its commit writes the decision.
        """
        if transaction is not opened.transaction:
            raise UsageError("Inside a transaction of the attempt, hand it on: transaction=txn.")
        room = how.kind is SettlementKind.CONTINUE
        if room:
            self._register(how)
        check_conflicts(opened.snapshot, changes)
        decision = rules.settle(opened.snapshot.lock, self.fence, how, self.runtime.decision_context(opened.snapshot))
        put = self.took(Changed(decision, opened.snapshot))
        opened.ending, opened.how = transactions.Ending(put, changes, room), how
        return put

    def note_settled(self, put: Put) -> None:
        """
        Note that the settling commit *put* is applied.
        """
        self.settled = put.outcome
        self.runtime.events.settled(self.context, put.outcome)

    def announce(self, how: Settlement, changes: Changes, *, alone: bool = True) -> str:
        """
        Report that user code has ended. The report holds the settlement as JSON text if it fits and may be logged.

        Returns:
            The JSON text; empty if it was left out.
        """
        settlement = ""
        private = (
            bool(changes.values)
            or how.result != NO_RESULT
            or (how.target is not None and how.target.params is not None)
            or how.journal is not None
        )
        if alone and (not private or self.runtime.config.log_contents):
            data = how.to_data()
            data["fields"] = {name: pack(value) for name, value in changes.values.items()}
            # The data is text, because Cloud Logging would turn numbers in a map into floats.
            settlement = to_json(data).decode()
            if len(settlement) > MAX_SETTLEMENT:
                settlement = ""
        self.runtime.events.returned(self.context, str(how.kind), settlement)
        return settlement

    def _write_through(self, how: Settlement, settlement: str) -> None:
        # The settling commit failed, so the evidence is written in another way as well.
        runtime, kind = self.runtime, str(how.kind)
        line = runtime.events.trail.payload("returned", self.context, f"returned: {kind}", kind, settlement)
        try:
            runtime.request_log.write(line, insert_id=self.fence.holder, at=runtime.clock.now())
        except RequestLogError as error:
            runtime.events.evidence_unwritten(self.context, str(error))
