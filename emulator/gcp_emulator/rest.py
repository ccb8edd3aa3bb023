"""
REST on top of the RPCs: an HTTP request becomes a request message, an answer becomes JSON.

Source: the rules of ``google.api.http`` (templates, ``body``, query parameters) and ProtoJSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from gcp_emulator.rpc import RpcError, Service, is_repeated, unimplemented

_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}
"""
HTTP status of each gRPC status. Source: ``google/rpc/code.proto``.
"""
_SYSTEM = {
    "key",
    "alt",
    "$alt",
    "prettyPrint",
    "$prettyPrint",
    "access_token",
    "oauth_token",
    "quotaUser",
    "uploadType",
}
"""
Parameters of every Google API that change nothing here.
"""


@dataclass(frozen=True, slots=True)
class Route:
    """
    An address of one RPC.

    Attributes:
        verb: HTTP method.
        template: Path with fields, such as ``/v1/{name=projects/*/databases/*/documents/*/**}``.
        rpc: Short name of the RPC.
        body: Field that the JSON body fills; ``*`` for the request itself, empty for none.
    """

    verb: str
    template: str
    rpc: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class RestCall:
    """
    An RPC that an HTTP request asks for.

    Attributes:
        service: Service of the RPC.
        rpc: Short name of the RPC.
        request: Request message.
        streamed: Whether the answer is a JSON array of messages.
    """

    service: Service
    rpc: str
    request: Message
    streamed: bool


class Rest:
    """
    The REST addresses of some services.

    Args:
        routes: Addresses by service. An RPC that a service lacks is refused with the service's sentence.
        other: JSON for an address that is no RPC's, by HTTP method and path; None for any other.
    """

    def __init__(
        self,
        routes: Iterable[tuple[Service, Sequence[Route]]],
        other: Callable[[str, str], bytes | None] = lambda _verb, _path: None,
    ) -> None:
        self.other = other
        self._routes = [(service, route, _compiled(route.template)) for service, rows in routes for route in rows]

    def call(self, verb: str, target: str, body: bytes) -> RestCall:
        """
        Read the RPC and its request out of an HTTP request.

        Args:
            verb: HTTP method.
            target: Path and query, percent-encoded as they came.
            body: JSON, or empty.

        Raises:
            RpcError: NOT_FOUND for an unknown address, INVALID_ARGUMENT for a body or a parameter that the request
                message has no place for, UNIMPLEMENTED for an RPC that the service lacks.
        """
        path, _, query = target.partition("?")
        for service, route, pattern in self._routes:
            if route.verb == verb and (found := pattern.fullmatch(path)):
                fields = {name: unquote(found[group]) for group, name in _fields(route.template).items()}
                return _read(service, route, fields, query, body)
        raise RpcError(grpc.StatusCode.NOT_FOUND, f"This server has no address {verb} {path}.")


def rendered(call: RestCall, answer: Any) -> bytes:
    """
    JSON of an answer: one message, or an array of those of a stream.
    """
    found = [_dict(each) for each in answer] if call.streamed else _dict(answer)
    return json.dumps(found, ensure_ascii=False, indent=2).encode()


def refused(error: RpcError, *, streamed: bool = False) -> tuple[int, bytes]:
    """
    HTTP status and JSON of a refusal; in an array if the RPC would have answered in one.
    """
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in error.details:
        status.details.add().Pack(detail)
    code = _STATUS[error.code]
    told = {"code": code, "message": error.message, "status": error.code.name}
    if details := _dict(status).get("details"):
        told["details"] = details
    found: object = {"error": told}
    return code, json.dumps([found] if streamed else found, ensure_ascii=False, indent=2).encode()


def _dict(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(message)
    return found


def _fields(template: str) -> dict[str, str]:
    names = re.findall(r"\{([^=}]+)", template)
    return {f"f{number}": name for number, name in enumerate(names)}


def _compiled(template: str) -> re.Pattern[str]:
    groups = iter(_fields(template))

    def group(found: re.Match[str]) -> str:
        return f"(?P<{next(groups)}>{_segments(found[2] or '*')})"

    parts = re.split(r"(\{[^}]*\})", template)
    return re.compile(
        "".join(
            re.sub(r"\{([^=}]+)=?([^}]*)\}", group, part) if part.startswith("{") else re.escape(part) for part in parts
        )
    )


def _segments(pattern: str) -> str:
    """
    The expression of a field's pattern: ``*`` is one segment; at the end, ``**`` is any number of segments, and ``<*/*>`` one
    or more pairs of segments.
    """
    for end, many in (("/**", "(?:/[^/]+)*"), ("/<*/*>", "(?:/[^/]+/[^/]+)+")):
        if pattern.endswith(end):
            return _segments(pattern.removesuffix(end)) + many
    return "/".join("[^/]+" if part == "*" else re.escape(part) for part in pattern.split("/"))


def _read(service: Service, route: Route, fields: Mapping[str, str], query: str, body: bytes) -> RestCall:
    method = service.methods.get(route.rpc)
    if method is None:
        raise unimplemented(f"{service.name}/{route.rpc}")
    request = method.request()
    if route.body:
        _fill(request, _nested(route.body, _parsed(body)))
    elif body.strip():
        raise _invalid(f"{route.verb} {route.rpc} takes no body.")
    for name, value in fields.items():
        _fill(request, _nested(name, value))
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name not in _SYSTEM:
            _fill(request, _nested(name, _typed(method.request.DESCRIPTOR, name, values)))
    return RestCall(service, route.rpc, request, method.stream)


def _parsed(body: bytes) -> Any:
    try:
        found = json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise _invalid(f"The body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _invalid("The body must be a JSON object.")
    return found


def _nested(path: str, value: Any) -> Any:
    for name in reversed([] if path == "*" else path.split(".")):
        value = {name: value}
    return value


def _fill(request: Message, found: Any) -> None:
    try:
        json_format.ParseDict(found, request)
    except (json_format.ParseError, TypeError, ValueError) as error:
        raise _invalid(f"The request can't be read: {str(error).partition(chr(10))[0]}") from None


def _typed(message: Any, path: str, texts: list[str]) -> Any:
    """
    The JSON value of a query parameter; JSON knows numbers as texts, but neither truth nor lists.
    """
    field: FieldDescriptor | None = None
    inner = message
    for name in path.split("."):
        field = None if inner is None else _field(inner, name)
        if field is None:
            raise _invalid(f"There is no parameter '{path}'.")
        inner = field.message_type
    assert field is not None
    truth = {"true": True, "false": False} if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else {}
    values = [truth.get(text, text) for text in texts]
    return values if is_repeated(field) else values[-1]


def _field(message: Any, name: str) -> FieldDescriptor | None:
    found: FieldDescriptor | None = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
    return found


def _invalid(text: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, text)
