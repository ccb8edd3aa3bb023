"""
The library in one process of the model.

A process is replayed: a call of the library runs on a wire that gives the recorded answers, in their order, and that stops it
at the first request which has none yet. So the real ``Store`` with its flow, the real claim, takeover, settling and hand-over
are explored, and a process is a value that can be kept and compared: its call, and the answers that it has got so far. A
generator could not be copied; the recorded answers can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple
from unittest import mock

import grpc
from google.cloud.firestore_v1.types import firestore as _api
from google.cloud.firestore_v1.types import write as _write

from gcp_oncetask import Config, OncetaskError
from gcp_oncetask.clock import Mark
from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.coalescing import Coalescer
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.store import Store
from tests.model import documents
from tests.model.documents import ROOT, TICK, instant
from tests.model.loglines import LogLine, line_of

_CommitRequest: Final = _api.CommitRequest.pb()
_CommitResponse: Final = _api.CommitResponse.pb()
_WriteType: Final = _write.Write.pb()
MARGIN: Final = 1.0


class Request(NamedTuple):
    """
    A remote call that a process waits for.

    Attributes:
        kind: ``commit``, ``read`` (with the server's time), ``get``, ``parked`` (a query), ``create`` (a Cloud Task), or
            ``lines`` (of the log).
        value: The serialized commit, the paths, the body of the task, or the nonces.
    """

    kind: str
    value: Any = None


class Answer(NamedTuple):
    """
    The answer to a remote call.

    Attributes:
        kind: Kind of the request.
        tick: Time at which it came.
        failure: Class of the failure; None: the call was answered.
        value: The serialized response, the numbers of the documents, or the lines.
    """

    kind: str
    tick: int
    failure: FailureClass | None = None
    value: Any = None


class Call(NamedTuple):
    """
    A call of the library.

    Attributes:
        name: Name of the program.
        args: Its arguments.
        seed: Number of which its nonces are made.
        begun: Time at which it began.
    """

    name: str
    args: tuple[Hashable, ...]
    seed: int
    begun: int


class Asks(BaseException):
    """
    Stops a call at a request that has no answer yet. No handler of ``Exception`` catches it.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.request = request


class Replay:
    """
    The process that runs a call: clock, wire, queue and log in one.
    """

    def __init__(self) -> None:
        self.answers: Sequence[Answer] = ()
        self.seed = self.tick = self._next = self._nonces = 0

    def begin(self, call: Call, answers: Sequence[Answer]) -> None:
        """
        Run *call* next, with *answers*.
        """
        self.answers, self.tick, self.seed = answers, call.begun, call.seed
        self._next = self._nonces = 0

    def ask(self, kind: str, value: Any = None) -> Any:
        """
        Return the recorded answer to a request.

        Raises:
            Asks: There is none yet.
            WireError: The answer is a failure.
        """
        if self._next == len(self.answers):
            raise Asks(Request(kind, value))
        answer = self.answers[self._next]
        assert answer.kind == kind, f"the call does not replay: {answer.kind} was asked for, and now {kind}"
        self._next += 1
        self.tick = answer.tick
        if answer.failure is not None:
            raise WireError(answer.failure, grpc.StatusCode.UNAVAILABLE, "no")
        return answer.value

    # --- the clock ---

    def now(self) -> datetime:
        return instant(self.tick)

    def mark(self) -> Mark:
        seconds = float(self.tick * TICK)
        return Mark(seconds, seconds, seconds)

    def wait(self, wakeup: Any, timeout: float) -> bool:
        return False

    def random(self) -> float:
        return 0.5

    def nonce(self) -> str:
        self._nonces += 1
        return f"n{self.seed}.{self._nonces}"

    # --- the wire ---

    client = None

    def estimate(self) -> datetime:
        return instant(self.tick)

    def request(self, path: str | None = None) -> Any:
        made = _CommitRequest(database="projects/model/databases/(default)")
        if path is not None:
            self.write(path, made)
        return made

    def write(self, path: Any, request: Any | None = None, **line: Any) -> Any:
        if line:
            # The line about a settling that failed; the log has it already.
            return None
        write = _WriteType() if request is None else request.writes.add()
        write.update.name = self.name(path)
        return write

    def name(self, path: str) -> str:
        return ROOT + path

    def path(self, name: str) -> str:
        return name.removeprefix(ROOT)

    def commit(self, request: Any) -> Any:
        return _CommitResponse.FromString(self.ask("commit", request.SerializeToString(deterministic=True)))

    def get(self, path: str) -> Any | None:
        return documents.document_of(self.ask("get", (path,))[0])

    def batch_get(self, paths: Sequence[str]) -> dict[str, tuple[Any | None, datetime]]:
        numbers = self.ask("read", tuple(paths))
        return {path: (documents.document_of(number), self.now()) for path, number in zip(paths, numbers, strict=True)}

    def run_query(self, query: Any, parent: str = "") -> tuple[list[Any], datetime]:
        return [documents.document_of(number) for number in self.ask("parked")], self.now()

    # --- queue and log ---

    def create(self, push: Any) -> None:
        self.ask("create", push.body)

    def check(self, url: str, queue: str, headers: Any) -> str:
        return ""

    def lines(self, holders: Sequence[Any]) -> list[Line]:
        found: tuple[LogLine, ...] = self.ask("lines", tuple(holder.nonce for holder in holders))
        return [line_of(line) for line in found]


class _Silent:
    """
    Events and log of a process that tells nobody of them.
    """

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return None


def _made() -> tuple[Replay, Any]:
    process = Replay()
    config = Config(
        project="model",
        location="here",
        verify="off",
        base_url="https://app.test",
        margin=MARGIN,
        log_grace=float(TICK),
        dispatch_grace=float(TICK),
        alert_retry=86_400.0,
        patience=1.5 * TICK,
        inline_limit=16_384,
    )
    stub: Any = process
    runtime: Any = Runtime(None, config, None, stub, stub, stub)
    runtime.wire, runtime.tasks, runtime.targets, runtime.events = process, process, process, _Silent()
    coalescer = Coalescer(stub, stub, config.rpc_timeout, on=False)
    runtime.store = Store(stub, stub, config.patience, coalescer)
    runtime.registry = _Silent()
    runtime.register = lambda collection, url: None
    runtime.instance = lambda: "app"
    return process, runtime


PROCESS, RUNTIME = _made()
PROGRAMS: Final[dict[str, Callable[..., Hashable]]] = {}


def program(call: Callable[..., Hashable]) -> Callable[..., Hashable]:
    """
    Make *call* a program that processes run.
    """
    PROGRAMS[call.__name__] = call
    return call


class Failed(NamedTuple):
    """
    A call that has ended with an error.

    Attributes:
        error: Name of its type.
        unknown: Whether its commit may still be applied.
    """

    error: str
    unknown: bool


@cache
def run(call: Call, answers: tuple[Answer, ...]) -> Request | tuple[Hashable]:
    """
    Return the request at which *call* waits after *answers*; or its result, in a tuple.
    """
    PROCESS.begin(call, answers)
    try:
        return (PROGRAMS[call.name](*call.args),)
    except Asks as stopped:
        return stopped.request
    except OncetaskError as error:
        return (Failed(type(error).__name__, bool(error.facts.get("unknown"))),)


@contextmanager
def alone() -> Iterator[None]:
    """
    Keep the library's log lines and mails to itself: the alerts that are owed stay owed here.
    """
    logger = logging.getLogger("gcp_oncetask")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with mock.patch.object(owed_alerts, "send_owed", return_value=0):
            yield
    finally:
        logger.setLevel(before)
