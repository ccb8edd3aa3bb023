"""
gRPC services out of plain functions on protobuf messages.

A service is a mapping from method name to ``Method``; the same functions can be put behind a port or called
directly. Every call passes through ``Service.begin``, which counts it and applies injected faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from types import GeneratorType
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.faults import Fault, Faults
from gcp_emulator.waiting import Hold, Steps, finished


class RpcError(Exception):
    """
    A refusal as the caller will see it.

    Attributes:
        code: gRPC status.
        message: The service's sentence.
        details: Error details (``google.rpc``) that travel with it.
    """

    def __init__(self, code: grpc.StatusCode, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)

    def status(self) -> Any:
        """
        Return this refusal as a ``google.rpc.Status``.
        """
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return status


def is_repeated(field: Any) -> bool:
    """
    Tell whether *field*, a descriptor, holds several values. Protobuf 5 lacks ``is_repeated``; later releases warn of ``label``.
    """
    newer = getattr(field, "is_repeated", None)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED if newer is None else newer)


def unimplemented(what: str) -> RpcError:
    """
    Return the refusal of a call that this server can't answer correctly.
    """
    return RpcError(grpc.StatusCode.UNIMPLEMENTED, f"{what} is not implemented by this local server.")


class Mouth(Protocol):
    """
    The way from a server to the caller of one RPC of two streams.
    """

    def say(self, answers: Iterable[Message]) -> None:
        """
        Send *answers*; only in the thread of the port.
        """

    def soon(self, call: Callable[[], None]) -> None:
        """
        Have *call* run in the thread of the port, soon; from any thread. A refusal that is raised ends the RPC.
        """

    def run(self, steps: Steps, then: Callable[[Any], None]) -> None:
        """
        Run *steps*, and then *then* with their value; a wait holds no thread. A refusal that is raised ends the RPC. The steps
        go on when the caller has gone.
        """

    def end(self) -> None:
        """
        End the RPC after the answers so far.
        """


class Talk(Protocol):
    """
    The server's side of one RPC of two streams. All is called in the thread of the port.
    """

    def heard(self, request: Any) -> None:
        """
        Take the next request.

        Raises:
            RpcError: Ends the RPC.
        """

    def closed(self) -> None:
        """
        The caller sends no more requests.
        """

    def over(self) -> None:
        """
        The RPC has ended.
        """


@dataclass(frozen=True, slots=True)
class Method:
    """
    One RPC.

    Attributes:
        run: From request to response; an iterator of responses if ``stream``. With ``waits``, a generator that yields a
            ``Hold`` whenever it has to wait, and returns the response.
        request: Plain protobuf class of the request.
        response: Plain protobuf class of the response.
        stream: Whether the answer is a stream.
        bidi: Whether the requests are a stream as well; ``run`` then takes a ``Mouth`` and returns a ``Talk``, and needs a
            port.
        waits: Whether the call may wait for another one.
    """

    run: Callable[[Any], Any]
    request: type[Message]
    response: type[Message]
    stream: bool = False
    bidi: bool = False
    waits: bool = False


@dataclass(slots=True)
class Service:
    """
    A named gRPC service.

    Attributes:
        name: Full name, such as ``google.firestore.v1.Firestore``.
        methods: RPCs by short name. Others are answered UNIMPLEMENTED with a sentence.
        faults: Injected faults.
        counts: Calls received, by short name, injected failures included.
    """

    name: str
    methods: dict[str, Method]
    faults: Faults
    clock: Clock = field(default_factory=SystemClock)
    counts: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _late: list[tuple[int, Method, Message]] = field(default_factory=list, repr=False)

    def call(self, name: str, request: Any) -> Any:
        """
        Run one unary call, or one streamed call, with its faults; waits in the caller's thread.

        Raises:
            RpcError: The service's refusal, or the injected one.
        """
        answer = self.begin(name, request)
        return finished(answer, self.clock) if type(answer) is GeneratorType else answer

    def begin(self, name: str, request: Any) -> Any:
        """
        Begin one call: return its answer, or a generator of ``Hold`` that returns the answer if the call has to wait.

        Raises:
            RpcError: The service's refusal, or the injected one.
        """
        self.land()
        with self._lock:
            self.counts[name] += 1
        method = self.methods.get(name)
        if method is None:
            raise unimplemented(f"{self.name}/{name}")
        fault = self.faults.take(name)
        if fault is not None:
            return self._faulty(fault, method, request)
        answer = method.run(request)
        return list(answer) if method.stream else answer

    def _faulty(self, fault: Fault, method: Method, request: Any) -> Steps:
        until = self.clock.micros() + round(fault.delay * 1_000_000)
        if fault.when == "late":
            with self._lock:
                self._late.append((until, method, request))
            raise RpcError(fault.code or grpc.StatusCode.DEADLINE_EXCEEDED, fault.message)
        if fault.when == "before":
            yield from self._held(until)
            if fault.code is not None:
                raise RpcError(fault.code, fault.message)
        answer = method.run(request)
        if method.waits:
            answer = yield from answer
        elif method.stream:
            answer = list(answer)
        if fault.when == "after":
            yield from self._held(self.clock.micros() + round(fault.delay * 1_000_000))
            if fault.code is not None:
                raise RpcError(fault.code, fault.message)
        return answer

    def _held(self, until: int) -> Steps:
        while self.clock.micros() < until:
            yield Hold(until)

    def land(self, *, all_: bool = False) -> int:
        """
        Let delayed calls take effect that are due, or all of them; return their number.

        Every call does this first, so that no caller sees a time at which a due call has had no effect.
        """
        if not self._late:
            return 0
        with self._lock:
            now = self.clock.micros()
            due = [each for each in self._late if all_ or each[0] <= now]
            self._late = [each for each in self._late if each not in due]
        for _, method, request in sorted(due, key=lambda each: each[0]):
            # The caller has its answer already, so a refusal is dropped.
            with suppress(RpcError):
                answer = method.run(request)
                if method.waits:
                    finished(answer, self.clock)
        return len(due)
