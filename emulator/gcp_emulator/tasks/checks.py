"""
Names and stored form of tasks, with the refusals of the service in its own words. Pure.
"""

from __future__ import annotations

import re
from typing import Any

import grpc
from google.rpc import error_details_pb2

from gcp_emulator.rpc import RpcError, unimplemented
from gcp_emulator.tasks import rules
from gcp_emulator.tasks.messages import (
    METHODS,
    POST,
    SECOND,
    Micros,
    Task,
    TaskMessage,
    duration,
    timestamp,
)

USER_AGENT = "Google-Cloud-Tasks"
APP_ENGINE_AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"

_REFERENCE = "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues"
_LOCATION = re.compile(r"projects/[^/]+/locations/[^/]+")
_QUEUE = re.compile(r"projects/[^/]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100}")
_TASK = re.compile(r"(projects/[^/]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100})/tasks/(.*)", re.DOTALL)
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_RESERVED = ("x-google-", "x-appengine-")
_COMPUTED = ("host", "content-length", "user-agent")
_WITH_BODY = ("POST", "PUT", "PATCH")


def invalid(message: str, *details: Any) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message, details)


def missing_queue() -> RpcError:
    return RpcError(
        grpc.StatusCode.NOT_FOUND,
        "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize.",
    )


def missing_entity() -> RpcError:
    return RpcError(grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")


def gone_task() -> RpcError:
    return RpcError(
        grpc.StatusCode.NOT_FOUND,
        "The task no longer exists, though a task with this name existed recently. "
        "The task either successfully completed or was deleted.",
    )


def taken_name(*, live: bool) -> RpcError:
    return RpcError(
        grpc.StatusCode.ALREADY_EXISTS,
        "Requested entity already exists"
        if live
        else "The task cannot be created because a task with this name existed too recently. "
        "For more information about task de-duplication see "
        f"{_REFERENCE}.tasks/create#body.request_body.FIELDS.task.",
    )


def taken_queue(*, live: bool) -> RpcError:
    if live:
        return RpcError(grpc.StatusCode.ALREADY_EXISTS, "Queue already exists")
    return RpcError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "The queue cannot be created because a queue with this name existed too recently.",
    )


def location_name(name: str) -> str:
    """
    *name*, if it is a location's.
    """
    if not _LOCATION.fullmatch(name):
        raise invalid('Location name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>".')
    return name


def queue_name(name: str) -> str:
    """
    *name*, if it is a queue's.
    """
    if not _QUEUE.fullmatch(name):
        raise invalid(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".',
            _help("Definition of queue name", f"{_REFERENCE}#Queue.FIELDS.name"),
        )
    return name


def split_task_name(name: str) -> tuple[str, str]:
    """
    Queue name and task id of a task's name.
    """
    found = _TASK.fullmatch(name)
    if not found:
        raise invalid(
            'Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>/'
            'tasks/<TASK_ID>".',
            _help("Definition of task name", f"{_REFERENCE}.tasks#Task.FIELDS.name"),
        )
    if not _TASK_ID.fullmatch(found[2]):
        raise invalid(
            f'Task ID "{found[2]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or '
            "underscores (_). Task ID must between 1 and 500 characters.",
            _help("Definition of task ID", f"{_REFERENCE}.tasks#Task.FIELDS.name"),
        )
    return found[1], found[2]


def stored(parent: str, given: TaskMessage, now: Micros, *, tokens: bool) -> TaskMessage:
    """
    The task as the service keeps it, without a name if none was given.

    Args:
        parent: Name of the queue.
        given: The task as the client sent it.
        now: Creation time.
        tokens: Whether OIDC tokens can be minted.
    """
    if given.name:
        owner = split_task_name(given.name)[0]
        if owner != parent:
            raise invalid(
                f"The queue name from request ('{parent}') must be the same as the queue name in the named task "
                f"('{owner}')."
            )
    _check_target(given)
    task = Task(name=given.name)
    _fill_request(task.http_request, given.http_request, tokens=tokens)
    _fill_times(task, given, now)
    return task


def knows_and_has(message: Any, field: str) -> bool:
    """
    Tell whether *field* is set, if the installed google-cloud-tasks knows it. Before 2.25 a client can't set it.
    """
    return field in message.DESCRIPTOR.fields_by_name and bool(message.HasField(field))


def check_size(task: TaskMessage) -> None:
    """
    Refuse a stored task that is too large.
    """
    if task.ByteSize() > rules.MAX_TASK_BYTES:
        raise invalid(
            f"Task size too large: the stored task has {task.ByteSize()} bytes, "
            f"at most {rules.MAX_TASK_BYTES} are accepted."
        )


def _check_target(given: TaskMessage) -> None:
    if given.HasField("app_engine_http_request"):
        raise unimplemented("An App Engine target")
    if knows_and_has(given, "retry_config"):
        raise unimplemented("Task.retry_config")
    if not given.HasField("http_request"):
        raise invalid("Task.httpRequest is required.")
    if given.http_request.HasField("oauth_token"):
        raise unimplemented("HttpRequest.oauth_token")
    url = given.http_request.url
    if not url:
        raise invalid("HttpRequest.url is required.")
    if not url.lower().startswith(("http://", "https://")):
        raise invalid("HttpTarget.url must start with 'http://' or 'https://'.")
    if len(url) > rules.MAX_URL:
        raise invalid(f"HttpRequest.url must be no longer than {rules.MAX_URL} characters; it has {len(url)}.")


def _fill_request(request: Any, given: Any, *, tokens: bool) -> None:
    request.url = given.url
    request.http_method = given.http_method or POST
    method = METHODS.get(request.http_method)
    if method is None:
        raise invalid(f"HttpRequest.httpMethod {request.http_method} is unknown.")
    if given.body and method not in _WITH_BODY:
        raise invalid(f"HttpRequest.body can only be set for {', '.join(_WITH_BODY)}; the method is {method}.")
    request.body = given.body
    for name, value in given.headers.items():
        if name.lower() not in _COMPUTED and not name.lower().startswith(_RESERVED):
            request.headers[name] = value
    if sum(len(name) + len(value) for name, value in request.headers.items()) > rules.MAX_HEADER_BYTES:
        raise invalid(f"HttpRequest.headers must be no larger than {rules.MAX_HEADER_BYTES} bytes in total.")
    request.headers["User-Agent"] = USER_AGENT
    if given.HasField("oidc_token"):
        if not given.oidc_token.service_account_email:
            raise invalid("OidcToken.serviceAccountEmail is required.")
        if not tokens:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "This local server has no issuer of OIDC tokens; start it with one, or leave oidc_token out.",
            )
        request.oidc_token.CopyFrom(given.oidc_token)


def _fill_times(task: TaskMessage, given: TaskMessage, now: Micros) -> None:
    due = max(now, given.schedule_time.ToMicroseconds())
    if due > now + rules.HORIZON:
        raise invalid(
            f"The Task.scheduleTime, {given.schedule_time.ToJsonString()}, is too far in the future. "
            "Schedule time must be no more than 720h in the future."
        )
    deadline = rules.DEFAULT_DEADLINE
    if given.HasField("dispatch_deadline"):
        deadline = given.dispatch_deadline.ToMicroseconds() // 1000 * 1000
        if not rules.MIN_DEADLINE <= deadline <= rules.MAX_DEADLINE:
            raise invalid("Task.dispatchDeadline must be between [15s, 30m].")
    task.schedule_time.CopyFrom(timestamp(due))
    task.create_time.CopyFrom(timestamp(now // SECOND * SECOND))
    task.dispatch_deadline.CopyFrom(duration(deadline))


def _help(description: str, url: str) -> error_details_pb2.Help:
    return error_details_pb2.Help(links=[error_details_pb2.Help.Link(description=description, url=url)])
