"""
The stored form of a task, out of the one that its creator sent. Pure.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import grpc

from gcp_emulator.rpc import RpcError
from gcp_emulator.tasks import rules
from gcp_emulator.tasks.checks import APP_ENGINE_AGENT, USER_AGENT, invalid, knows_and_has, split_task_name
from gcp_emulator.tasks.messages import (
    METHODS,
    POST,
    SECOND,
    Micros,
    QueueMessage,
    Task,
    TaskMessage,
    duration,
    timestamp,
)

_RESERVED = ("x-google-", "x-appengine-")
_COMPUTED = ("host", "content-length", "user-agent")
# Headers of one connection, not of the message (RFC 9110, 7.6.1). The service documents its list of ignored headers as a
# partial one.
_HOPS = ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
_WITH_BODY = ("POST", "PUT", "PATCH")
_WITH_BODY_APP_ENGINE = ("POST", "PUT")


def stored(
    parent: str, given: TaskMessage, now: Micros, *, tokens: bool, app_engine: str, queue: QueueMessage | None
) -> TaskMessage:
    """
    The task as the service keeps it, without a name if none was given.

    Args:
        parent: Name of the queue.
        given: The task as the client sent it.
        now: Creation time.
        tokens: Whether OIDC tokens can be minted.
        app_engine: Address that stands for App Engine; empty: there is none, and its tasks are refused.
        queue: Settings of the queue, which may override addresses; None if there is no such queue.
    """
    if given.name:
        owner = split_task_name(given.name)[0]
        if owner != parent:
            raise invalid(
                f"The queue name from request ('{parent}') must be the same as the queue name in the named task "
                f"('{owner}')."
            )
    task = Task(name=given.name)
    if given.HasField("app_engine_http_request"):
        _fill_app_engine(task.app_engine_http_request, given.app_engine_http_request, app_engine)
    else:
        _check_url(given, queue)
        _fill_request(task.http_request, given.http_request, tokens=tokens)
    if knows_and_has(given, "retry_config"):
        task.retry_config.CopyFrom(given.retry_config)
        if sentence := rules.retry_complaint(given.retry_config):
            raise invalid(sentence)
    _fill_times(task, given, now)
    return task


def check_size(task: TaskMessage) -> None:
    """
    Refuse a stored task that is too large.
    """
    if task.ByteSize() > rules.MAX_TASK_BYTES:
        raise invalid(
            f"Task size too large: the stored task has {task.ByteSize()} bytes, "
            f"at most {rules.MAX_TASK_BYTES} are accepted."
        )


def _check_url(given: TaskMessage, queue: QueueMessage | None) -> None:
    if not given.HasField("http_request"):
        raise invalid("Task.httpRequest is required.")
    url = given.http_request.url
    if not url:
        if queue is not None and rules.names_a_host(queue):
            return
        raise invalid("HttpRequest.url is required.")
    if not url.lower().startswith(("http://", "https://")):
        raise invalid("HttpTarget.url must start with 'http://' or 'https://'.")
    if len(url) > rules.MAX_URL:
        raise invalid(f"HttpRequest.url must be no longer than {rules.MAX_URL} characters; it has {len(url)}.")


def _fill_app_engine(request: Any, given: Any, app_engine: str) -> None:
    if not app_engine:
        raise RpcError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "This local server has no address that stands for App Engine; start it with one (app_engine, --app-engine), or "
            "use http_request.",
        )
    uri = given.relative_uri or "/"
    if not uri.startswith("/") or " " in uri:
        raise invalid("AppEngineHttpRequest.relativeUri must start with '/' and cannot contain spaces.")
    if len(uri) > rules.MAX_URL:
        raise invalid(f"AppEngineHttpRequest.relativeUri must be no longer than {rules.MAX_URL} characters.")
    request.relative_uri = uri
    request.http_method = given.http_method or POST
    method = _method(request.http_method, "AppEngineHttpRequest")
    if given.body and method not in _WITH_BODY_APP_ENGINE:
        raise invalid(
            f"AppEngineHttpRequest.body can only be set for {', '.join(_WITH_BODY_APP_ENGINE)}; the method is {method}."
        )
    request.body = given.body
    request.app_engine_routing.CopyFrom(given.app_engine_routing)
    request.app_engine_routing.host = urlsplit(app_engine).netloc
    names = {name.lower() for name in given.headers}
    _fill_headers(request, given.headers, ("host", "content-length"))
    agent = next((value for name, value in given.headers.items() if name.lower() == "user-agent"), "")
    for name in [name for name in request.headers if name.lower() == "user-agent"]:
        del request.headers[name]
    request.headers["User-Agent"] = f"{agent} {APP_ENGINE_AGENT}".strip()
    if given.body:
        request.headers["Content-Length"] = str(len(given.body))
        if "content-type" not in names:
            request.headers["Content-Type"] = "application/octet-stream"


def _fill_request(request: Any, given: Any, *, tokens: bool) -> None:
    request.url = given.url
    request.http_method = given.http_method or POST
    method = _method(request.http_method, "HttpRequest")
    if given.body and method not in _WITH_BODY:
        raise invalid(f"HttpRequest.body can only be set for {', '.join(_WITH_BODY)}; the method is {method}.")
    request.body = given.body
    _fill_headers(request, given.headers, _COMPUTED)
    if sum(len(name) + len(value) for name, value in request.headers.items()) > rules.MAX_HEADER_BYTES:
        raise invalid(f"HttpRequest.headers must be no larger than {rules.MAX_HEADER_BYTES} bytes in total.")
    request.headers["User-Agent"] = USER_AGENT
    check_tokens(given, tokens=tokens)
    if given.HasField("oidc_token"):
        request.oidc_token.CopyFrom(given.oidc_token)
    elif given.HasField("oauth_token"):
        request.oauth_token.CopyFrom(given.oauth_token)


def check_tokens(given: Any, *, tokens: bool) -> None:
    """
    Refuse a request or a queue's target that asks for a token in a way that can't be met.
    """
    if given.HasField("oidc_token"):
        if not given.oidc_token.service_account_email:
            raise invalid("OidcToken.serviceAccountEmail is required.")
        if not tokens:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "This local server has no issuer of OIDC tokens; start it with one, or leave oidc_token out.",
            )
    if given.HasField("oauth_token") and not given.oauth_token.service_account_email:
        raise invalid("OAuthToken.serviceAccountEmail is required.")


def _fill_headers(request: Any, given: Any, computed: tuple[str, ...]) -> None:
    named = next((value for name, value in given.items() if name.lower() == "connection"), "")
    dropped = {*computed, *_HOPS, *(name.strip().lower() for name in named.split(","))}
    for name, value in given.items():
        if name.lower() not in dropped and not name.lower().startswith(_RESERVED):
            request.headers[name] = value


def _method(number: int, of: str) -> str:
    method: str | None = METHODS.get(number)
    if method is None:
        raise invalid(f"{of}.httpMethod {number} is unknown.")
    return method


def _fill_times(task: TaskMessage, given: TaskMessage, now: Micros) -> None:
    due = max(now, given.schedule_time.ToMicroseconds())
    if due > now + rules.HORIZON:
        raise invalid(
            f"The Task.scheduleTime, {given.schedule_time.ToJsonString()}, is too far in the future. "
            "Schedule time must be no more than 720h in the future."
        )
    app_engine = task.HasField("app_engine_http_request")
    most, bounds = (
        (rules.MAX_APP_ENGINE_DEADLINE, "[15s, 24h15s]") if app_engine else (rules.MAX_DEADLINE, "[15s, 30m]")
    )
    deadline = rules.DEFAULT_DEADLINE
    if given.HasField("dispatch_deadline") and not (app_engine and not given.dispatch_deadline.ToMicroseconds()):
        deadline = given.dispatch_deadline.ToMicroseconds() // 1000 * 1000
        if not rules.MIN_DEADLINE <= deadline <= most:
            raise invalid(f"Task.dispatchDeadline must be between {bounds}.")
    task.schedule_time.CopyFrom(timestamp(due))
    task.create_time.CopyFrom(timestamp(now // SECOND * SECOND))
    task.dispatch_deadline.CopyFrom(duration(deadline))
