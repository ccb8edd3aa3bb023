"""
Names of locations, queues and tasks, and the refusals of the service in its own words. Pure.
"""

from __future__ import annotations

import re
from typing import Any

import grpc
from google.rpc import error_details_pb2

from gcp_emulator.rpc import RpcError

USER_AGENT = "Google-Cloud-Tasks"
APP_ENGINE_AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"

_REFERENCE = "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues"
_LOCATION = re.compile(r"projects/[^/]+/locations/[^/]+")
_QUEUE = re.compile(r"projects/[^/]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100}")
_TASK = re.compile(r"(projects/[^/]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100})/tasks/(.*)", re.DOTALL)
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")


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
            help_link("Definition of queue name", f"{_REFERENCE}#Queue.FIELDS.name"),
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
            help_link("Definition of task name", f"{_REFERENCE}.tasks#Task.FIELDS.name"),
        )
    if not _TASK_ID.fullmatch(found[2]):
        raise invalid(
            f'Task ID "{found[2]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or '
            "underscores (_). Task ID must between 1 and 500 characters.",
            help_link("Definition of task ID", f"{_REFERENCE}.tasks#Task.FIELDS.name"),
        )
    return found[1], found[2]


def other_project(project: str) -> RpcError:
    """
    The refusal of a project that the caller has no part in. Source: recorded answers of the service.
    """
    sentence = f"Permission denied on resource project {project}."
    metadata = {"consumer": f"projects/{project}", "containerInfo": project, "service": "cloudtasks.googleapis.com"}
    return RpcError(
        grpc.StatusCode.PERMISSION_DENIED,
        sentence,
        (
            error_details_pb2.ErrorInfo(reason="CONSUMER_INVALID", domain="googleapis.com", metadata=metadata),
            error_details_pb2.LocalizedMessage(locale="en-US", message=sentence),
            help_link("Google developers console", "https://console.developers.google.com"),
        ),
    )


def knows_and_has(message: Any, field: str) -> bool:
    """
    Tell whether *field* is set, if the installed google-cloud-tasks knows it. Before 2.25 a client can't set it.
    """
    return field in message.DESCRIPTOR.fields_by_name and bool(message.HasField(field))


def help_link(description: str, url: str) -> error_details_pb2.Help:
    return error_details_pb2.Help(links=[error_details_pb2.Help.Link(description=description, url=url)])
