"""
gRPC's messages and trailers, read and written.
"""

from __future__ import annotations

import sys
import traceback
import zlib
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpclib.metadata import encode_bin_value, encode_grpc_message
from grpclib.protocol import Stream

from gcp_emulator.rpc import Method, RpcError

REQUEST_BYTES = 16 * 1024 * 1024


async def read(stream: Stream, encoding: str) -> bytes | None:
    """
    Read one message; None at the end of the requests.
    """
    head = await stream.recv_data(5)
    if not head:
        return None
    size = int.from_bytes(head[1:], "big")
    if size > REQUEST_BYTES:
        raise RpcError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"The request of {size} bytes is larger than the limit of {REQUEST_BYTES} bytes.",
        )
    message = await stream.recv_data(size)
    return _unpacked(message, encoding) if head[0] else message


def _unpacked(message: bytes, encoding: str) -> bytes:
    bits = {"gzip": 31, "deflate": 15}.get(encoding)
    if bits is None:
        raise RpcError(grpc.StatusCode.UNIMPLEMENTED, f"Requests compressed as '{encoding}' are not understood.")
    unpacker = zlib.decompressobj(bits)
    found = unpacker.decompress(message, REQUEST_BYTES + 1)
    if len(found) > REQUEST_BYTES:
        raise RpcError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"The request is larger, unpacked, than the limit of {REQUEST_BYTES} bytes.",
        )
    return found


def parsed(method: Method, message: bytes) -> Any:
    try:
        return method.request.FromString(message)
    except DecodeError as error:
        raise RpcError(
            grpc.StatusCode.INTERNAL, f"The request is no {method.request.DESCRIPTOR.full_name}: {error}"
        ) from error


def framed(answer: Message) -> bytes:
    data = answer.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


def trailers(error: RpcError) -> list[tuple[str, str]]:
    found = [("grpc-status", str(error.code.value[0])), ("grpc-message", encode_grpc_message(error.message))]
    if error.details:
        found.append(("grpc-status-details-bin", encode_bin_value(error.status().SerializeToString()).decode()))
    return found


def internal(path: str, error: Exception) -> RpcError:
    print(f"An internal error of this local server, in {path}:", file=sys.stderr)  # noqa: T201 - for its terminal
    traceback.print_exception(error)
    return RpcError(
        grpc.StatusCode.INTERNAL,
        f"An internal error of this local server, in {path}: {type(error).__name__}: {error}. Its terminal shows more.",
    )
