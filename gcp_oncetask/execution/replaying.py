"""
The replay of a stored journal by today's code, which calls nothing and writes nothing: it ends at the first new word.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, NoReturn

from gcp_oncetask.checks.told import said_by
from gcp_oncetask.errors import EventTimeoutError, JournalMismatchError, RunFailedError, UsageError
from gcp_oncetask.execution.attempt import Attempt, current_attempt
from gcp_oncetask.execution.calling import call_through
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.journaling import Journal
from gcp_oncetask.execution.results import HandlerResult, Suspended
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.observe.log_context import LOGGER, context_at
from gcp_oncetask.rules import waits
from gcp_oncetask.rules.journal import Dropped, EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import HandlerWait, Intent, Lock, WaitFor
from gcp_oncetask.store.flow import Along
from gcp_oncetask.store.snapshot import Snapshot

_SORTS: Final = {WaitFor.SLEEP: EntrySort.SLEEP, WaitFor.EVENT: EntrySort.EVENT}
_FOLDER: Final = f"{Path(__file__).parents[1]}{os.sep}"


class ReplayVerdict(StrEnum):
    """
    The ends of a replay.
    """

    GOES_ON = "goes on"
    WAITS = "waits"
    COMPLETES = "completes"
    ENDS = "ends"
    """The task ends by a verdict, or by a failure that the journal holds."""
    ASKS = "asks"
    """A person must answer whether a run that was begun once has happened."""
    MISFIT = "no longer fits"
    EFFECT = "effect outside a run"
    RAISES = "raises"


FITS: Final = frozenset(
    {ReplayVerdict.GOES_ON, ReplayVerdict.WAITS, ReplayVerdict.COMPLETES, ReplayVerdict.ENDS, ReplayVerdict.ASKS}
)
"""The ends of a replay by code that fits the journal."""


class Forecast(NamedTuple):
    """
    The end of a replay.

    Attributes:
        verdict: The sort of end.
        name: The word at which it ended; None: at no word.
        until: The end of the wait; None: it has none.
        said: One clause for people; empty: the verdict says all.
        line: Place in the user's code, ``file:line``; None: it is not known.
        unmet: Names of entries that no word has asked for before the end.
        notes: Warnings of the replay, such as a run with other arguments.
    """

    verdict: ReplayVerdict
    name: str | None = None
    until: datetime | None = None
    said: str = ""
    line: str | None = None
    unmet: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ReplayEnd(BaseException):
    """
    Ends the handler of a replay at its first new word.
    """

    def __init__(self, forecast: Forecast) -> None:
        super().__init__(str(forecast.verdict))
        self.forecast = forecast


class EffectOutside(BaseException):
    """
    A handler of a replay has tried to reach another system outside a run.
    """

    def __init__(self, said: str, line: str | None) -> None:
        super().__init__(said)
        self.said, self.line = said, line


class Refusals:
    """
    Refuses each effect of a replayed handler, and remembers the first refusal: a handler may swallow the exception.

    Attributes:
        on: Whether a replay is under way.
        first: The first refusal of this replay; None: there was none.
        handler: The code of the replayed handler; None: it is not known.
    """

    def __init__(self) -> None:
        self.on = False
        self.first: EffectOutside | None = None
        self.handler: CodeType | None = None

    def begin(self, handler: CodeType | None) -> None:
        """
        Refuse from now on each effect of *handler* outside its runs.
        """
        self.on, self.first, self.handler = True, None, handler

    def refuse(self, said: str) -> None:
        """
        Refuse an action if a replay is under way.

        Raises:
            EffectOutside: One is.
        """
        if not self.on:
            return
        # Another thread may work for the handler.
        frames = (sys._getframe(1), sys._current_frames().get(threading.main_thread().ident or 0))  # noqa: SLF001 - documented
        lines = (line_of(frame, self.handler) for frame in frames)
        error = EffectOutside(said, next((line for line in lines if line is not None), None))
        self.first = self.first or error
        raise error


def line_of(frame: FrameType | None, handler: CodeType | None = None) -> str | None:
    """
    Return the innermost line of the user's code that led to *frame*, with the line of *handler* if that is another.
    """
    inner: str | None = None
    while frame is not None:
        path = frame.f_code.co_filename
        if is_users(frame) or frame.f_code is handler:
            inner = inner or f"{path}:{frame.f_lineno}"
            if frame.f_code is handler:
                outer = f"{path}:{frame.f_lineno}"
                return outer if outer == inner else f"{outer} (in {inner})"
        frame = frame.f_back
    return inner


def is_users(frame: FrameType) -> bool:
    """
    Tell whether *frame* is of the user's code.
    """
    root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    path = frame.f_code.co_filename
    theirs = path.startswith((_FOLDER, "<")) or "site-packages" in path
    return not (theirs or (root in sys.stdlib_module_names and root != "__main__"))


class NoStore:
    """
    A store that refuses each request.
    """

    def __init__(self, refusals: Refusals, now: datetime) -> None:
        self._refusals, self._now = refusals, now

    def estimate(self) -> datetime:
        """
        Return the time for which the replay is.
        """
        return self._now

    def __getattr__(self, name: str) -> Any:
        def refused(*_: object, **__: object) -> NoReturn:
            self._refusals.refuse("it uses Firestore")
            raise EffectOutside("it uses Firestore", None)

        return refused


class ReplayedJournal(Journal):
    """
    A journal that answers from its entries, and ends the replay at the first new word.
    """

    def __init__(self, attempt: RunningAttempt, now: datetime, handler: CodeType | None) -> None:
        super().__init__(attempt)
        self._now, self.handler = now, handler
        self._at: str | None = None

    def now(self) -> datetime:
        return self._now

    def enter(
        self, name: str, sort: EntrySort, *, suspends: bool = False, was: str | None = None
    ) -> JournalEntry | None:
        self._at = name
        wait = self.lock.wait
        if wait is not None and wait.ended is None and wait.name in (name, was):
            wanted = _SORTS.get(wait.sort)
            if wanted is not None and wanted is not sort:
                raise self.end(
                    ReplayVerdict.MISFIT,
                    name,
                    f"{name!r} waits as a {wanted} in the record, and is a {sort} in the code",
                )
            if wanted is not None:
                raise self.end(ReplayVerdict.WAITS, name, until=wait.until)
        entry = super().enter(name, sort, suspends=suspends, was=was)
        if entry is None and sort is not EntrySort.RUN:
            raise self.end(ReplayVerdict.GOES_ON, name)
        return entry

    def check_held(self) -> None:
        """
        Do nothing: a replay has no lease.
        """

    def tell(self) -> None:
        self.replaying = False
        if self.attempt.cancelled and not self.attempt.told:
            raise self.end(ReplayVerdict.GOES_ON, self._at, "with the news of its cancellation")

    def commit(
        self,
        entries: Sequence[JournalEntry],
        *,
        opened: Intent | None = None,
        closed: str | None = None,
        progress: bool = True,
        told: bool = False,
        dropped: Dropped | None = None,
        also: Along | None = None,
    ) -> None:
        if opened is not None:
            lost = self._receipts()
            if lost and opened.name not in self.kept:
                raise self.end(
                    ReplayVerdict.MISFIT,
                    opened.name,
                    f"{opened.name!r} would be begun once, while the code no longer names {lost[0]!r}, which was done once; if "
                    f"it was renamed, say was={lost[0]!r}",
                )
        raise self.end(ReplayVerdict.GOES_ON, self._at)

    def _receipts(self) -> list[str]:
        """
        Return the runs that were done once, that no word has asked for, and whose names are not in the code.
        """
        named = set(_texts(self.handler))
        unmet = [self.kept[name] for name in self.unmet if name not in named]
        return [entry.name for entry in unmet if entry.sort is EntrySort.RUN and "key" in (entry.more or {})]

    def flush(self) -> None:
        """
        Do nothing: the entries that wait for a commit stay in memory.
        """

    def calling(self, name: str, operation: str = "run", call: tuple[Any, ...] | None = None) -> NoReturn:
        entry = self.kept.get(name)
        begun = entry is not None and entry.state is EntryState.OPEN
        raise self.end(ReplayVerdict.GOES_ON, name, "it was begun once, and verify= is asked" if begun else "")

    def suspend(
        self, wait: HandlerWait | None, entries: Sequence[JournalEntry] = (), *, progress: bool = False
    ) -> Suspended:
        if wait is None:
            raise self.end(ReplayVerdict.GOES_ON, self._at)
        raise self.end(ReplayVerdict.WAITS, wait.name, until=wait.until)

    def pause(self, seconds: float) -> bool:
        return False

    def fail(self, error: UsageError) -> UsageError:
        raise self.end(ReplayVerdict.MISFIT, self._at, str(error).rstrip("."))

    def ask(self, error: Exception) -> Exception:
        verdict = ReplayVerdict.MISFIT if isinstance(error, JournalMismatchError) else ReplayVerdict.ASKS
        raise self.end(verdict, self._at, str(error).rstrip("."))

    def end(self, verdict: ReplayVerdict, name: str | None, said: str = "", until: datetime | None = None) -> ReplayEnd:
        """
        Return the exception that ends the replay.
        """
        line = line_of(sys._getframe(1), self.handler)  # noqa: SLF001 - the documented way to a caller's frame
        unmet = tuple(each for each in self.unmet if each != name)
        return ReplayEnd(Forecast(verdict, name, until, said, line, unmet))


def forecast(
    executor: Executor,
    spec: HandlerSpec,
    snapshot: Snapshot,
    rows: tuple[bytes, ...],
    now: datetime,
    refusals: Refusals,
) -> Forecast:
    """
    Replay the handler of *spec* over a journal.

    Args:
        executor: The parts of a deployment whose store refuses each request.
        spec: The handler.
        snapshot: The document.
        rows: All entries of its journal, oldest first.
        now: Time for which the replay is.
        refusals: Refuses remote calls.

    Returns:
        The next event of the task.
    """
    lock = snapshot.lock
    assert lock is not None
    lock = lock.but(journal=rows, chunks=(), wait=waits.woken(lock, now) or lock.wait)
    attempt = _attempt(executor, spec.to_run(lock), snapshot, lock)
    code = getattr(spec.run, "__code__", None)
    journal = attempt.journaled = ReplayedJournal(attempt, now, code)
    noted = _Noted()
    LOGGER.addHandler(noted)
    refusals.begin(code)
    outer = current_attempt.set(Attempt(attempt))
    try:
        found = _played(executor, spec.to_run(lock), attempt, journal)
    finally:
        current_attempt.reset(outer)
        refusals.on = False
        LOGGER.removeHandler(noted)
        attempt.subject = None
    if refusals.first is not None:
        found = Forecast(ReplayVerdict.EFFECT, None, None, refusals.first.said, refusals.first.line, found.unmet)
    return found._replace(notes=tuple(noted.texts))


def _attempt(executor: Executor, spec: HandlerSpec, snapshot: Snapshot, lock: Lock) -> RunningAttempt:
    context = replace(
        context_at(snapshot.path, lock.env, lock), attempt=max(1, lock.attempts), holder="replay", trace=None
    )
    seen = Snapshot(snapshot.path, snapshot.version, snapshot.document, lock)
    runtime = executor.runtime
    return RunningAttempt(runtime, seen, context, policy=spec.policy, mark=runtime.clock.mark())


def _played(executor: Executor, spec: HandlerSpec, attempt: RunningAttempt, journal: ReplayedJournal) -> Forecast:
    seen = Attempt(attempt)
    try:
        attempt.subject = spec.subject.load(executor.runtime, attempt)
    except UsageError as error:
        return Forecast(ReplayVerdict.MISFIT, said=str(error).rstrip("."))
    try:
        call_through(executor.middleware, seen, lambda: _verdict(spec.run(attempt.subject, seen)))
    except ReplayEnd as end:
        return end.forecast
    except EffectOutside as error:
        return Forecast(ReplayVerdict.EFFECT, said=error.said, line=error.line, unmet=journal.unmet)
    except HandlerResult as verdict:
        return Forecast(ReplayVerdict.ENDS, said=f"by {type(verdict).__name__}", unmet=journal.unmet)
    except (RunFailedError, EventTimeoutError) as error:
        return Forecast(ReplayVerdict.ENDS, said=f"by {type(error).__name__}: {said_by(error)}", unmet=journal.unmet)
    except BaseException as error:  # noqa: BLE001 - each error of user code is an end of the replay
        return Forecast(ReplayVerdict.RAISES, said=said_by(error), line=_raised_at(error), unmet=journal.unmet)
    return Forecast(ReplayVerdict.COMPLETES, unmet=journal.unmet)


def _raised_at(error: BaseException) -> str | None:
    """
    Return the innermost line of the user's code in the traceback of *error*.
    """
    found: str | None = None
    traced = error.__traceback__
    while traced is not None:
        if is_users(traced.tb_frame):
            found = f"{traced.tb_frame.f_code.co_filename}:{traced.tb_lineno}"
        traced = traced.tb_next
    return found


def _verdict(value: Any) -> Any:
    if isinstance(value, HandlerResult):
        raise value
    return value


def _texts(code: CodeType | None) -> Iterator[str]:
    """
    Yield the texts that *code* and its inner functions name.
    """
    for each in () if code is None else code.co_consts:
        if isinstance(each, str):
            yield each
        elif isinstance(each, CodeType):
            yield from _texts(each)


class _Noted(logging.Handler):
    """
    Keeps the warnings of a replay.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
