"""
gRPC services out of plain functions on protobuf messages.

A service is a mapping from method name to ``Method``; the same functions can be put behind a port or called
directly. Every call passes through ``Service.call``, which counts it and applies injected faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Lock
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.faults import Faults


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


def unimplemented(what: str) -> RpcError:
    """
    Return the refusal of a call that this server can't answer correctly.
    """
    return RpcError(grpc.StatusCode.UNIMPLEMENTED, f"{what} is not implemented by this local server.")


@dataclass(frozen=True, slots=True)
class Method:
    """
    One RPC.

    Attributes:
        run: From request to response; an iterator of responses if ``stream``.
        request: Plain protobuf class of the request.
        response: Plain protobuf class of the response.
        stream: Whether the answer is a stream.
        bidi: Whether the requests are a stream as well; ``run`` then takes an iterator, and needs a port.
    """

    run: Callable[[Any], Any]
    request: type[Message]
    response: type[Message]
    stream: bool = False
    bidi: bool = False


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
        Run one unary call, or start one streamed call, with its faults.

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
        if fault is not None and fault.when == "before":
            self._hold(fault.delay)
            if fault.code is not None:
                raise RpcError(fault.code, fault.message)
        if fault is not None and fault.when == "late":
            with self._lock:
                self._late.append((self.clock.micros() + round(fault.delay * 1_000_000), method, request))
            raise RpcError(fault.code or grpc.StatusCode.DEADLINE_EXCEEDED, fault.message)
        answer = method.run(request)
        if method.stream:
            answer = list(answer)
        if fault is not None and fault.when == "after":
            self._hold(fault.delay)
            if fault.code is not None:
                raise RpcError(fault.code, fault.message)
        return answer

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
                method.run(request)
        return len(due)

    def _hold(self, seconds: float) -> None:
        until = self.clock.micros() + round(seconds * 1_000_000)
        held = Condition()
        with held:
            while self.clock.micros() < until:
                self.clock.wait(held, until)

    def handler(self) -> grpc.GenericRpcHandler:
        """
        This service as a handler for a ``grpc.Server``.
        """
        return _Handler(self)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, service: Service) -> None:
        self._service = service
        self._prefix = f"/{service.name}/"
        self._known = {name: self._handler(name, method) for name, method in service.methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if not handler_call_details.method.startswith(self._prefix):
            return None
        name = handler_call_details.method.removeprefix(self._prefix)
        return self._known.get(name) or self._refusal(name)

    def _handler(self, name: str, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        if method.bidi:
            return grpc.stream_stream_rpc_method_handler(
                self._talking(name), method.request.FromString, method.response.SerializeToString
            )
        if method.stream:
            return grpc.unary_stream_rpc_method_handler(
                self._streamed(name), method.request.FromString, method.response.SerializeToString
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(name), method.request.FromString, method.response.SerializeToString
        )

    def _refusal(self, name: str) -> grpc.RpcMethodHandler[Any, Any]:
        # Nothing is known of this method's messages, and nothing of them is needed to refuse it.
        return grpc.unary_unary_rpc_method_handler(
            self._unary(name), lambda _: any_pb2.Any(), any_pb2.Any.SerializeToString
        )

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        def run(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return self._service.call(name, request)
            except RpcError as error:
                abort(context, error)

        return run

    def _talking(self, name: str) -> Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]:
        def run(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from self._service.call(name, requests)
            except RpcError as error:
                abort(context, error)

        return run

    def _streamed(self, name: str) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def run(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from self._service.call(name, request)
            except RpcError as error:
                abort(context, error)

        return run


def abort(context: grpc.ServicerContext, error: RpcError) -> None:
    """
    End the call with *error*, details included.
    """
    if not error.details:
        context.abort(error.code, error.message)
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in error.details:
        status.details.add().Pack(detail)
    context.abort_with_status(rpc_status.to_status(status))


@dataclass(slots=True)
class Port:
    """
    Services on one loopback port.

    Attributes:
        services: The served services.
        address: ``127.0.0.1:port`` once started.
    """

    services: Sequence[Service]
    threads: int = 32
    address: str = ""
    _server: grpc.Server | None = None

    def start(self, port: int = 0) -> str:
        """
        Serve on *port* (0: a free one); returns the address.
        """
        server = grpc.server(
            ThreadPoolExecutor(self.threads, thread_name_prefix="gcp-emulator"),
            handlers=[service.handler() for service in self.services],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 16 * 1024 * 1024),
                ("grpc.max_send_message_length", -1),
            ],
        )
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        self._server = server
        self.address = f"127.0.0.1:{bound}"
        return self.address

    def stop(self, grace: float = 0.2) -> None:
        """
        Refuse new calls, let running ones end within *grace* seconds.
        """
        if self._server is not None:
            self._server.stop(grace).wait()
            self._server = None
