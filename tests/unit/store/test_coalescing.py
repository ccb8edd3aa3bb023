"""
Commits that share a call: who waits, what goes out together, and what each caller is told.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status as RpcStatus

from gcp_oncetask.clock import Mark, SystemClock
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store import coalescing
from gcp_oncetask.store.coalescing import MOST_BYTES, MOST_WRITES, Coalescer
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.wire import CommitRequest
from tests.support.base import mark
from tests.support.patience import patient

REFUSED = WireError(FailureClass.REFUSED, grpc.StatusCode.INVALID_ARGUMENT, "one of them is wrong")
LOST = WireError(FailureClass.AMBIGUOUS, grpc.StatusCode.UNAVAILABLE, "the connection was lost")
CONTENDED = WireError(FailureClass.CONTENTION, grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")


def request(path: str, size: int = 0) -> Any:
    made = CommitRequest(database="db")
    write = made.writes.add()
    write.update.name = path
    if size:
        write.update.fields["filler"].bytes_value = b"x" * size
    return made


class Call:
    """
    A call that the wire was asked for, and that is not answered until somebody says so.

    Attributes:
        method: Its name.
        names: Documents of its writes, in order.
    """

    def __init__(self, method: str, names: Sequence[str]) -> None:
        self.method, self.names = method, list(names)
        self._answer: Future[Any] = Future()

    def wait(self) -> Any:
        return self._answer.result(patient(10))

    def done(self, *statuses: int) -> None:
        """
        Apply the writes; each one has a status.
        """
        codes = statuses or (0,) * len(self.names)
        results = [f"result of {name}" for name in self.names]
        if self.method == "Commit":
            self._answer.set_result(coalescing.Applied((results[0],)))
        else:
            self._answer.set_result([(r, RpcStatus(code=code)) for r, code in zip(results, codes, strict=True)])

    def fails(self, error: BaseException) -> None:
        self._answer.set_exception(error)


class Wire:
    """
    Remote calls that a test answers one by one.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._changed = threading.Condition()

    def commit(self, request: Any) -> Any:
        return self._call("Commit", request.writes)

    def batch_write(self, writes: Sequence[Any]) -> Any:
        return self._call("BatchWrite", writes)

    def _call(self, method: str, writes: Sequence[Any]) -> Any:
        call = Call(method, [write.update.name for write in writes])
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
        return call.wait()

    def call(self, number: int) -> Call:
        """
        The call of that number, once it was made.
        """
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) > number, patient(5))
        return self.calls[number]


def start(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """
    Run *call* on a thread that ends with this process at the latest.
    """
    found: Future[Any] = Future()

    def run() -> None:
        try:
            found.set_result(call(*arguments))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found


class Stage:
    """
    Callers on threads of their own.
    """

    def __init__(self, timeout: float = 1000.0, *, on: bool = True) -> None:
        self.wire = Wire()
        self.coalescer = Coalescer(self.wire, SystemClock(), timeout, on=on)

    def come(self, path: str, size: int = 0, context: Context | None = None) -> Future[Any]:
        """
        A caller comes; return its answer, once it waits for a call of its own or of others.
        """
        calls, waiting = len(self.wire.calls), self.waiting
        found = start((context or Context()).run, self.coalescer.commit, path, request(path, size))
        while len(self.wire.calls) == calls and self.waiting == waiting and not found.done():
            threading.Event().wait(0.001)
        return found

    @property
    def waiting(self) -> int:
        return len(self.coalescer._traffic.waiting)


def told(answer: Future[Any]) -> Any:
    return answer.result(patient(5)).write_results[0]


def failed(answer: Future[Any]) -> tuple[FailureClass, grpc.StatusCode]:
    error = answer.exception(patient(5))
    assert isinstance(error, WireError)
    return error.failure, error.code


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """
    No call is slow here.
    """
    monkeypatch.setattr(coalescing, "SLOW", 1000.0)
    return Stage()


# --- who waits --------------------------------------------------------------------------------------------------------


def test_few_callers_send_commits_of_their_own(stage: Stage) -> None:
    one, two = stage.come("a"), stage.come("b")
    stage.wire.call(1).done()
    stage.wire.call(0).done()

    assert (told(one), told(two)) == ("result of a", "result of b")
    assert [call.method for call in stage.wire.calls] == ["Commit", "Commit"]
    three = stage.come("c")
    stage.wire.call(2).done()
    assert told(three) == "result of c"
    assert stage.wire.calls[2].method == "Commit"


def test_those_that_come_meanwhile_share_the_next_call(stage: Stage) -> None:
    first = [stage.come("a"), stage.come("b")]
    more = [stage.come(path) for path in "cdef"]
    assert len(stage.wire.calls) == 2
    stage.wire.calls[0].done()

    shared = stage.wire.call(2)
    assert (shared.method, shared.names) == ("BatchWrite", ["c", "d", "e", "f"])
    shared.done()
    stage.wire.calls[1].done()
    assert [told(one) for one in (*first, *more)] == [f"result of {path}" for path in "abcdef"]
    assert stage.waiting == 0


def test_one_that_waits_alone_sends_a_commit(stage: Stage) -> None:
    answers = [stage.come(path) for path in "abc"]
    stage.wire.calls[1].done()
    assert stage.wire.call(2).method == "Commit"
    stage.wire.calls[0].done()
    stage.wire.calls[2].done()
    assert [told(one) for one in answers] == [f"result of {path}" for path in "abc"]


def test_no_caller_waits_if_calls_are_not_shared() -> None:
    stage = Stage(on=False)
    answers = [stage.come(path) for path in "abcd"]
    assert [call.method for call in stage.wire.calls] == ["Commit"] * 4
    for call in stage.wire.calls:
        call.done()
    assert [told(one) for one in answers] == [f"result of {path}" for path in "abcd"]


def test_call_that_is_slow_holds_nobody_up() -> None:
    """
    Two calls hang: those that wait send the next ones after a quarter of a second.
    """
    stage = Stage()
    hung = [stage.come("a"), stage.come("b")]
    waited = [stage.come("c"), stage.come("d"), stage.come("e")]

    number, names = 2, set[str]()
    while len(names) < len(waited):
        names.update(stage.wire.call(number).names)
        stage.wire.call(number).done()
        number += 1
    assert [told(one) for one in waited] == ["result of c", "result of d", "result of e"]
    assert not any(one.done() for one in hung)
    later = stage.come("f")
    stage.wire.call(number).done()
    assert told(later) == "result of f"
    for call in stage.wire.calls[:2]:
        call.done()
    assert [told(one) for one in hung] == ["result of a", "result of b"]


# --- what goes out together -------------------------------------------------------------------------------------------


def test_two_writes_of_one_document_go_out_one_after_the_other(stage: Stage) -> None:
    stage.come("a"), stage.come("b")
    answers = [stage.come(path) for path in ("c", "d", "c", "c", "e")]
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == ["c", "d", "e"]
    stage.wire.calls[2].done()
    assert stage.wire.call(3).names == ["c"]
    stage.wire.calls[1].done()
    assert stage.wire.call(4).names == ["c"]
    for call in stage.wire.calls[3:]:
        call.done()
    assert [told(one) for one in answers] == [f"result of {path}" for path in ("c", "d", "c", "c", "e")]


def test_write_that_comes_twice_behind_another_one_goes_out_twice(stage: Stage) -> None:
    stage.come("a"), stage.come("b")
    answers = [stage.come(path) for path in ("c", "d", "d", "e")]
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == ["c", "d", "e"]
    stage.wire.calls[2].done()
    assert stage.wire.call(3).names == ["d"]
    stage.wire.calls[3].done()
    stage.wire.calls[1].done()
    assert [told(one) for one in answers] == [f"result of {path}" for path in ("c", "d", "d", "e")]


def test_a_call_has_so_many_writes_at_most(stage: Stage) -> None:
    stage.come("a"), stage.come("b")
    answers = [stage.come(f"c{number:02}") for number in range(MOST_WRITES + 5)]
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == [f"c{number:02}" for number in range(MOST_WRITES)]
    stage.wire.calls[1].done()
    assert len(stage.wire.call(3).names) == 5
    for call in stage.wire.calls[2:]:
        call.done()
    assert [told(one) for one in answers] == [f"result of c{number:02}" for number in range(MOST_WRITES + 5)]


def test_a_call_has_so_many_bytes_at_most(stage: Stage) -> None:
    """
    A write that does not fit waits, and a smaller one that comes later goes along.
    """
    stage.come("a"), stage.come("b")
    answers = [stage.come(path, size) for path, size in (("c", MOST_BYTES * 2), ("d", 10), ("e", MOST_BYTES // 2))]
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == ["c"]
    stage.wire.calls[2].done()
    assert stage.wire.call(3).names == ["d", "e"]
    stage.wire.calls[3].done()
    stage.wire.calls[1].done()
    assert [told(one) for one in answers] == ["result of c", "result of d", "result of e"]


def test_bytes_of_all_writes_of_a_call_count(stage: Stage) -> None:
    """
    Three that fit exactly go out together; a byte more waits.
    """

    def filler(number: int, size: int) -> int:
        [write] = request(f"c{number}", size).writes
        return size - (write.ByteSize() - size)

    stage.come("a"), stage.come("b")
    third = MOST_BYTES // 4
    sizes = [filler(0, third), filler(1, third), filler(2, MOST_BYTES - 2 * third)]
    sizes = [size + third - request(f"c{n}", size).writes[0].ByteSize() for n, size in enumerate(sizes[:2])] + sizes[2:]
    sizes[2] += MOST_BYTES - 2 * third - request("c2", sizes[2]).writes[0].ByteSize()
    answers = [stage.come(f"c{number}", size) for number, size in enumerate(sizes)]
    answers.append(stage.come("c3"))
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == ["c0", "c1", "c2"]
    stage.wire.calls[2].done()
    assert stage.wire.call(3).names == ["c3"]
    stage.wire.calls[3].done()
    stage.wire.calls[1].done()
    assert [told(one) for one in answers] == [f"result of c{number}" for number in range(4)]


def test_transactions_inside_each_other(stage: Stage) -> None:
    """
    Writes go out alone until the outermost one is over; then they share calls again.
    """
    stage.come("a"), stage.come("b"), stage.come("c")

    def alone(path: str, number: int) -> None:
        answer = start(context.run, stage.coalescer.commit, path, request(path))
        assert stage.wire.call(number).names == [path]
        stage.wire.calls[number].done()
        assert told(answer) == f"result of {path}"

    with stage.coalescer.transaction("mine"):
        with stage.coalescer.transaction("mine"), stage.coalescer.transaction("other"):
            context = copy_context()
            alone("x", 2)
        context = copy_context()
        alone("y", 3)
        read = start(Context().run, stage.coalescer.commit, "mine", request("mine"))
        assert stage.wire.call(4).names == ["mine"]
        stage.wire.calls[4].done()
        assert told(read) == "result of mine"
    last = [stage.come("mine", context=copy_context()), stage.come("other")]
    stage.wire.calls[0].done()
    assert stage.wire.call(5).names == ["c", "mine", "other"]
    stage.wire.calls[5].done()
    stage.wire.calls[1].done()
    assert [told(one) for one in last] == ["result of mine", "result of other"]


def test_writes_of_and_in_transactions_go_out_alone(stage: Stage) -> None:
    """
    Firestore makes a write wait for a document that a transaction has read; those who share its call would wait as well.
    """
    stage.come("a"), stage.come("b"), stage.come("c")

    def within() -> Any:
        with stage.coalescer.transaction("mine"):
            entered.set()
            assert left.wait(patient(5))
            return stage.coalescer.commit("other", request("other"))

    entered, left = threading.Event(), threading.Event()
    inside = start(within)
    assert entered.wait(patient(5))
    read = stage.come("mine")
    assert (stage.wire.call(2).method, stage.wire.call(2).names) == ("Commit", ["mine"])
    left.set()
    assert (stage.wire.call(3).method, stage.wire.call(3).names) == ("Commit", ["other"])
    stage.wire.calls[2].done()
    stage.wire.calls[3].done()
    assert (told(read), told(inside)) == ("result of mine", "result of other")
    # Now it may share a call again.
    again = stage.come("mine")
    stage.wire.calls[0].done()
    assert stage.wire.call(4).names == ["c", "mine"]
    stage.wire.calls[4].done()
    stage.wire.calls[1].done()
    assert told(again) == "result of mine"


# --- what each is told ------------------------------------------------------------------------------------------------


def shared(stage: Stage, *paths: str) -> tuple[Call, list[Future[Any]]]:
    """
    A call of several callers, and their answers.
    """
    stage.come("first"), stage.come("second")
    answers = [stage.come(path) for path in paths]
    stage.wire.calls[0].done()
    call = stage.wire.call(2)
    stage.wire.calls[1].done()
    return call, answers


def test_each_write_has_a_status_of_its_own(stage: Stage) -> None:
    call, (one, two, three, four) = shared(stage, "c", "d", "e", "f")
    call.done(0, grpc.StatusCode.FAILED_PRECONDITION.value[0], grpc.StatusCode.INTERNAL.value[0], 0)

    assert (told(one), told(four)) == ("result of c", "result of f")
    assert failed(two) == (FailureClass.MOVED, grpc.StatusCode.FAILED_PRECONDITION)
    assert failed(three) == (FailureClass.AMBIGUOUS, grpc.StatusCode.INTERNAL)


def test_call_that_is_refused_is_repeated_write_by_write(stage: Stage) -> None:
    call, (one, two) = shared(stage, "c", "d")
    call.fails(REFUSED)

    stage.wire.call(4)
    repeated = {call.names[0]: call for call in stage.wire.calls[3:]}
    assert {call.method for call in repeated.values()} == {"Commit"}
    repeated["c"].done()
    repeated["d"].fails(REFUSED)
    assert told(one) == "result of c"
    assert failed(two)[0] is FailureClass.REFUSED


@pytest.mark.parametrize("error", [LOST, CONTENDED])
def test_call_that_fails_may_have_applied_each_write(stage: Stage, error: WireError) -> None:
    call, answers = shared(stage, "c", "d")
    call.fails(error)

    assert [failed(one) for one in answers] == [(FailureClass.AMBIGUOUS, error.code)] * 2
    errors = [one.exception() for one in answers]
    assert errors[0] is not errors[1], "each caller has a traceback of its own"


@pytest.mark.parametrize("error", [CONTENDED, REFUSED])
def test_commit_of_one_that_waited_alone_fails_as_any_commit(stage: Stage, error: WireError) -> None:
    call, [one] = shared(stage, "c")
    call.fails(error)
    assert failed(one) == (error.failure, error.code)
    assert len(stage.wire.calls) == 3


def test_thread_that_sends_a_call_and_is_ended_leaves_the_others_in_doubt(stage: Stage) -> None:
    call, (one, two) = shared(stage, "c", "d")
    call.fails(KeyboardInterrupt())

    assert isinstance(one.exception(patient(5)), KeyboardInterrupt)
    assert failed(two)[0] is FailureClass.AMBIGUOUS
    assert two.exception().message == "its call has got no answer"  # type: ignore[union-attr]
    after = stage.come("e")
    stage.wire.call(3).done()
    assert told(after) == "result of e"


class Still(SystemClock):
    """
    A clock that stands at *seconds*.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def mark(self) -> Mark:
        return mark(self.seconds)


def test_wait_lasts_until_the_deadline_or_until_a_call_counts_as_slow() -> None:
    clock = Still()
    coalescer = Coalescer(Wire(), clock, 10.0, on=True)
    traffic, mine = coalescer._traffic, coalescing._Waiting(request("a"), mark(0))
    assert coalescer._patience(traffic, mine, clock.mark()) == 10
    traffic.calls = [coalescing._Call(mark(0.5)), coalescing._Call(mark(0.625))]
    clock.seconds = 0.625
    assert coalescer._patience(traffic, mine, clock.mark()) == 0.125
    mine.sent = True
    assert coalescer._patience(traffic, mine, clock.mark()) == 9.375
    clock.seconds = 11
    assert coalescer._patience(traffic, mine, clock.mark()) == coalescing._SHORTEST


@pytest.mark.parametrize(
    ("sent", "failure", "text"),
    [
        (True, FailureClass.AMBIGUOUS, "no answer came until its deadline"),
        (False, FailureClass.CONTENTION, "it was not sent until its deadline"),
    ],
)
def test_deadline_gives_an_answer_to_one_that_has_none(sent: bool, failure: FailureClass, text: str) -> None:
    clock = Still()
    coalescer = Coalescer(Wire(), clock, 10.0, on=True)
    traffic, mine = coalescer._traffic, coalescing._Waiting(request("a"), mark(0))
    mine.sent = sent
    traffic.calls = [coalescing._Call(mark(0)) for _ in range(coalescing.MOST_CALLS)]
    assert coalescer._turn(traffic, mine, clock.mark()) == (None, [])
    assert mine.answer is None
    clock.seconds = 10
    assert coalescer._turn(traffic, mine, clock.mark()) == (None, [])
    given = mine.answer
    assert given is not None
    with pytest.raises(WireError) as raised:
        given()
    assert (raised.value.failure, raised.value.message) == (failure, text)
    assert coalescer._turn(traffic, mine, clock.mark()) == (None, [])
    assert mine.answer is given, "an answer stays"


def test_deadline_that_ends_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was not sent is not applied, and is not sent later; what was sent may be applied.
    """
    monkeypatch.setattr(coalescing, "SLOW", 1000.0)
    stage = Stage(timeout=0.3)
    stage.come("a"), stage.come("b")
    unsent = stage.come("c")
    assert failed(unsent) == (FailureClass.CONTENTION, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert stage.waiting == 0
    more = [stage.come("d"), stage.come("e")]
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == ["d", "e"]
    assert failed(more[1]) == (FailureClass.AMBIGUOUS, grpc.StatusCode.DEADLINE_EXCEEDED)
    stage.wire.calls[2].done()
    stage.wire.calls[1].done()
    assert told(more[0]) == "result of d"


def test_caller_that_is_ended_while_it_waits_leaves_its_place(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.come("a"), stage.come("b")
    ended = threading.Event()

    class Interrupted(SystemClock):
        def wait(self, wakeup: Any, timeout: float) -> bool:
            ended.set()
            raise KeyboardInterrupt

    clock = stage.coalescer._clock
    monkeypatch.setattr(stage.coalescer, "_clock", Interrupted())
    gone = start(stage.coalescer.commit, "c", request("c"))
    assert isinstance(gone.exception(patient(5)), KeyboardInterrupt)
    assert ended.is_set()
    monkeypatch.setattr(stage.coalescer, "_clock", clock)
    after = stage.come("d")
    stage.wire.calls[0].done()
    assert stage.wire.call(2).names == ["d"]
    stage.wire.calls[1].done()
    stage.wire.calls[2].done()
    assert told(after) == "result of d"


def test_caller_that_is_ended_as_it_shall_send_passes_the_call_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(SystemClock):
        ended = False

        def wait(self, wakeup: Any, timeout: float) -> bool:
            found = super().wait(wakeup, timeout)
            if found and not self.ended:
                self.ended = True
                raise KeyboardInterrupt
            return found

    monkeypatch.setattr(stage.coalescer, "_clock", Interrupted())
    stage.come("a"), stage.come("b")
    gone, after = stage.come("c"), stage.come("d")
    stage.wire.calls[0].done()
    assert isinstance(gone.exception(patient(5)), KeyboardInterrupt)
    assert stage.wire.call(2).names == ["d"]
    later = stage.come("e")
    assert stage.waiting == 1, "two calls are under way"
    stage.wire.calls[2].done()
    assert stage.wire.call(3).names == ["e"]
    stage.wire.calls[3].done()
    stage.wire.calls[1].done()
    assert (told(after), told(later)) == ("result of d", "result of e")


def test_child_of_a_fork_begins_without_calls(stage: Stage) -> None:
    """
    The threads that would answer those of its parent are not there.
    """
    stage.come("a"), stage.come("b"), stage.come("c")
    stage.wire.commit = lambda request: "committed"  # type: ignore[method-assign]
    child = os.fork()
    if child == 0:
        # One that waits is ended.
        signal.alarm(10)
        os._exit(0 if stage.coalescer.commit("d", request("d")) == "committed" else 1)
    _, status = os.waitpid(child, 0)
    for call in stage.wire.calls:
        call.done()

    assert os.waitstatus_to_exitcode(status) == 0
