"""
One play of a scenario: the calls of runs, remote calls, effects and mistakes in it, and the one fault that strikes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import date
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from gcp_oncetask.entities.models import LockedModel
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.calling import Raised, call_handler
from gcp_oncetask.execution.durable_runs import RunOptions
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.journaling import Journal, inside_run
from gcp_oncetask.execution.replaying import is_users, line_of
from gcp_oncetask.execution.results import HandlerResult, Suspended
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.rules.journal import EntrySort
from gcp_oncetask.testing.suspects import HandlerSource

_CLOCKS: Final = frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"})
_CHANCE: Final = frozenset({"random", "uuid", "secrets"})


class Died(BaseException):
    """
    The process of the handler has died.
    """


class Strike(NamedTuple):
    """
    The one fault of a play.

    Attributes:
        sort: ``before`` or ``after`` a call of a run, ``takeover`` after one, ``remote``, or ``duplicate``.
        number: Number of the call, of the remote call, or of the delivery, 1-based.
    """

    sort: str
    number: int


class RunCall(NamedTuple):
    """
    One call of a run's function.
    """

    path: str
    name: str
    arguments: str
    once: bool


class PlayWatch:
    """
    Watches one play.

    Attributes:
        strike: The fault that strikes; None: none does.
        calls: The calls of runs that began.
        done: The calls that returned.
        remote: The names of the remote calls of deliveries.
        deliveries: Number of deliveries.
        mistakes: Sentences about mistakes that need no comparison.
        causes: Sentences about places that can make two attempts differ.
        kept: The answers of the journals, by document and name.
        dead: Whether the process of the present delivery has died.
    """

    def __init__(self, strike: Strike | None, effects: Sequence[Any], values: dict[tuple[str, str], Any]) -> None:
        self.strike, self.values = strike, values
        self.calls: list[RunCall] = []
        self.done: list[RunCall] = []
        self.remote: list[str] = []
        self.deliveries = 0
        self.mistakes: list[str] = []
        self.causes: list[str] = []
        self.kept: dict[tuple[str, str], tuple[str, Any]] = {}
        self.lines: dict[str, str | None] = {}
        self.delivering = self.dead = False
        self.take_over: Callable[[], None] = lambda: None
        self._effects = [_code_of(each) for each in effects]
        self._before: dict[str, Any] = {}
        self._last: str | None = None

    # --- told by the library ---

    def said(self, journal: Journal, name: str, sort: EntrySort) -> None:
        """
        Note a word, and the line that says it.
        """
        self._last = self.lines[name] = line_of(sys._getframe(1))  # noqa: SLF001 - the documented way

    def drawn(self, journal: Journal, name: str, draw: Callable[[], Any]) -> Any:
        """
        Return the value of a time or of chance: the same one in each play.
        """
        key = journal.attempt.context.document, name
        if key not in self.values:
            self.values[key] = draw()
        return self.values[key]

    def calling(self, journal: Journal, name: str, call: tuple[Any, Any, Any, RunOptions] | None) -> RunCall | None:
        """
        Note the call of a run; the process may die before it.
        """
        if self.dead:
            raise Died
        if call is None:
            return None
        fn, args, kwargs, options = call
        found = RunCall(journal.attempt.context.document, name, _shown([args, kwargs]), options.once)
        self._before[name] = _shown([args, kwargs]), _cells(fn)
        self.calls.append(found)
        if self.strike == Strike("before", len(self.calls)):
            self.die()
        return found

    def called(self, call: RunCall | None, journal: Journal, details: tuple[Any, Any, Any, RunOptions] | None) -> None:
        """
        Note that the function of a run has returned; the process may die after it, or lose its lease.
        """
        if call is None or details is None:
            return
        self.done.append(call)
        fn, args, kwargs, _ = details
        arguments, cells = self._before[call.name]
        if _shown([args, kwargs]) != arguments:
            self._cause(
                f"{_place(fn)}: the run {call.name!r} changes its argument; a replay does not. Return the new value."
            )
        if _cells(fn) != cells:
            self._cause(
                f"{_place(fn)}: the run {call.name!r} writes an outer variable; a replay does not. Return the value."
            )
        place = self.calls.index(call) + 1 if self.calls.count(call) == 1 else len(self.calls)
        if self.strike == Strike("after", place):
            self.strike = None
            self.die()
        if self.strike == Strike("takeover", place):
            self.strike = None
            self.take_over()

    def ended(self, spec: HandlerSpec, attempt: RunningAttempt, said: Any) -> None:
        """
        Judge the end of an attempt.
        """
        journal = attempt.journaled
        if self.dead or not isinstance(journal, Journal):
            return
        source = HandlerSource(spec.run)
        error, stop = said.error if isinstance(said, Raised) else None, attempt.stop
        for name, entry in journal.kept.items():
            if entry.sort is not EntrySort.VALUE:
                self.kept[attempt.context.document, name] = str(entry.state), entry.value
        if (stop is not None and not isinstance(error, type(stop.error))) or (attempt.lost.is_set() and error is None):
            lost = "LeaseLostError" if stop is None else type(stop.error).__name__
            self._swallowed(source, lost)
        elif stop is not None and isinstance(stop.error, Suspended):
            self._fields(spec, attempt, source)
        elif error is None and not isinstance(said, HandlerResult) and journal.unmet:
            names = ", ".join(map(repr, journal.unmet))
            self.mistakes.append(
                f"The journal has {names}, which the last attempt did not say: its way was decided anew."
            )
        for line in source.set_orders():
            self.mistakes.append(f"{source.file}:{line}: the order of a set differs between processes; sort it.")
        for line in source.branches():
            if isinstance(attempt.subject, LockedModel):
                self._cause(f"{source.file}:{line}: the entity is read outside a run; each attempt reads it anew.")

    def _swallowed(self, source: HandlerSource, error: str) -> None:
        file, _, number = (self._last or "").rpartition(":")
        line = source.catching(int(number)) if number.isdigit() else None
        self.mistakes.append(
            f"{file}:{line or number}: {error} is swallowed; let it pass, and catch errors of your own."
        )

    def _fields(self, spec: HandlerSpec, attempt: RunningAttempt, source: HandlerSource) -> None:
        if not isinstance(attempt.subject, LockedModel):
            return
        changed = spec.subject.changes(attempt.subject, None).values
        if changed:
            lines = source.assigned()
            place = f"{source.file}:{lines[0]}: " if lines else ""
            self.mistakes.append(
                f"{place}the field {', '.join(changed)} is changed before {self._last} waits: a suspension saves no fields. "
                "Change it after the last wait, or in attempt.run_transaction()."
            )

    def _cause(self, sentence: str) -> None:
        if sentence not in self.causes:
            self.causes.append(sentence)

    # --- told by the cloud ---

    def remote_call(self, method: str) -> None:
        """
        Note a remote call of a delivery; the process may die before it.
        """
        if not self.delivering:
            return
        if self.dead:
            raise Died
        self.remote.append(method)
        if self.strike == Strike("remote", len(self.remote)):
            self.die()

    def die(self) -> None:
        """
        End the process of this delivery.
        """
        self.strike, self.dead = None, True
        raise Died

    # --- effects, clocks and chance ---

    def profile(self, frame: FrameType, event: str, arg: Any) -> None:
        """
        Look at a call: effects outside a run are mistakes, times and chance outside a run are causes.
        """
        if event == "call":
            if any(code is frame.f_code and (own is None or _own(frame) is own) for code, own in self._effects):
                self._effect(frame)
            elif _root(frame) in _CHANCE and frame.f_back is not None and is_users(frame.f_back):
                self._read(frame.f_back, f"{_root(frame)}.{frame.f_code.co_name}()", "random() or attempt.uuid")
        elif event == "c_call" and is_users(frame):
            owner = getattr(arg, "__self__", None)
            if getattr(arg, "__module__", None) == "time" and arg.__name__ in _CLOCKS:
                self._read(frame, f"time.{arg.__name__}()", "now")
            elif isinstance(owner, type) and issubclass(owner, date) and arg.__name__ in ("now", "utcnow", "today"):
                self._read(frame, f"{owner.__name__}.{arg.__name__}()", "now")
            elif type(owner).__module__ == "random" or arg.__name__ == "urandom":
                self._read(frame, f"{arg.__name__}()", "random")

    def _read(self, frame: FrameType, what: str, word: str) -> None:
        if inside_run() is None and _in_handler(frame) is not None:
            self._cause(
                f"{line_of(frame)}: {what} is called outside a run, and differs in each attempt; use attempt.{word}(NAME)."
            )

    def _effect(self, frame: FrameType) -> None:
        handler = _in_handler(frame.f_back)
        if inside_run() is not None or handler is None or self.dead:
            return
        line = line_of(frame.f_back)
        name, source = frame.f_code.co_name, HandlerSource(handler) if handler else None
        number = (line or "").rpartition(":")[2]
        where = "in a finally" if source and number.isdigit() and source.in_finally(int(number)) else "outside a run"
        sentence = (
            f"{line}: {name} is called {where}, so that each attempt calls it again; hand it to attempt.run(NAME, ...)."
        )
        if sentence not in self.mistakes:
            self.mistakes.append(sentence)


def _code_of(effect: Any) -> tuple[CodeType, Any]:
    """
    Return the code of an effect, and the object to which it belongs; None: it belongs to none.

    Raises:
        UsageError: It is no function of Python.
    """
    owner = getattr(effect, "__self__", None)
    fn = getattr(effect, "__func__", effect)
    if not hasattr(fn, "__code__") and callable(fn):
        owner, fn = effect, type(effect).__call__
    code = getattr(fn, "__code__", None)
    if not isinstance(code, CodeType):
        raise UsageError(f"{effect!r:.80} can't be watched: effects= takes functions that are written in Python.")
    return code, owner


def _own(frame: FrameType) -> Any:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if names else None


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _in_handler(frame: FrameType | None) -> Any:
    """
    Return the handler in which *frame* is; None: it is in no handler.
    """
    while frame is not None:
        if frame.f_code is call_handler.__code__:
            return frame.f_locals["spec"].run
        frame = frame.f_back
    return None


def _shown(value: Any) -> str:
    return f"{value!r}"


def _cells(fn: Any) -> list[str]:
    found = []
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            found.append(_shown(cell.cell_contents))
        except ValueError:
            found.append("")
    return found


def _place(fn: Any) -> str:
    code = getattr(fn, "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
