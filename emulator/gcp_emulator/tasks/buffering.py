"""
``BufferTask``: a task out of a bare body, for queues with an HTTP target of their own.

The installed client has no such call, so its messages are declared here, under a package of our own: the same bytes, and the
same JSON.

Source: the reference of ``projects.locations.queues.tasks.buffer``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.api import httpbody_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from gcp_emulator.rpc import Method
from gcp_emulator.tasks import checks, rules
from gcp_emulator.tasks import messages as m

_PACKAGE = "gcp_emulator.tasks"
_FIELD = descriptor_pb2.FieldDescriptorProto


def methods(create: Callable[[Any], Any], queue: Callable[[str], Any]) -> dict[str, Method]:
    """
    Return the RPC.

    Args:
        create: Creates a task, as ``CreateTask`` does.
        queue: Returns the queue of a name, or refuses it.
    """

    def buffer(request: Any) -> Any:
        name = checks.queue_name(request.queue)
        if not rules.names_a_host(queue(name)):
            raise checks.invalid("The queue must have an HTTP target: set Queue.http_target.uri_override with a host.")
        asked = m.CreateTaskRequest(parent=name)
        http = asked.task.http_request
        http.SetInParent()
        http.body = request.body.data
        if request.body.content_type:
            http.headers["Content-Type"] = request.body.content_type
        if request.task_id:
            asked.task.name = f"{name}/tasks/{request.task_id}"
        return Response(task=create(asked))

    return {"BufferTask": Method(buffer, Request, Response)}


def _messages() -> tuple[type[Message], type[Message]]:
    task, body = m.Task.DESCRIPTOR, httpbody_pb2.HttpBody.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.extend([task.file.name, body.file.name])
    request = file.message_type.add(name="BufferTaskRequest")
    request.field.add(name="queue", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    request.field.add(name="task_id", number=2, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    _add(request, "body", 3, body)
    _add(file.message_type.add(name="BufferTaskResponse"), "task", 1, task)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    found = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{one.name}"))
        for one in file.message_type
    ]
    return found[0], found[1]


def _add(message: Any, name: str, number: int, kind: Any) -> None:
    type_name = f".{kind.full_name}"
    message.field.add(
        name=name, number=number, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_OPTIONAL, type_name=type_name
    )


Request, Response = _messages()
