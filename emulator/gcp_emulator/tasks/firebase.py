"""
The tasks of firebase-admin, as Firebase's own emulator takes them.

Source: ``firebase_admin.functions`` and ``firebase-tools``: the address has no version, the answer to a created task is
``{"task": {"name": "/projects/..."}}``, and a task without an address goes to the function that has its queue's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import struct_pb2

from gcp_emulator.faults import Faults
from gcp_emulator.rest import Route
from gcp_emulator.rpc import Method, Service
from gcp_emulator.tasks import messages as m

_QUEUE = "projects/*/locations/*/queues/*"
ROUTES = (
    Route("POST", f"/{{parent={_QUEUE}}}/tasks", "CreateTask", "*"),
    Route("DELETE", f"/{{name={_QUEUE}/tasks/*}}", "DeleteTask"),
)


def service(stable: Service, base_url: Callable[[], str]) -> Service:
    """
    Return the two RPCs of firebase-admin. Each call is one of *stable*, the service of v2.

    Args:
        stable: The service of v2.
        base_url: Address of the server with the functions, such as ``http://127.0.0.1:8080``; empty if there is none, then a
            task without an address is refused.
    """

    def create(request: Any) -> Any:
        http = request.task.http_request
        if not http.url and (base := base_url()):
            http.url = f"{base.rstrip('/')}/{request.parent.rpartition('/')[2]}"
        made = stable.call("CreateTask", request)
        answer = struct_pb2.Struct()
        answer.update({"task": {"name": f"/{made.name}"}})
        return answer

    methods = {
        "CreateTask": Method(create, m.CreateTaskRequest, struct_pb2.Struct),
        "DeleteTask": Method(lambda request: stable.call("DeleteTask", request), m.DeleteTaskRequest, m.Empty),
    }
    return Service("firebase-admin", methods, Faults(), stable.clock)
