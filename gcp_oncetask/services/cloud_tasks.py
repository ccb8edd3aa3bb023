"""
Cloud Tasks: create named tasks, and look up whether one is still queued. The only importer of its client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import grpc

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, pause
from gcp_oncetask.errors import DispatchError
from gcp_oncetask.rules.statuses import FailureClass, Service, failure_class

_SERVICE: Final = "/google.cloud.tasks.v2.CloudTasks/"
_LOAD: Final = "/google.cloud.tasks.v2beta3.CloudTasks/GetQueue"
_TRIES: Final = 2
_HTTP_STATUS: Final = re.compile(r"HTTP status code (\d+)")


class Push(NamedTuple):
    """
    A task to be created.

    Attributes:
        queue: Full name of the queue.
        task_id: Deterministic id; Cloud Tasks never makes a second task of that id.
        url: URL to which the task is delivered.
        body: Body of the delivery.
        headers: Extra headers.
        at: The delivery is not before this instant; None: at once.
        deadline: Seconds that Cloud Tasks waits for the answer.
        service_account: Account whose identity token the delivery carries; None: it carries none.
        audience: Audience of that token; empty without one.
    """

    queue: str
    task_id: str
    url: str
    body: bytes
    headers: dict[str, str]
    at: datetime | None
    deadline: float
    service_account: str | None
    audience: str

    @property
    def name(self) -> str:
        """
        Full name of the task.
        """
        return f"{self.queue}/tasks/{self.task_id}"


@dataclass(frozen=True, slots=True)
class _TaskCalls:
    forks: int
    create: Any
    get: Any
    queue: Any
    load: Any


class Queued(NamedTuple):
    """
    A task that is still in its queue.

    Attributes:
        attempts: Number of deliveries so far.
        status: HTTP status of the last answer; None: there was none.
    """

    attempts: int
    status: int | None


class QueueState(NamedTuple):
    """
    The settings and the load of a queue.

    Attributes:
        state: ``running``, ``paused`` or ``disabled``.
        rate: Most dispatches in a second.
        concurrent: Most deliveries at once.
        attempts: Most attempts of a task; -1: no limit.
        depth: Number of tasks in it; None: the service does not tell.
        oldest: Estimated time at which its oldest task was to be delivered; None: the service does not tell.
    """

    state: str
    rate: float
    concurrent: int
    attempts: int
    depth: int | None
    oldest: datetime | None


class CloudTasks:
    """
    Calls to Cloud Tasks; opens its channel at first use, and a new one in a forked child.

    Args:
        client: The user's ``CloudTasksClient``, or None to make one.
        emulator: host:port of a local server, or None.
        clock: Measures the pause between two tries.
        timeout: Deadline of one call, in seconds.
    """

    def __init__(self, client: Any | None, emulator: str | None, clock: Clock, timeout: float) -> None:
        self._given = client
        self._emulator = emulator
        self._clock = clock
        self._timeout = timeout
        self._calls: _TaskCalls | None = None

    def create(self, push: Push) -> bool:
        """
        Create the task. A task of that name that exists, or existed until recently, counts as created.

        Returns:
            True if this call created it, False if it existed.

        Raises:
            DispatchError: Cloud Tasks was unreachable or refused; the sweeper tries again.
        """
        from google.cloud.tasks_v2.types import CreateTaskRequest

        request = CreateTaskRequest.pb()(parent=push.queue)
        task = request.task
        task.name = push.name
        task.dispatch_deadline.seconds = int(push.deadline)
        if push.at is not None:
            task.schedule_time.FromDatetime(push.at)
        http = task.http_request
        http.url = push.url
        http.http_method = 1  # POST
        http.body = push.body
        http.headers["Content-Type"] = "application/json"
        for key, value in push.headers.items():
            http.headers[key] = value
        if push.service_account is not None:
            http.oidc_token.service_account_email = push.service_account
            http.oidc_token.audience = push.audience
        for tried in range(1, _TRIES + 1):
            try:
                self._call("create", request, push.queue)
            except _CallError as failed:
                if failed.failure is FailureClass.MOVED:
                    return False
                if failed.failure is not FailureClass.AMBIGUOUS or tried == _TRIES:
                    raise DispatchError(_sentence(push, failed), task=push.name, **failed.facts) from failed
                pause(self._clock, 0.05 + 0.1 * self._clock.random())
            else:
                return True
        raise AssertionError("unreachable")

    def queued(self, queue: str, task_id: str) -> Queued | None:
        """
        Look up a task: return it if it is still in the queue (waiting, running, or waiting for its next try), else None.

        Raises:
            DispatchError: Cloud Tasks was unreachable or refused.
        """
        from google.cloud.tasks_v2.types import GetTaskRequest

        name = f"{queue}/tasks/{task_id}"
        try:
            found = self._call("get", GetTaskRequest.pb()(name=name), name)
        except _CallError as failed:
            if failed.code is grpc.StatusCode.NOT_FOUND:
                return None
            raise DispatchError(
                f"Cloud Tasks: looking up {name} failed with {failed.code.name}: {failed}.",
                task=name,
                **failed.facts,
            ) from failed
        said = _HTTP_STATUS.search(found.last_attempt.response_status.message)
        return Queued(found.dispatch_count, None if said is None else int(said[1]))

    def queue(self, name: str) -> QueueState:
        """
        Look up a queue by its full name. The depth needs another version of the service's interface; where that is refused
        or missing, the depth is None.

        Raises:
            DispatchError: Cloud Tasks was unreachable or refused, or there is no such queue.
        """
        from google.cloud.tasks_v2.types import GetQueueRequest

        try:
            found = self._call("queue", GetQueueRequest.pb()(name=name), name)
        except _CallError as failed:
            hint = {
                grpc.StatusCode.PERMISSION_DENIED: " Grant roles/cloudtasks.viewer on it.",
                grpc.StatusCode.NOT_FOUND: " Create it, or correct ONCETASK_QUEUE.",
            }.get(failed.code, "")
            raise DispatchError(
                f"Cloud Tasks: looking up {name} failed with {failed.code.name}: {failed}.{hint}", **failed.facts
            ) from failed
        depth, oldest = self._load(name)
        state = {1: "running", 2: "paused", 3: "disabled"}.get(found.state, "not available")
        limits = found.rate_limits
        return QueueState(
            state,
            limits.max_dispatches_per_second,
            limits.max_concurrent_dispatches,
            found.retry_config.max_attempts,
            depth,
            oldest,
        )

    def _load(self, name: str) -> tuple[int | None, datetime | None]:
        from google.cloud.tasks_v2beta3.types import GetQueueRequest

        try:
            found = self._call("load", GetQueueRequest.pb()(name=name, read_mask={"paths": ["stats"]}), name)
        except _CallError:
            return None, None
        if not found.HasField("stats"):
            return None, None
        oldest = found.stats.oldest_estimated_arrival_time
        known = found.stats.HasField("oldest_estimated_arrival_time")
        return found.stats.tasks_count, oldest.ToDatetime(UTC) if known else None

    def _call(self, method: str, request: Any, resource: str) -> Any:
        calls = self._open()
        field = "parent" if method == "create" else "name"
        metadata = (("x-goog-request-params", f"{field}={quote(resource, safe='')}"),)
        try:
            return getattr(calls, method)(request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            call: Any = error  # every error of a call is the call as well
            raise _CallError(call.code(), call.details() or "") from error

    def _open(self) -> _TaskCalls:
        calls = self._calls
        if calls is not None and calls.forks == forks.generation:
            return calls
        from google.cloud.tasks_v2.types import CreateTaskRequest, GetQueueRequest, GetTaskRequest, Queue, Task

        channel = self._channel(forked=calls is not None)
        task = Task.pb()
        create, get = CreateTaskRequest.pb(), GetTaskRequest.pb()
        calls = _TaskCalls(
            forks.generation,
            channel.unary_unary(_SERVICE + "CreateTask", create.SerializeToString, task.FromString),
            channel.unary_unary(_SERVICE + "GetTask", get.SerializeToString, task.FromString),
            channel.unary_unary(_SERVICE + "GetQueue", GetQueueRequest.pb().SerializeToString, Queue.pb().FromString),
            _unary_load(channel),
        )
        self._calls = calls
        return calls

    def _channel(self, *, forked: bool) -> Any:
        if self._given is not None and not forked:
            return self._given.transport.grpc_channel
        if self._emulator is not None:
            return grpc.insecure_channel(self._emulator)
        from google.cloud.tasks_v2 import CloudTasksClient

        made: Any = CloudTasksClient()
        return made.transport.grpc_channel


def _unary_load(channel: Any) -> Any:
    def call(request: Any, **options: Any) -> Any:
        # Its types take long to import, and only a page of queues needs them.
        from google.cloud.tasks_v2beta3.types import GetQueueRequest, Queue

        made = channel.unary_unary(_LOAD, GetQueueRequest.pb().SerializeToString, Queue.pb().FromString)
        return made(request, **options)

    return call


class _CallError(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.failure = failure_class(Service.TASKS, code.name, message)
        self.facts = {"code": code.name, "final": self.failure is FailureClass.REFUSED}


def _sentence(push: Push, failed: _CallError) -> str:
    hint = {
        grpc.StatusCode.PERMISSION_DENIED: " Grant roles/cloudtasks.enqueuer, and roles/iam.serviceAccountUser on "
        f"{push.service_account}.",
        grpc.StatusCode.UNAVAILABLE: " Is it reachable from here?",
    }.get(failed.code, "")
    if failed.code is grpc.StatusCode.NOT_FOUND and "ueue" in str(failed):
        parts = push.queue.split("/")
        hint = f" Create it: gcloud tasks queues create {parts[-1]} --location={parts[3]} --project={parts[1]} ."
    said = str(failed).rstrip(".")
    return f"Cloud Tasks: creating a task in {push.queue} failed with {failed.code.name}: {said}.{hint}"
