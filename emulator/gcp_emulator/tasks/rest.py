"""
REST addresses of ``google.cloud.tasks``.

Source: the ``google.api.http`` options of ``google/cloud/tasks/v2/cloudtasks.proto``.
"""

from __future__ import annotations

from gcp_emulator.rest import Route

_QUEUE = "projects/*/locations/*/queues/*"
_TASK = f"{_QUEUE}/tasks/*"


def routes(version: str) -> tuple[Route, ...]:
    """
    The addresses of one *version* of the API, ``v2`` or ``v2beta3``.
    """
    start = f"/{version}"
    return (
        Route("POST", f"{start}/{{parent={_QUEUE}}}/tasks:batchCreate", "BatchCreateTasks", "*"),
        Route("POST", f"{start}/{{parent={_QUEUE}}}/tasks:batchDelete", "BatchDeleteTasks", "*"),
        Route("POST", f"{start}/{{parent=projects/*/locations/*}}/queues", "CreateQueue", "queue"),
        Route("GET", f"{start}/{{parent=projects/*/locations/*}}/queues", "ListQueues"),
        Route("POST", f"{start}/{{resource={_QUEUE}}}:getIamPolicy", "GetIamPolicy", "*"),
        Route("POST", f"{start}/{{resource={_QUEUE}}}:setIamPolicy", "SetIamPolicy", "*"),
        Route("POST", f"{start}/{{resource={_QUEUE}}}:testIamPermissions", "TestIamPermissions", "*"),
        Route("POST", f"{start}/{{name={_QUEUE}}}:pause", "PauseQueue", "*"),
        Route("POST", f"{start}/{{name={_QUEUE}}}:resume", "ResumeQueue", "*"),
        Route("POST", f"{start}/{{name={_QUEUE}}}:purge", "PurgeQueue", "*"),
        Route("PATCH", f"{start}/{{queue.name={_QUEUE}}}", "UpdateQueue", "queue"),
        Route("GET", f"{start}/{{name={_QUEUE}}}", "GetQueue"),
        Route("DELETE", f"{start}/{{name={_QUEUE}}}", "DeleteQueue"),
        Route("POST", f"{start}/{{queue={_QUEUE}}}/tasks:buffer", "BufferTask", "*"),
        Route("POST", f"{start}/{{queue={_QUEUE}}}/tasks/{{task_id}}:buffer", "BufferTask", "*"),
        Route("POST", f"{start}/{{parent={_QUEUE}}}/tasks", "CreateTask", "*"),
        Route("GET", f"{start}/{{parent={_QUEUE}}}/tasks", "ListTasks"),
        Route("POST", f"{start}/{{name={_TASK}}}:run", "RunTask", "*"),
        Route("GET", f"{start}/{{name={_TASK}}}", "GetTask"),
        Route("DELETE", f"{start}/{{name={_TASK}}}", "DeleteTask"),
    )
