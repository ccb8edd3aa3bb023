"""
``attempt.run_transaction(fn, name=)``: the user's writes and the entry of the journal in one commit, exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gcp_oncetask import rules
from gcp_oncetask.checks import tagged
from gcp_oncetask.checks.tagged import NotTaggableError
from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.execution import fenced_transaction
from gcp_oncetask.execution.durable_runs import failed
from gcp_oncetask.execution.journaling import Journal
from gcp_oncetask.execution.running import Stop
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalWrite
from gcp_oncetask.store import journals as stored_journals
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.flow import Changed

T = TypeVar("T")


def answer(journal: Journal, name: str, fn: Callable[[Transaction], T]) -> T:
    """
    Return the result of the journal, or run ``fn(txn)`` in a transaction that keeps its result.

    Raises:
        As ``Attempt.run_transaction``.
    """
    as_ = tagged.returned_by(fn)
    entry = journal.enter(name, EntrySort.RUN)
    if entry is not None and entry.state is EntryState.FAILED:
        raise failed(entry)
    if entry is not None and entry.state is EntryState.DONE:
        known: T = journal.answer(entry, as_)
        return known
    journal.room(name)
    journal.hand_over()
    keeping = _Keeping(journal, name, as_)
    with journal.under_way():
        try:
            fenced_transaction.run_transaction(journal.attempt, keeping.calling(fn), keeping.keep)
        except StoreError as error:
            if error.facts.get("unknown"):
                # Whether the writes are there is not known, so this attempt can't go on from them.
                journal.attempt.stop = journal.attempt.stop or Stop(error)
            raise
    assert keeping.write is not None
    journal.note_kept(keeping.write)
    found: T = journal.answer(journal.kept[name], as_)
    return found


class _Keeping:
    """
    The entry of a transaction.

    Attributes:
        write: The write of the journal by the last commit that was tried.
    """

    write: JournalWrite | None = None

    def __init__(self, journal: Journal, name: str, as_: Any) -> None:
        self._journal, self._name, self._as = journal, name, as_

    def calling(self, fn: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        """
        Return *fn* as a function inside of which no word can be said.
        """

        def call(txn: Transaction) -> T:
            self._journal.check()
            with self._journal.calling(self._name):
                return fn(txn)

        return call

    def keep(self, opened: transactions.Open, value: Any) -> None:
        """
        Let the commit of the transaction write the entry with *value*.
        """
        journal, name = self._journal, self._name
        attempt = journal.attempt
        if opened.ending is not None:
            raise journal.fail(
                UsageError(
                    f"The transaction {name!r} schedules or completes the task, and has a name. Leave out name=: the attempt "
                    "ends with it."
                )
            )
        try:
            kept = journal.keep(name, value, self._as, given=False)
        except NotTaggableError as trouble:
            raise journal.fail(
                UsageError(f"The result of the transaction {name!r} can't be kept: {trouble}. Nothing was written.")
            ) from None
        entry = journal.entry(name, EntrySort.RUN, value=kept.data, model=kept.model)
        write = journal.write_with((entry,), progress=True)
        decision = rules.journaled(opened.snapshot.lock, attempt.fence, write, attempt.runtime.clock.nonce())
        put = attempt.took(Changed(decision, opened.snapshot))
        sealing = stored_journals.Sealing(attempt.runtime.wire, attempt.snapshot.path, write)
        sealing.seen = opened.snapshot
        opened.kept = transactions.Ending(put, along=sealing.writes(put))
        self.write = write
