"""
The ends of a running attempt by a word of its handler, and short waits in place of an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from gcp_oncetask.clock import pause
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.journal_commits import IN_PLACE, JournalCommits
from gcp_oncetask.execution.results import Snooze, Suspended
from gcp_oncetask.execution.running import Stop
from gcp_oncetask.rules.decisions import Settlement, SettlementKind
from gcp_oncetask.rules.journal import JournalEntry
from gcp_oncetask.rules.record import HandlerWait, WaitFor

_SHARE: Final = 4

E = TypeVar("E", bound=Exception)


class JournalEnds(JournalCommits):
    """
    A journal whose words can end the attempt.
    """

    def suspend(
        self, wait: HandlerWait | None, entries: Sequence[JournalEntry] = (), *, progress: bool = False
    ) -> BaseException:
        """
        End the request until *wait* has ended; None: until a fresh delivery comes, at once. Return the exception to raise.
        """
        attempt = self.attempt
        if attempt.batched:
            # Its riders can't wait with it, so all of them run again at the time.
            self.commit(entries, progress=False)
            until = self.now() if wait is None or wait.until is None else wait.until
            return Snooze(max(timedelta(), until - self.now()))
        with attempt.mutex:
            write = self.write_with(entries, progress=progress)
        error = Suspended("it goes on in a fresh delivery" if wait is None else f"it waits for {wait.name!r}")
        how = Settlement(kind=SettlementKind.SUSPEND, nonce=attempt.runtime.clock.nonce(), wait=wait, journal=write)
        attempt.stop = Stop(error, how)
        return error

    def hand_over(self) -> None:
        """
        End the request if it may end before another call like the longest one so far, and go on in a fresh delivery. An
        attempt that has kept nothing new goes on, so that each delivery brings the handler forward.

        Raises:
            Suspended: The request ends here.
        """
        if self.forward and not self.attempt.batched and self.short:
            raise self.suspend(None)

    def fail(self, error: UsageError) -> UsageError:
        """
        End the task as failed with *error*, because no other attempt can succeed. Return *error*.
        """
        return self._stopped(SettlementKind.FAIL, error)

    def ask(self, error: Exception) -> Exception:
        """
        Set the task aside until a person has decided on *error*. Return *error*.
        """
        return self._stopped(SettlementKind.ASK, error)

    def _stopped(self, kind: SettlementKind, error: E) -> E:
        how = Settlement(kind=kind, nonce=self.attempt.runtime.clock.nonce(), message=str(error))
        self.attempt.stop = Stop(error, how)
        return error

    def wait_for(
        self, name: str, sort: WaitFor, until: datetime | None, before: JournalEntry | None = None, **rest: Any
    ) -> HandlerWait:
        """
        Return a wait that begins now.
        """
        ordinal = self.next_ordinal() if before is None else before.ordinal
        return HandlerWait(name, sort, ordinal, self.now(), until, **rest)

    def pause(self, seconds: float) -> bool:
        """
        Wait in the request, if that is short; return False if it is too long.
        """
        if not self.is_short(seconds):
            return False
        if seconds > 0:
            pause(self.attempt.runtime.clock, seconds)
            self.check()
        return True

    def is_short(self, seconds: float) -> bool:
        """
        Tell whether a wait of so many *seconds* is spent in the request.
        """
        return seconds <= min(IN_PLACE, self.attempt.remaining() / _SHARE)


def until_of(journal: JournalCommits, delay: timedelta) -> datetime:
    """
    Return the instant *delay* from now.

    Raises:
        UsageError: It is outside of the calendar.
    """
    try:
        return journal.now() + delay
    except OverflowError:
        raise UsageError(f"{delay} from now is outside of the calendar.") from None
