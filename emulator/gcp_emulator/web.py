"""
REST behind a port: aiohttp requests in, JSON out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

from gcp_emulator.rest import Rest, RestCall, refused, rendered
from gcp_emulator.rpc import RpcError

Answer: TypeAlias = Callable[[RestCall], Awaitable[Any]]

MOST_BYTES = 16 * 1024 * 1024
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "3600",
}
"""
Programs in a browser come from another origin than this server.
"""


def server(rest: Rest, answer: Answer) -> web.Server:
    """
    Return the factory of protocols for connections.

    Args:
        rest: The addresses.
        answer: Runs an RPC; raises ``RpcError``.
    """

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        verb = request.headers.get("X-HTTP-Method-Override", request.method)
        target = request.raw_path
        path = target.partition("?")[0]
        if verb == "OPTIONS":
            return web.Response(headers=_CORS)
        if path == "/":
            return web.Response(text="Ok\n", headers=_CORS)
        if (found := rest.other(verb, path)) is not None:
            return _json(200, found)
        call = None
        try:
            call = rest.call(verb, target, await request.read())
            body = rendered(call, await answer(call))
        except RpcError as error:
            return _json(*refused(error, streamed=call is not None and call.streamed))
        return _json(200, body)

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MOST_BYTES)

    return web.Server(handle, request_factory=request)


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=_CORS)
