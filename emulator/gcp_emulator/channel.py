"""
A ``grpc.Channel`` that ends in this process: unmodified Google clients on the services, without sockets or threads.

A call runs on its caller's thread. Requests and answers are serialized and parsed as on a wire, so that neither side can
change the other's objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol, Self

import grpc
from google.rpc import status_pb2

from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.rpc import RpcError, Service, unimplemented

_MICROS = 1_000_000


class Call(Protocol):
    """
    A function that passes a call on to its service; a test may replace it, to see or change calls.
    """

    def __call__(self, service: Service, name: str, request: Any, timeout: float | None) -> Any:
        """
        Return the answer, or the list of answers of a streamed call.

        Raises:
            RpcError: The error that the caller gets.
        """


def _straight(service: Service, name: str, request: Any, timeout: float | None) -> Any:  # noqa: ARG001 - a ``Call``
    return service.call(name, request)


class _Ended(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic for the type checker only
    """
    A call that is over, as its caller may look at it.
    """

    def __init__(self, value: Any, error: RpcError | None = None) -> None:
        super().__init__()
        self._value = value
        self._error = error

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK if self._error is None else self._error.code

    def details(self) -> str:
        return "" if self._error is None else self._error.message

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        if self._error is None or not self._error.details:
            return ()
        status = status_pb2.Status(code=self._error.code.value[0], message=self._error.message)
        for detail in self._error.details:
            status.details.add().Pack(detail)
        return (("grpc-status-details-bin", status.SerializeToString()),)

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        return self._value

    def exception(self, timeout: float | None = None) -> Any:
        return None

    def traceback(self, timeout: float | None = None) -> Any:
        return None

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


class InProcessError(_Ended, grpc.RpcError):
    """
    A refused call, as grpc's own errors are: error, call and finished future in one.
    """

    def __init__(self, error: RpcError) -> None:
        super().__init__(None, error)

    def __str__(self) -> str:
        return f"{self.code().name}: {self.details()}"

    def result(self, timeout: float | None = None) -> NoReturn:
        raise self

    def exception(self, timeout: float | None = None) -> Any:
        return self


class _Stream(_Ended):
    """
    The answers of a streamed call, one after the other.
    """

    def __init__(self, answers: Sequence[Any]) -> None:
        super().__init__(None)
        self._answers = iter(answers)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._answers)


class _Method:
    """
    One method of one service, callable in every way that grpc offers.
    """

    def __init__(self, channel: InProcessChannel, path: str, serializer: Any, deserializer: Any) -> None:
        self._channel = channel
        self._path = path
        self._serializer = serializer or bytes
        self._deserializer = deserializer or bytes

    def _run(self, request: Any, timeout: float | None) -> Any:
        try:
            return self._channel.call(self._path, self._serializer(request), timeout)
        except RpcError as error:
            raise InProcessError(error) from error


class _Unary(_Method):
    def __call__(self, request: Any, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        return self._deserializer(self._run(request, timeout))

    def with_call(self, request: Any, timeout: float | None = None, *_: Any, **__: Any) -> tuple[Any, Any]:
        answer = self(request, timeout)
        return answer, _Ended(answer)

    def future(self, request: Any, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        try:
            return _Ended(self(request, timeout))
        except InProcessError as error:
            return error


class _Streamed(_Method):
    def __call__(self, request: Any, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        return _Stream([self._deserializer(answer) for answer in self._run(request, timeout)])


class _Refused:
    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise InProcessError(unimplemented(f"{self._path} in process (a stream of requests needs a port)"))

    with_call = future = __call__


class InProcessChannel(grpc.Channel):
    """
    A channel to *services*.

    A call that takes longer than its timeout, by *clock*, is answered DEADLINE_EXCEEDED; its effect stays.

    Args:
        services: The services.
        clock: Measures timeouts.
        via: Passes a call on to its service; by default directly.
    """

    def __init__(self, services: Sequence[Service], clock: Clock | None = None, via: Call = _straight) -> None:
        self._services = {service.name: service for service in services}
        self._clock = clock or SystemClock()
        self._via = via

    def call(self, path: str, request: bytes, timeout: float | None) -> Any:
        """
        Make one call; returns the serialized answer, or the list of them.

        Raises:
            RpcError: The service's refusal, or DEADLINE_EXCEEDED.
        """
        _, owner, name = path.split("/")
        service = self._services.get(owner)
        method = None if service is None else service.methods.get(name)
        if service is None or method is None:
            raise unimplemented(path)
        if method.bidi:
            raise unimplemented(f"{path} in process (a stream of requests needs a port)")
        begun = self._clock.micros()
        answer = self._via(service, name, method.request.FromString(request), timeout)
        if timeout is not None and self._clock.micros() - begun > timeout * _MICROS:
            raise RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        if method.stream:
            return [each.SerializeToString() for each in answer]
        return answer.SerializeToString()

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        return _Unary(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        return _Streamed(self, method, request_serializer, response_deserializer)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        return _Refused(method)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Any:
        return _Refused(method)

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """
        Always connected.
        """
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """
        Nothing was subscribed.
        """

    def close(self) -> None:
        """
        Do nothing; the channel has nothing open.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def firestore_client(channel: grpc.Channel, project: str, database: str = "(default)") -> Any:
    """
    An ordinary ``google.cloud.firestore.Client`` on *channel*.
    """
    from google.auth import credentials
    from google.cloud.firestore import Client
    from google.cloud.firestore_v1.services.firestore import FirestoreClient
    from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport

    make: Any = credentials.AnonymousCredentials  # without types
    nobody = make()
    client = Client(project=project, database=database, credentials=nobody)
    # The client makes its transport at first use, and has no argument for one.
    client._firestore_api_internal = FirestoreClient(  # noqa: SLF001
        transport=FirestoreGrpcTransport(channel=channel, credentials=nobody)
    )
    return client
