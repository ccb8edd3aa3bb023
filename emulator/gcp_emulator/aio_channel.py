"""
A ``grpc.aio.Channel`` that ends in this process: unmodified asynchronous Google clients, without sockets or threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Any, NoReturn, Self

import grpc
from grpc import aio

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.rpc import RpcError, unimplemented


def _raised(error: RpcError) -> aio.AioRpcError:
    nothing = aio.Metadata()
    return aio.AioRpcError(error.code, nothing, nothing, details=error.message)


class _Ended(aio.Call):
    """
    A call that is over before its caller looks at it.
    """

    def __init__(self, value: Any = None, error: RpcError | None = None) -> None:
        self._value = value
        self._error = error

    async def initial_metadata(self) -> aio.Metadata:
        return aio.Metadata()

    async def trailing_metadata(self) -> aio.Metadata:
        return aio.Metadata()

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK if self._error is None else self._error.code

    async def details(self) -> str:
        return "" if self._error is None else self._error.message

    async def wait_for_connection(self) -> None:
        return None

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)


class _UnaryCall(_Ended, aio.UnaryUnaryCall):  # type: ignore[type-arg]  # generic for the type checker only
    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        if self._error is not None:
            raise _raised(self._error)
        return self._value


class _StreamCall(_Ended, aio.UnaryStreamCall):  # type: ignore[type-arg]  # as above
    def __init__(self, answers: Sequence[Any], error: RpcError | None = None) -> None:
        super().__init__(None, error)
        self._answers = iter(answers)

    async def read(self) -> Any:
        if self._error is not None:
            raise _raised(self._error)
        return next(self._answers, aio.EOF)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (answer := await self.read()) is not aio.EOF:
            yield answer


class _Unary(aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # as above
    def __init__(self, channel: InProcessChannel, path: str, serializer: Any, deserializer: Any) -> None:
        self._channel, self._path = channel, path
        self._serializer, self._deserializer = serializer or bytes, deserializer or bytes

    def __call__(self, request: Any, *, timeout: float | None = None, **_: Any) -> Any:
        try:
            answer = self._channel.call(self._path, self._serializer(request), timeout)
        except RpcError as error:
            return _UnaryCall(None, error)
        return _UnaryCall(self._deserializer(answer))


class _Streamed(aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # as above
    def __init__(self, channel: InProcessChannel, path: str, serializer: Any, deserializer: Any) -> None:
        self._channel, self._path = channel, path
        self._serializer, self._deserializer = serializer or bytes, deserializer or bytes

    def __call__(self, request: Any, *, timeout: float | None = None, **_: Any) -> Any:
        try:
            answers = self._channel.call(self._path, self._serializer(request), timeout)
        except RpcError as error:
            return _StreamCall((), error)
        return _StreamCall([self._deserializer(answer) for answer in answers])


class _Refused:
    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise _raised(unimplemented(f"{self._path} in process (a stream of requests needs a port)"))


class AioInProcessChannel(aio.Channel):
    """
    The asynchronous face of an ``InProcessChannel``; a call is answered before it is awaited.
    """

    def __init__(self, channel: InProcessChannel) -> None:
        self._channel = channel
        # Clients add one that logs; nothing is logged here.
        self._unary_unary_interceptors: list[Any] = []

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        return _Unary(self._channel, method, request_serializer, response_deserializer)

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        return _Streamed(self._channel, method, request_serializer, response_deserializer)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        return _Refused(method)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Any:
        return _Refused(method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """
        Always connected.
        """
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """
        The state never changes.
        """

    async def channel_ready(self) -> None:
        """
        Return at once; the channel is always ready.
        """

    async def close(self, grace: float | None = None) -> None:
        """
        Do nothing; the channel has nothing open.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def async_firestore_client(channel: InProcessChannel, project: str, database: str = "(default)") -> Any:
    """
    An ordinary ``google.cloud.firestore.AsyncClient`` on *channel*.
    """
    from google.auth import credentials
    from google.cloud.firestore import AsyncClient
    from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
    from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

    make: Any = credentials.AnonymousCredentials  # without types
    nobody = make()
    client = AsyncClient(project=project, database=database, credentials=nobody)
    # The client makes its transport at first use, and has no argument for one.
    client._firestore_api_internal = FirestoreAsyncClient(  # noqa: SLF001
        transport=FirestoreGrpcAsyncIOTransport(channel=AioInProcessChannel(channel), credentials=nobody)
    )
    # Its bulk writer works through a synchronous client, which it would make for the network.
    client._sync_copy = firestore_client(channel, project, database)  # noqa: SLF001
    return client
