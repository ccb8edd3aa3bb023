"""
Log entries about the operations of a queue, by its ``stackdriver_logging_config``.

Source: the documented creation of a task and a recorded answer to an attempt. No entry of a dispatch, of a deletion, or of
an App Engine target is on record: a dispatch has the fields that an answer has before it comes, a deletion has no entry, and
the type of an App Engine target is a word of ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from gcp_emulator.clock import rng
from gcp_emulator.tasks.backlog import Entry, QueueState, rpc_code
from gcp_emulator.tasks.messages import METHODS, SECOND, Micros, TaskMessage, timestamp
from gcp_emulator.tasks.records import Ended

LOG = "cloudtasks.googleapis.com%2Ftask_operations_log"
RESOURCE = "cloud_tasks_queue"
PAYLOAD = "type.googleapis.com/google.cloud.tasks.logging.v1.TaskActivityLog"


class Journal:
    """
    Writes log entries: one of a created task, one of a dispatch, and one of its answer.
    """

    def __init__(self, write: Callable[[Any], None], seed: int) -> None:
        """
        Write nothing yet.

        Args:
            write: Takes a ``LogEntry``.
            seed: Repeats the choice of the operations that are logged.
        """
        self._write = write
        self._rng = rng(seed)
        # Counts safely in several threads, unlike a number.
        self._numbers = itertools.count(1)

    def created(self, state: QueueState, entry: Entry, now: Micros) -> None:
        """
        Tell of a task that was created.
        """
        ratio = state.queue.stackdriver_logging_config.sampling_ratio
        if self._sampled(ratio):
            told = {"scheduleTime": entry.task.schedule_time.ToJsonString(), "status": "OK", **_target(entry.task)}
            self._tell(entry.name, "taskCreationLog", told, now, "INFO")

    def dispatched(self, state: QueueState, entry: Entry, now: Micros) -> None:
        """
        Tell of an attempt that begins.
        """
        if self._sampled(state.queue.stackdriver_logging_config.sampling_ratio):
            told = {
                "dispatchCount": str(entry.task.dispatch_count),
                "maxAttempts": state.retry_config(entry).max_attempts,
                "responseCount": str(entry.task.response_count),
                "scheduleTime": entry.task.schedule_time.ToJsonString(),
                "status": "OK",
                **_target(entry.task),
            }
            self._tell(entry.name, "attemptDispatchLog", told, now, "INFO")

    def answered(self, ended: Ended) -> None:
        """
        Tell of an attempt that has ended.
        """
        record = ended.record
        if not self._sampled(ended.sampling):
            return
        status = record.status or (504 if record.timed_out else 503)
        took = record.finished - record.started
        told = {
            "attemptDuration": f"{took // SECOND}.{took % SECOND:06d}s",
            "dispatchCount": str(record.retry_count + 1),
            "maxAttempts": ended.max_attempts,
            "responseCount": str(ended.responses),
            "scheduleTime": timestamp(ended.scheduled).ToJsonString(),
            "status": "OK" if record.succeeded else rpc_code(status)[1],
            "targetAddress": f"{record.dispatch.method} {record.url}",
            "targetType": ended.target,
        }
        if ended.next_due is not None:
            told["retryTime"] = timestamp(ended.next_due).ToJsonString()
        self._tell(record.task, "attemptResponseLog", told, record.finished, "INFO" if record.succeeded else "ERROR")

    def _sampled(self, ratio: float) -> bool:
        return ratio >= 1 or (ratio > 0 and self._rng.random() < ratio)

    def _tell(self, task: str, kind: str, told: dict[str, Any], now: Micros, severity: str) -> None:
        from gcp_emulator.logging.messages import LogEntry

        _, project, _, location, _, queue, _, _ = task.split("/")
        entry = LogEntry(log_name=f"projects/{project}/logs/{LOG}", insert_id=f"{next(self._numbers):012x}")
        entry.timestamp.CopyFrom(timestamp(now))
        entry.severity = {"INFO": 200, "ERROR": 500}[severity]
        entry.resource.type = RESOURCE
        labels = {"project_id": project, "location": location, "queue_id": queue, "target_type": told["targetType"]}
        entry.resource.labels.update(labels)
        entry.json_payload.update({"@type": PAYLOAD, "task": task, kind: told})
        self._write(entry)


def target_type(task: TaskMessage) -> str:
    """
    Kind of the target of *task*.
    """
    return "APP_ENGINE" if task.HasField("app_engine_http_request") else "HTTP"


def _target(task: TaskMessage) -> dict[str, str]:
    if task.HasField("app_engine_http_request"):
        request = task.app_engine_http_request
        address = f"http://{request.app_engine_routing.host}{request.relative_uri}"
    else:
        request = task.http_request
        address = request.url
    return {"targetAddress": f"{METHODS[request.http_method]} {address}", "targetType": target_type(task)}
