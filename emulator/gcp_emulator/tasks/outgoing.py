"""
The HTTP request of an attempt: address, method, headers and tokens, by the task and the overrides of its queue.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from gcp_emulator.tasks.backlog import Entry
from gcp_emulator.tasks.checks import APP_ENGINE_AGENT, USER_AGENT, knows_and_has
from gcp_emulator.tasks.messages import METHODS, SECOND, Micros, QueueMessage

_HTTP, _HTTPS = 1, 2
_IF_NOT_EXISTS = 1
_WITH_BODY = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """
    One request, without its tokens.

    Attributes:
        identity: Audience and account of the identity token to add; None for none.
        access: Scope and account of the access token to add; None for none.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    identity: tuple[str, str] | None = None
    access: tuple[str, str] | None = None


def outgoing(queue: QueueMessage, entry: Entry, app_engine: str) -> Outgoing:
    """
    The request of the attempt that comes next.

    Args:
        queue: Settings of the task's queue.
        entry: The task.
        app_engine: Address that stands for App Engine.
    """
    task = entry.task
    if task.HasField("app_engine_http_request"):
        request = task.app_engine_http_request
        url = app_engine.rstrip("/") + (request.relative_uri or "/")
        headers = _merged(dict(request.headers), _app_engine_headers(entry))
        return Outgoing(METHODS[request.http_method], url, _without(headers, "content-length"), request.body)
    request = task.http_request
    target = queue.http_target if knows_and_has(queue, "http_target") else None
    method = METHODS[request.http_method]
    given = dict(request.headers)
    url, body, tokens = request.url, request.body, request
    if target is not None:
        url = overridden(url, target.uri_override) if target.HasField("uri_override") else url
        method = METHODS.get(target.http_method, method)
        given = _merged(given, {one.header.key: one.header.value for one in target.header_overrides})
        if target.HasField("oidc_token") or target.HasField("oauth_token"):
            tokens = target
        body = body if method in _WITH_BODY else b""
    identity = access = None
    if tokens.HasField("oidc_token"):
        identity = (tokens.oidc_token.audience or url, tokens.oidc_token.service_account_email)
    elif tokens.HasField("oauth_token"):
        access = (tokens.oauth_token.scope or CLOUD_PLATFORM, tokens.oauth_token.service_account_email)
    if identity or access:
        given = _without(given, "authorization")
    return Outgoing(method, url, _merged(given, _http_headers(entry)), body, identity, access)


CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
"""
Scope of an access token whose task names none. Source: documentation of ``OAuthToken.scope``.
"""


def overridden(url: str, override: Any) -> str:
    """
    *url* as a queue's ``uri_override`` changes it. With IF_NOT_EXISTS only those parts are taken that *url* lacks.

    Without *url* (its task names none) the whole address is the queue's.
    """
    parts = urlsplit(url)
    only_missing = override.uri_override_enforce_mode == _IF_NOT_EXISTS
    scheme, path, query = parts.scheme, parts.path, parts.query
    host, port = parts.hostname or "", parts.port
    if ":" in host:
        host = f"[{host}]"
    if override.HasField("scheme") and not (only_missing and scheme):
        scheme = "http" if override.scheme == _HTTP else "https"
    if override.HasField("port") and not (only_missing and (port or host)):
        port = override.port or None
    if override.HasField("host") and not (only_missing and host):
        host = override.host
    if override.HasField("path_override") and not (only_missing and path.strip("/")):
        path = override.path_override.path
        path = path if not path or path.startswith("/") else f"/{path}"
    if override.HasField("query_override") and not (only_missing and query):
        query = override.query_override.query_params
    netloc = f"{host}:{port}" if port else host
    return urlunsplit((scheme or "https", netloc, path, query, ""))


def access_token(scope: str, account: str, now: Micros) -> str:
    """
    An access token that says what it is for: JSON in base64url behind ``ya29.local.``, with ``email``, ``scope`` and
    ``exp``.

    Google's are opaque, and only Google can read them; no key signs this one.
    """
    claims = {"email": account, "scope": scope, "exp": now // SECOND + 3600}
    return "ya29.local." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def _http_headers(entry: Entry) -> dict[str, str]:
    """
    Source: recorded dispatches of the service. An HTTP target's reason for a retry is always empty.
    """
    own = {"User-Agent": USER_AGENT, **_counts("X-CloudTasks-", entry, entry.executions)}
    if entry.task.dispatch_count > 0:
        own["X-CloudTasks-TaskRetryReason"] = ""
        if entry.previous is not None:
            own["X-CloudTasks-TaskPreviousResponse"] = str(entry.previous)
    return own


def _app_engine_headers(entry: Entry) -> dict[str, str]:
    """
    Source: recorded dispatches of the service. Here 5xx answers count as executions, unlike for HTTP targets.
    """
    own = {"User-Agent": _app_engine_agent(entry), **_counts("X-AppEngine-", entry, entry.task.response_count)}
    if entry.task.dispatch_count > 0 and entry.previous is not None:
        own["X-AppEngine-TaskRetryReason"] = "App Error" if entry.answered else "Instance Unavailable"
        own["X-AppEngine-TaskPreviousResponse"] = str(entry.previous if entry.answered else 0)
    return own


def _app_engine_agent(entry: Entry) -> str:
    headers = entry.task.app_engine_http_request.headers
    return next((value for name, value in headers.items() if name.lower() == "user-agent"), APP_ENGINE_AGENT)


def _counts(prefix: str, entry: Entry, executions: int) -> dict[str, str]:
    _, _, _, _, _, queue, _, name = entry.task.name.split("/")
    eta = entry.task.schedule_time.ToMicroseconds()
    return {
        f"{prefix}QueueName": queue,
        f"{prefix}TaskName": name,
        f"{prefix}TaskRetryCount": str(entry.task.dispatch_count),
        f"{prefix}TaskExecutionCount": str(executions),
        f"{prefix}TaskETA": f"{eta // SECOND}.{eta % SECOND:06d}",
    }


def _merged(given: dict[str, str], winning: dict[str, str]) -> dict[str, str]:
    """
    *given* and *winning*; of two headers with the same name, in any case, the winning one stays.
    """
    return {**_without(given, *(name.lower() for name in winning)), **winning}


def _without(headers: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}
