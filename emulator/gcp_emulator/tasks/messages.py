"""
Plain protobuf classes of ``google.cloud.tasks.v2``, and instants and durations in whole microseconds.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.cloud import tasks_v2
from google.protobuf import duration_pb2, empty_pb2, timestamp_pb2

Micros: TypeAlias = int
TaskMessage: TypeAlias = Any
QueueMessage: TypeAlias = Any

Task = tasks_v2.Task.pb()
Queue = tasks_v2.Queue.pb()
RetryConfig = tasks_v2.RetryConfig.pb()
RateLimits = tasks_v2.RateLimits.pb()
CreateQueueRequest = tasks_v2.CreateQueueRequest.pb()
GetQueueRequest = tasks_v2.GetQueueRequest.pb()
ListQueuesRequest = tasks_v2.ListQueuesRequest.pb()
ListQueuesResponse = tasks_v2.ListQueuesResponse.pb()
UpdateQueueRequest = tasks_v2.UpdateQueueRequest.pb()
DeleteQueueRequest = tasks_v2.DeleteQueueRequest.pb()
PauseQueueRequest = tasks_v2.PauseQueueRequest.pb()
ResumeQueueRequest = tasks_v2.ResumeQueueRequest.pb()
PurgeQueueRequest = tasks_v2.PurgeQueueRequest.pb()
CreateTaskRequest = tasks_v2.CreateTaskRequest.pb()
GetTaskRequest = tasks_v2.GetTaskRequest.pb()
ListTasksRequest = tasks_v2.ListTasksRequest.pb()
ListTasksResponse = tasks_v2.ListTasksResponse.pb()
DeleteTaskRequest = tasks_v2.DeleteTaskRequest.pb()
RunTaskRequest = tasks_v2.RunTaskRequest.pb()
Empty = empty_pb2.Empty

RUNNING = int(tasks_v2.Queue.State.RUNNING)
PAUSED = int(tasks_v2.Queue.State.PAUSED)
BASIC = int(tasks_v2.Task.View.BASIC)
FULL = int(tasks_v2.Task.View.FULL)
METHODS = {int(method): name for name, method in tasks_v2.HttpMethod.__members__.items() if method}
POST = int(tasks_v2.HttpMethod.POST)

SECOND: Micros = 1_000_000
HOUR: Micros = 3600 * SECOND
DAY: Micros = 24 * HOUR


def timestamp(micros: Micros) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromMicroseconds(micros)
    return message


def duration(micros: Micros) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromMicroseconds(micros)
    return message
