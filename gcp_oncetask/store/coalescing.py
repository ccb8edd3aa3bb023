"""
Commits that share a call. Callers that come while calls are under way are sent together, by one ``BatchWrite``.

A caller that comes while fewer than ``MOST_CALLS`` calls are under way sends a ``Commit`` of its own at once, so a lone caller
never waits for company. Each other caller waits until one of these calls is answered. Then the first that waits sends the
writes of all that wait, up to the limits of a call. Each write keeps its own precondition, status and answer.

A ``BatchWrite`` is answered when its slowest write is done, and Firestore makes a write wait for a document that a transaction
has read, for up to 20 s. So only creates, first claims and settlings share a call (``rules.sharing``), never a write from
within a transaction, and never one of a document that an attempt of this process has read in a transaction. A call that is
not answered within ``SLOW`` seconds does not count as under way any more, so it holds up no callers but its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, Wakeup, elapsed
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.failures import WireError, out_of_time, status_error

MOST_CALLS: Final = 2
"""Calls under way from which on callers wait to share the next one."""
MOST_WRITES: Final = 20
"""Most writes of one call."""
MOST_BYTES: Final = 256 * 1024
"""Most bytes of the writes of one call."""
SLOW: Final = 0.25
"""Seconds after which a call that is not answered does not count as under way any more."""
_SHORTEST: Final = 0.001
"""Shortest wait, in seconds: clocks that run at different speeds must not make it a loop."""

_OPEN: ContextVar[int] = ContextVar("gcp_oncetask_open_transactions", default=0)


class WriteCalls(Protocol):
    """
    The remote calls of ``Wire`` that are used here.
    """

    def commit(self, request: Any) -> Any:
        """
        Commit the writes of *request* together.
        """

    def batch_write(self, writes: Sequence[Any]) -> list[tuple[Any, Any]]:
        """
        Apply writes that do not depend on each other; return the result and the status of each.
        """


class Applied(NamedTuple):
    """
    The answer to a write that has shared a call.
    """

    write_results: tuple[Any]


class _Waiting:
    """
    A caller that waits for a call.

    Attributes:
        request: Its ``CommitRequest``, of one write.
        since: The instant at which it came.
        wakeup: Set when it has an answer, or shall send a call.
        call: The call that it shall send; None: none.
        sent: Whether a call with its write was sent.
        answer: Returns its answer, or raises its error; None: it has none yet.
        alone: Whether its write is to be committed by itself, because a call with it was refused.
    """

    __slots__ = ("alone", "answer", "call", "name", "request", "sent", "since", "size", "wakeup")

    def __init__(self, request: Any, since: Mark) -> None:
        [write] = request.writes
        self.request, self.since = request, since
        self.name, self.size = write.update.name, write.ByteSize()
        self.wakeup = Wakeup()
        self.call: _Call | None = None
        self.sent = False
        self.answer: Callable[[], Any] | None = None
        self.alone = False


class _Call:
    """
    A call under way; *since* is the instant at which it began.
    """

    __slots__ = ("since",)

    def __init__(self, since: Mark) -> None:
        self.since = since


class _Traffic:
    """
    The calls and the callers of one process; the child of a fork begins with none.
    """

    def __init__(self) -> None:
        self.forks = forks.generation
        self.mutex = threading.Lock()
        self.calls: list[_Call] = []
        self.waiting: list[_Waiting] = []


class Coalescer:
    """
    The commits of one database that may share calls.

    Args:
        wire: The remote calls.
        clock: Measures time, and waits.
        timeout: Seconds until a caller that waits for an answer gives up.
        on: Whether commits share calls; if not, each one is a call of its own.

    Attributes:
        on: As above.
    """

    def __init__(self, wire: WriteCalls, clock: Clock, timeout: float, *, on: bool) -> None:
        self._wire = wire
        self._clock = clock
        self._timeout = timeout
        self.on: Final = on
        self._traffic = _Traffic()
        self._read: dict[str, int] = {}

    @contextmanager
    def transaction(self, path: str) -> Iterator[None]:
        """
        Within the block an attempt has a transaction open, which has read the document at *path*.
        """
        mutex = self._present().mutex
        # A number, because a thread may run the transactions of several attempts inside each other.
        _OPEN.set(_OPEN.get() + 1)
        with mutex:
            self._read[path] = self._read.get(path, 0) + 1
        try:
            yield
        finally:
            _OPEN.set(_OPEN.get() - 1)
            with mutex:
                self._read[path] -= 1
                if not self._read[path]:
                    del self._read[path]

    def commit(self, path: str, request: Any) -> Any:
        """
        Commit the only write of *request*, which may share a call, to the document at *path*.

        Returns:
            An object that has ``write_results``.

        Raises:
            WireError: As ``Wire.commit``; the write alone failed, or the call.
        """
        if not self.on or _OPEN.get() or path in self._read:
            return self._wire.commit(request)
        traffic, now = self._present(), self._clock.mark()
        mine = None
        with traffic.mutex:
            call = None if traffic.waiting else self._begin(traffic, now)
            if call is None:
                mine = _Waiting(request, now)
                traffic.waiting.append(mine)
        if mine is not None:
            return self._wait(traffic, mine)
        assert call is not None
        try:
            return self._wire.commit(request)
        finally:
            self._end(traffic, call)

    def _present(self) -> _Traffic:
        if self._traffic.forks != forks.generation:
            self._traffic = _Traffic()
        return self._traffic

    # --- calls under way; the caller has the mutex ---

    def _begin(self, traffic: _Traffic, now: Mark) -> _Call | None:
        """
        Note that a call begins *now*; return None if enough calls are under way.
        """
        if len(traffic.calls) >= MOST_CALLS:
            traffic.calls = [call for call in traffic.calls if elapsed(call.since, now) < SLOW]
            if len(traffic.calls) >= MOST_CALLS:
                return None
        call = _Call(now)
        traffic.calls.append(call)
        return call

    def _pass_on(self, traffic: _Traffic) -> None:
        """
        Let those that wait send calls, as many as may be under way; each sends the writes of others as well.
        """
        for one in traffic.waiting:
            if one.call is None:
                one.call = self._begin(traffic, self._clock.mark())
                if one.call is None:
                    return
                one.wakeup.set()

    def _end(self, traffic: _Traffic, call: _Call) -> None:
        with traffic.mutex:
            if call in traffic.calls:
                traffic.calls.remove(call)
            if traffic.waiting:
                self._pass_on(traffic)

    # --- those that wait ---

    def _wait(self, traffic: _Traffic, mine: _Waiting) -> Any:
        now = mine.since
        try:
            while mine.answer is None:
                woken = self._clock.wait(mine.wakeup, self._patience(traffic, mine, now))
                # All that shared a call wake up at once: those that have their answers do not wait for the mutex.
                if woken and mine.call is None:
                    continue
                now = self._clock.mark()
                with traffic.mutex:
                    call, batch = self._turn(traffic, mine, now)
                if call is not None:
                    self._send(traffic, call, batch)
        except BaseException:
            with traffic.mutex:
                self._leave(traffic, mine)
            raise
        return self._wire.commit(mine.request) if mine.alone else mine.answer()

    def _patience(self, traffic: _Traffic, mine: _Waiting, now: Mark) -> float:
        """
        Return the seconds from *now* until the deadline of *mine*, or until a call that is under way counts as slow.
        """
        slow = [SLOW - elapsed(call.since, now) for call in list(traffic.calls)]
        return max(_SHORTEST, min([self._timeout - elapsed(mine.since, now), *([] if mine.sent else slow)]))

    def _turn(self, traffic: _Traffic, mine: _Waiting, now: Mark) -> tuple[_Call | None, list[_Waiting]]:
        """
        Return the call that *mine* sends *now*, and those whose writes go with it. At its deadline *mine* is given its answer.
        """
        if mine.answer is not None:
            return None, []
        if elapsed(mine.since, now) >= self._timeout:
            if mine.sent:
                mine.answer = _raising(out_of_time(FailureClass.AMBIGUOUS, "no answer came until its deadline"))
            else:
                mine.answer = _raising(out_of_time(FailureClass.CONTENTION, "it was not sent until its deadline"))
                self._leave(traffic, mine)
            return None, []
        if mine.call is not None:
            return mine.call, _batch(traffic, mine)
        if not mine.sent:
            # It may be the first to notice that a call is slow.
            self._pass_on(traffic)
        return None, []

    def _leave(self, traffic: _Traffic, mine: _Waiting) -> None:
        """
        Take *mine* out of those that wait; another one sends its call.
        """
        if mine not in traffic.waiting:
            return
        traffic.waiting.remove(mine)
        if mine.call in traffic.calls:
            traffic.calls.remove(mine.call)
        self._pass_on(traffic)

    def _send(self, traffic: _Traffic, call: _Call, batch: Sequence[_Waiting]) -> None:
        """
        Send *call*, with the writes of *batch*, and give each its answer.
        """
        answers: list[Callable[[], Any]] = []
        try:
            if len(batch) == 1:
                response = self._wire.commit(batch[0].request)
                answers = [lambda: response]
            else:
                answers = [_answer(*each) for each in self._wire.batch_write([one.request.writes[0] for one in batch])]
        except WireError as error:
            answers = [_after_failure(one, error, alone=len(batch) == 1) for one in batch]
        finally:
            if len(answers) != len(batch):
                # This thread is being ended, for example; the others read back whether their writes were applied.
                answers = [_raising(out_of_time(FailureClass.AMBIGUOUS, "its call has got no answer"))] * len(batch)
            self._end(traffic, call)
            for one, answer in zip(batch, answers, strict=True):
                one.answer = answer
                one.wakeup.set()


def _after_failure(one: _Waiting, error: WireError, *, alone: bool) -> Callable[[], Any]:
    if not alone and error.failure is FailureClass.REFUSED:
        # Which of the writes is to blame is not said, so each is committed by itself.
        one.alone = True
    if alone or one.alone:
        return _raising(error)
    # Each write has a fate of its own, so none surely had no effect.
    return _raising(WireError(FailureClass.AMBIGUOUS, error.code, error.message))


def _batch(traffic: _Traffic, first: _Waiting) -> list[_Waiting]:
    """
    Take those whose writes go out with that of *first*: in the order in which they came, with one write of each document.
    """
    batch, names, size = [first], {first.name}, first.size
    for one in traffic.waiting:
        if len(batch) == MOST_WRITES:
            break
        if one.call is None and one.name not in names and size + one.size <= MOST_BYTES:
            batch.append(one)
            names.add(one.name)
            size += one.size
    for one in batch:
        one.sent = True
    traffic.waiting = [one for one in traffic.waiting if not one.sent]
    return batch


def _answer(result: Any, status: Any) -> Callable[[], Any]:
    if not status.code:
        return lambda: Applied((result,))
    return _raising(status_error(status))


def _raising(error: WireError) -> Callable[[], Any]:
    def answer() -> Any:
        # Each caller gets an error of its own, whose traceback is its own.
        raise WireError(error.failure, error.code, error.message)

    return answer
