"""
Batches of tasks, each a long-running operation that has ended when its call returns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import grpc
from google.cloud import tasks_v2
from google.longrunning import operations_pb2

from gcp_emulator.clock import Clock, new_id
from gcp_emulator.faults import Faults
from gcp_emulator.rpc import Method, RpcError, Service
from gcp_emulator.tasks import checks
from gcp_emulator.tasks import messages as m

MAX_CREATED = 100
MAX_DELETED = 1000
_KEPT = 10_000


class Batches:
    """
    ``BatchCreateTasks``, ``BatchDeleteTasks`` and the operations that they return.

    A task that can't be created or deleted fails alone: the operation's metadata names it. If all fail, so does the operation;
    that is documented for deletions, and done for creations too.
    """

    def __init__(
        self,
        create: Callable[[Any], Any],
        delete: Callable[[Any], Any],
        exists: Callable[[str], object],
        clock: Clock,
    ) -> None:
        """
        Keep no operation yet.

        Args:
            create: ``CreateTask``.
            delete: ``DeleteTask``.
            exists: Raises ``RpcError`` if the queue is missing.
            clock: Times of the operations.
        """
        self._create = create
        self._delete = delete
        self._exists = exists
        self._clock = clock
        self._operations: OrderedDict[str, Any] = OrderedDict()

    def methods(self) -> dict[str, Method]:
        """
        The two RPCs; none if the installed google-cloud-tasks does not know them.
        """
        if not hasattr(tasks_v2, "BatchCreateTasksRequest"):
            return {}
        operation = operations_pb2.Operation
        return {
            "BatchCreateTasks": Method(self._create_all, tasks_v2.BatchCreateTasksRequest.pb(), operation),
            "BatchDeleteTasks": Method(self._delete_all, tasks_v2.BatchDeleteTasksRequest.pb(), operation),
        }

    def operations(self) -> Service:
        """
        ``google.longrunning.Operations``, as far as a client needs it.
        """
        get = Method(self._get, operations_pb2.GetOperationRequest, operations_pb2.Operation)
        return Service("google.longrunning.Operations", {"GetOperation": get}, Faults(), self._clock)

    def _create_all(self, request: Any) -> Any:
        self._check(request.parent, len(request.requests), MAX_CREATED, "requests")
        for one in request.requests:
            if one.parent not in ("", request.parent):
                raise checks.invalid(
                    f"The queue of each request ('{one.parent}') must be the one of the batch ('{request.parent}')."
                )
        name = self._name(request)
        if name not in self._operations:
            response = tasks_v2.BatchCreateTasksResponse.pb()()
            metadata = tasks_v2.BatchCreateTasksMetadata.pb()()

            def create(one: Any) -> None:
                asked = m.CreateTaskRequest()
                asked.CopyFrom(one)
                asked.parent = request.parent
                response.tasks.add().CopyFrom(self._create(asked))

            self._run(name, request.requests, create, metadata, response)
        return self._operations[name]

    def _delete_all(self, request: Any) -> Any:
        self._check(request.parent, len(request.names), MAX_DELETED, "names")
        for task in request.names:
            if checks.split_task_name(task)[0] != request.parent:
                raise checks.invalid(f"The task '{task}' must be in the queue of the batch ('{request.parent}').")
        name = self._name(request)
        if name not in self._operations:
            metadata = tasks_v2.BatchDeleteTasksMetadata.pb()()

            def delete(task: str) -> None:
                self._delete(m.DeleteTaskRequest(name=task))

            self._run(name, request.names, delete, metadata, m.Empty())
        return self._operations[name]

    def _check(self, parent: str, count: int, most: int, field: str) -> None:
        self._exists(checks.queue_name(parent))
        if not 0 < count <= most:
            raise checks.invalid(f"A batch has 1 to {most} {field}; this one has {count}.")

    def _name(self, request: Any) -> str:
        location = request.parent.partition("/queues/")[0]
        return f"{location}/operations/{request.request_id or new_id()}"

    def _run(self, name: str, items: Any, work: Callable[[Any], None], metadata: Any, response: Any) -> None:
        metadata.start_time.CopyFrom(m.timestamp(self._clock.micros()))
        for index, item in enumerate(items):
            try:
                work(item)
            except RpcError as error:
                metadata.failed_requests[index].CopyFrom(error.status())
        failed = len(metadata.failed_requests)
        # The two batches number their states differently.
        metadata.state = type(metadata).State.Value("PARTIALLY_SUCCEEDED" if failed else "SUCCEEDED")
        metadata.end_time.CopyFrom(m.timestamp(self._clock.micros()))
        operation = operations_pb2.Operation(name=name, done=True)
        operation.metadata.Pack(metadata)
        if failed == len(items):
            kind = metadata.DESCRIPTOR.name
            operation.error.code = grpc.StatusCode.ABORTED.value[0]
            operation.error.message = (
                f"None of the requests succeeded, refer to {kind}.failed_requests for individual error details"
            )
        else:
            operation.response.Pack(response)
        self._operations[name] = operation
        if len(self._operations) > _KEPT:
            self._operations.popitem(last=False)

    def _get(self, request: Any) -> Any:
        operation = self._operations.get(request.name)
        if operation is None:
            raise checks.missing_entity()
        return operation
